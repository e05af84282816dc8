/*
 * An HTTP/1.1 client for tests: a blocking connection that takes nothing on trust. Every answer is
 * held against RFC 9112 and RFC 9110, and against what all our servers promise: Content-Length,
 * Content-Type and Date in every answer, valid JSON where JSON is announced. Built on the harness,
 * and like it free of any test framework, for one thread, and never waiting for ever.
 */
#ifndef HTTP_CLIENT_H
#define HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

struct http_client {
    int fd; /* -1: could not connect */

    /* The last answer. Strings last until the next one is received. */
    int status;
    char *head;         /* status line and header section */
    char *body;         /* NUL-terminated, and without any NUL of its own if it is JSON */
    size_t body_length; /* bytes */
    bool closes;        /* it said "Connection: close" */
    char problem[128];  /* why the last call returned -1 */

    /* its own: received, and part of a later answer */
    char *bytes;
    size_t length;
};

/* The caller calls http_close(), which also frees what the last answer took. */
struct http_client http_connect(int port);
void http_close(struct http_client *client);

/* Sends text as it is. False if the connection does not take it. */
bool http_send(struct http_client *client, const char *text);

/* Receives the next answer, or the interim answer 100. Returns its status; 0 if the connection ends
 * here in order; -1 if there is none, or a wrong one: client->problem then says why. */
int http_receive(struct http_client *client);

/* The same for the answer to a HEAD request, which announces a body that does not come. */
int http_receive_head(struct http_client *client);

/* Sends "GET target" and leaves the answer for later. Returns as http_send() does. */
bool http_ask(struct http_client *client, const char *target);

/* Sends "GET target" and receives the answer. Returns as http_receive() does. */
int http_get(struct http_client *client, const char *target);

/* True if the connection has ended in order, with nothing more to be read. */
bool http_at_end(struct http_client *client);

/* True if the connection does what the last answer said: it ends if that had "Connection: close",
 * or else it serves on. In either case nothing is left behind that answer. */
bool http_keeps_its_word(struct http_client *client);

/* The value of that field (any case) in the last answer, or NULL. Lasts until the next call. */
const char *http_field(const struct http_client *client, const char *name);

/* True if that is the last answer's body; a newline behind it does not count. */
bool http_body_is(const struct http_client *client, const char *text);

/* What the last call came to, for messages: the problem, or the answer itself. */
const char *http_describe(const struct http_client *client);

/* --- JSON, as far as these servers speak it --- */

/* True if text is one JSON value (RFC 8259) and nothing else. */
bool json_valid(const char *text);

/* The number that follows "name": in text; -1 if none does. */
double json_number(const char *text, const char *name);

/* The string that follows "name": in text, decoded; NULL if none does. The caller frees it. *length
 * becomes its length in bytes, as it may contain NULs. */
char *json_string(const char *text, const char *name, size_t *length);

#endif
