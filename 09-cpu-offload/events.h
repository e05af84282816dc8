/*
 * Server-sent events: an answer that does not end. The browser's EventSource
 * reads it line by line, and connects again by itself when it breaks. All
 * functions belong to the loop's thread.
 */
#ifndef EVENTS_H
#define EVENTS_H

#include "http_server.h"

struct events;

/* Calls `tell` every period_ms milliseconds as long as anybody listens, to
 * write what there is to tell as one line of JSON, at most size bytes with its
 * NUL. NULL: no memory. */
struct events *events_new(struct loop *loop, int64_t period_ms,
                          void (*tell)(char *out, size_t size));
void events_free(struct events *events); /* after http_server_free() */

/* Answers the request with all events from now on. Who reads them too slowly is
 * dropped: its browser comes back, and what it has missed is out of date
 * anyway. */
void events_answer(struct events *events, struct client *client, const struct http_parser *request);

#endif
