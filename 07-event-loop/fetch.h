/*
 * An HTTP client on the loop: what `async with client.get(url)` inside `wait_for(..., timeout)` is
 * in Python. All of it belongs to the loop's thread.
 */
#ifndef FETCH_H
#define FETCH_H

#include "http.h"
#include "loop.h"
#include <netinet/in.h>

enum { FETCH_BODY_MAX = 64 * 1024 }; /* bytes of a response's body; of more, these are kept */

struct fetch;

/* Called once, when the fetch is over, unless it was cancelled. status 0: response is what came,
 * and lasts until done returns. Otherwise it is the status that a gateway answers with: 502 if the
 * other side could not be reached, hung up or sent nonsense, 504 if it took too long, 500 without
 * memory; why says which. */
typedef void fetch_done(void *arg, int status, const char *why, const struct http_parser *response);

/* Starts to get path (with its query, percent-encoded: it goes out as it is) from the address. All
 * of it, from connecting to the last byte, has timeout_ms milliseconds. Returns NULL with errno set
 * if not even that could be started: done is then never called. */
struct fetch *fetch_start(struct loop *loop, const struct sockaddr_in *address, const char *path,
                          int64_t timeout_ms, fetch_done *done, void *arg);

/* Gives up: closes the connection. done is not called any more. */
void fetch_cancel(struct fetch *fetch);

#endif
