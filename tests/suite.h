/* What the suites share: which program is tested, and a running server for each test. */
#ifndef SUITE_H
#define SUITE_H

#include "harness.h"
#include <check.h>

struct subject {
    int chapter;        /* 1 for 01-blocking, ... */
    const char *server; /* path of the server's program */
    const char *args;   /* its options, for instance --edge; never NULL */
    const char *client; /* path of the chapter's client; NULL if it has none */
    const char *slow_peer;
    bool sanitized; /* memory is then not what the program itself uses */
};
extern struct subject subject;

/* The server that start_server(), a fixture, started; stop_server() wants it to end with exit
 * status 0, which a sanitizer's report or a leak would spoil. */
extern struct process server;
void start_server(void);
void stop_server(void);

/* client_connect() to that server, which must succeed. */
int connect_client(void);

/* length bytes of a fixed pattern with all 256 values, the same for every call. Never freed. */
const char *pattern(size_t length);

/* Sends without receiving until nothing more fits anywhere on the way for half a second, or all
 * has been sent. Returns how much that was. */
size_t send_until_stuck(int fd, const char *bytes, size_t length);

Suite *command_line_suite(void);
Suite *echo_suite(void);
Suite *lesson_suite(void);
Suite *client_suite(void);

#endif
