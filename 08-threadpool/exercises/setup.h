/*
 * What the exercises' HTTP servers have in common, and what none of them is about: the command
 * line, the listening socket, signals, numbers in a query. Only a main() and what it needs are left
 * to an exercise. It is all taken from the chapter's server.c.
 */
#ifndef SETUP_H
#define SETUP_H

#include "http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* An option with a number: its name, where the number goes, and what it may be. */
struct number {
    const char *name;
    int *value;
    long least, most;
};

static const char *setup_host = "127.0.0.1", *setup_backend;
static int setup_port = 8000;
static struct wakeup setup_stop;
static volatile sig_atomic_t setup_stopping, setup_running; /* running: there is a loop to wake */

/* Prints how to call the program, and ends it. NULL: for --help; else names the wrong argument. */
static _Noreturn inline void setup_usage(const char *wrong, const struct number numbers[],
                                         int count)
{
    FILE *out = wrong ? stderr : stdout;
    if (wrong)
        fprintf(out, "server: wrong argument '%s'; ", wrong);
    fprintf(out, "usage: server ");
    for (int i = 0; i < count; i++)
        fprintf(out, "[%s %ld..%ld] ", numbers[i].name, numbers[i].least, numbers[i].most);
    fprintf(out, "[--backend NAME] [--host ADDR] [--help] [PORT], NAME one of %s, PORT 0..65535\n",
            loop_backends());
    exit(wrong ? 2 : 0);
}

static inline bool setup_is_number(const char *text, long least, long most)
{
    return *text && !text[strspn(text, "0123456789")] && strtol(text, NULL, 10) >= least &&
           strtol(text, NULL, 10) <= most;
}

static inline void setup_on_stop(struct loop *loop, void *arg)
{
    (void)arg;
    loop_stop(loop);
}

static inline void setup_on_signal(int number)
{
    (void)number;
    setup_stopping = 1;
    if (setup_running)
        wakeup_send(&setup_stop);
}

/* First of all: however early a signal comes, it is noted; and no socket gets the number of a
 * closed stdout. */
static inline void setup_process(void)
{
    struct sigaction action = {.sa_handler = setup_on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* sending to a client that has left fails, and that is all */
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            exit(1);
}

/* To be called first. Reads the command line; ends the program if it is wrong. */
static inline void setup_arguments(int argc, char **argv, const struct number numbers[], int count)
{
    bool port_given = false;
    setup_process();
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (strcmp(name, "--help") == 0)
            setup_usage(NULL, numbers, count);
        if (!port_given && setup_is_number(name, 0, 65535)) {
            setup_port = (int)strtol(name, NULL, 10);
            port_given = true;
            continue;
        }
        if (++i == argc)
            setup_usage(name, numbers, count);
        int which = 0;
        while (which < count && strcmp(name, numbers[which].name) != 0)
            which++;
        if (which < count && setup_is_number(argv[i], numbers[which].least, numbers[which].most))
            *numbers[which].value = (int)strtol(argv[i], NULL, 10);
        else if (strcmp(name, "--backend") == 0)
            setup_backend = argv[i];
        else if (strcmp(name, "--host") == 0)
            setup_host = argv[i];
        else
            setup_usage(name, numbers, count);
    }
}

/* Returns a loop that SIGINT and SIGTERM stop. */
static inline struct loop *setup_loop(void)
{
    struct loop *loop = loop_new(setup_backend);
    if (!loop) {
        fprintf(stderr, "server: no event loop: %s\n", strerror(errno));
        exit(1);
    }
    setup_stop = (struct wakeup){.callback = setup_on_stop};
    wakeup_add(loop, &setup_stop);
    setup_running = 1;
    return loop;
}

static inline int setup_listener(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)setup_port)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || inet_pton(AF_INET, setup_host, &address.sin_addr) != 1 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, SOMAXCONN) < 0) {
        fprintf(stderr, "server: cannot listen on %s:%d: %s\n", setup_host, setup_port,
                strerror(errno));
        exit(1);
    }
    return fd;
}

/* Asked before each line: does stdout take it, or is it a full pipe, whose reader sleeps? */
static struct pollfd setup_output = {.fd = STDOUT_FILENO, .events = POLLOUT};

static inline bool setup_announce(int listener)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    if (getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        return false;
    while (!setup_stopping && poll(&setup_output, 1, 100) == 0)
        ;
    return setup_stopping ||
           dprintf(STDOUT_FILENO, "listening on %s:%d\n", setup_host, ntohs(address.sin_port)) > 0;
}

/* Serves HTTP until a signal ends it, closes all clients (whoever waits is told: waiter.gone) and
 * prints the totals. Pools are freed by the caller after that, then the loop. */
static inline void setup_serve(struct loop *loop, http_handler *handler)
{
    int listener = setup_listener();
    struct http_server *http = http_server_new(loop, listener, handler);
    if (!http || !setup_announce(listener)) {
        fprintf(stderr, "server: cannot start: %s\n", strerror(errno));
        exit(1);
    }
    if (!setup_stopping)
        loop_run(loop);
    setup_running = 0; /* from here on there is no loop to be woken */
    if (poll(&setup_output, 1, 0) > 0)
        dprintf(STDOUT_FILENO, "served %llu requests\n", http_server_counts(http).requests);
    http_server_free(http);
}

/* Reads the number that the query names, standard if it names none. Returns false, having answered
 * 400, if it is none from least to most; with a standard below least, it has to be there. */
static inline bool setup_number(struct client *client, const struct http_parser *request,
                                const char *name, long long least, long long most,
                                long long standard, long long *number)
{
    char what[128], *text = http_query(request->query, name);
    *number = standard;
    if (text) {
        bool digits = *text && strlen(text) <= 12 && !text[strspn(text, "0123456789")];
        *number = digits ? strtoll(text, NULL, 10) : least - 1;
    } else if (errno) {
        *number = least - 1;
    }
    free(text);
    if (*number >= least && *number <= most)
        return true;
    snprintf(what, sizeof what, "%s has to be a number from %lld to %lld", name, least, most);
    client_answer_error(client, 400, NULL, what);
    return false;
}

#endif
