/*
 * An HTTP server on the loop: it accepts clients, reads their requests, and passes each to a
 * handler, which answers now or later. All functions belong to the loop's thread. The program has
 * to ignore SIGPIPE, which sending to a client that has left would raise.
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

/* A client may be lost at any moment, also within a call of one of the functions below. It may be
 * used all the same until the handler or callback returns: they do nothing then, and whoever waits
 * is told (see struct waiter).
 *
 * Called for each request, which lasts until the handler returns. It either answers with one of the
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
    long long length;    /* of the body, in bytes */
};
void client_answer(struct client *client, const struct answer *answer);

/* The same with a body made like printf()'s, as JSON, at most 1 KiB of it. */
void client_answer_json(struct client *client, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with {"error": what}. what needs no escapes. headers may be NULL. */
void client_answer_error(struct client *client, int status, const char *headers, const char *what);

/* Further header lines, each with its CRLF, for whatever answer this request gets. Not copied: they
 * have to last until it is answered. */
void client_set_headers(struct client *client, const char *lines);

/* What happens while a handler has not finished its answer. Each is called with what was passed to
 * client_wait(); all but gone may be NULL. */
struct waiter {
    /* The client is lost, and must not be used any more. Called once, when the round in which that
     * happened is over, unless the answer was finished meanwhile. */
    void (*gone)(void *arg);
    /* The client has closed its side. That may be all that it will ever do, or it may still wait
     * for its answer, nobody can tell. True: the request gives up its place; the client is told so
     * (503 with Retry-After), and gone is not called. NULL or false: it gets its answer. */
    bool (*ended)(void *arg);
    /* What was owed to the client has gone out: time for more. */
    void (*drained)(void *arg);
};

/* The request will be answered later: until then one of these may be called. */
void client_wait(struct client *client, const struct waiter *waiter, void *arg);

/* For an answer that comes bit by bit: first its head (answer->body is ignored; length -1: nobody
 * knows, the connection's end is its end), then as many writes as it takes, then the end. Waits for
 * nothing: what the client does not take is kept, all of it. So have `drained` ask for the next
 * bit, or look at client_owed(). */
void client_begin(struct client *client, const struct answer *answer);
void client_write(struct client *client, const void *bytes, size_t length);
void client_end(struct client *client);

/* How many bytes the client has not taken yet. */
size_t client_owed(const struct client *client);

/* Closes the connection in the middle of its answer; gone is not called. */
void client_drop(struct client *client);

struct loop *client_loop(const struct client *client);

#endif
