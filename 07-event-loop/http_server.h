/*
 * An HTTP server on the loop: it accepts clients, reads their requests, and passes each to a
 * handler, which answers now or later. All functions belong to the loop's thread.
 *
 * Answers go out in the order of the requests: a client's next request is passed on when the one
 * before it has been answered. What a client costs is bounded: while it does not take its answers
 * no more of its requests are read.
 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include "http.h"
#include "loop.h"

struct http_server;
struct client; /* one connection */

/* Called for each request, which lasts until the handler returns. It either answers with one of the
 * functions below or calls client_wait() and sees to it that one of them is called later. */
typedef void http_handler(struct client *client, const struct http_parser *request);

/* Serves those who connect to listener, a non-blocking listening socket, which belongs to the
 * server from then on. Returns NULL with errno set on failure; the listener is then closed. */
struct http_server *http_server_new(struct loop *loop, int listener, http_handler *handler);

/* Closes the listener and all clients, and tells whoever waits that they are gone. */
void http_server_free(struct http_server *server);

/* How many clients are connected now, and how many requests have been answered so far. */
struct http_counts {
    unsigned long long clients, requests;
};
struct http_counts http_server_counts(const struct http_server *server);

/* The answer to the client's request. */
struct answer {
    int status;
    const char *headers; /* further header lines, each with its CRLF; NULL: none */
    const char *type;    /* of the body; NULL: application/json */
    const char *body;    /* copied; not sent in answer to HEAD */
    size_t length;       /* of the body, in bytes */
};
void client_answer(struct client *client, const struct answer *answer);

/* The same with a body made like printf()'s, as JSON, at most 1 KiB of it. */
void client_answer_json(struct client *client, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with {"error": what}. what needs no escapes. headers may be NULL. */
void client_answer_error(struct client *client, int status, const char *headers, const char *what);

/* The request will be answered later. Should the client be lost before that, gone(arg) is called
 * instead, and the client must not be used any more. (A client that only half-closes is not lost:
 * it waits for its answer.) */
void client_wait(struct client *client, void (*gone)(void *arg), void *arg);

struct loop *client_loop(const struct client *client);

#endif
