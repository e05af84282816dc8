/* What the suites share: which program is tested, and a running server for each test. */
#ifndef SUITE_H
#define SUITE_H

#include "harness.h"
#include "http_client.h"
#include <check.h>

enum { FIRST_HTTP_CHAPTER = 7 }; /* those before are echo servers */

/* How many entries an array has, as Check's loop tests want it. */
#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* A string literal that may contain NULs, and its length. */
#define BYTES(text) (text), sizeof(text) - 1

struct subject {
    int chapter;        /* 1 for 01-blocking, ... */
    const char *server; /* path of the server's program */
    const char *args;   /* its options, for instance --edge; never NULL */
    const char *client; /* path of the chapter's client; NULL if it has none */
    const char *slow_peer;
    const char *racing; /* the program built with ThreadSanitizer, or NULL: for exercises */
    bool sanitized;     /* memory is then not what the program itself uses */
};
extern struct subject subject;

/* The server that start_server(), a fixture, started; stop_server() wants it to end with exit
 * status 0, which a sanitizer's report or a leak would spoil. */
extern struct process server;
void start_server(void);
void stop_server(void);

/* start_server() with further options; max_descriptors as in process_start(). */
void start_server_with(const char *options, int max_descriptors);

/* client_connect() to that server, which must succeed. */
int connect_client(void);

/* The client asks the server for something that it answers at once: the echo of a byte, from 07 on
 * GET /health. And receives the right answer. False if the connection does not do that. */
bool client_asks(int fd);
bool client_is_answered(int fd);
bool is_served(int fd); /* both */

/* How many lines the file has, which must be there. */
int lines_of_file(const char *path);

/* True once the server has that many descriptors open. Waits for it. */
bool descriptors_become(int count);

/* length bytes of a fixed pattern with all 256 values, the same for every call. Never freed. */
const char *pattern(size_t length);

/* Sends without receiving until nothing more fits anywhere on the way for half a second, or all
 * has been sent. Returns how much that was. */
size_t send_until_stuck(int fd, const char *bytes, size_t length);

/* http_connect() to that server, which must succeed. And with "GET target" sent to it. */
struct http_client connect_http(void);
struct http_client connect_asking(const char *target);

/* Fails the test unless an answer's status (what http_receive() returned) is the wanted one. */
#define assert_status(client, status, wanted) \
    ck_assert_msg((status) == (wanted), "not %d, but: %s", (wanted), http_describe(client))

/* "GET target" count times in a row, as a client sends it that does not wait for answers. The
 * caller frees it. */
char *http_pipeline(const char *target, size_t count);

Suite *every_server_suite(void);
Suite *start_end_suite(void);
Suite *echo_suite(void);
Suite *http_syntax_suite(void);
Suite *http_suite(void);
Suite *event_loop_suite(void);
Suite *fetch_suite(void);
Suite *pool_server_suite(void);
Suite *offload_server_suite(void);
Suite *matrix_suite(void);
Suite *lesson_suite(void);
Suite *client_suite(void);

#endif
