/*
 * 01: one client at a time.
 *
 * accept(), recv() and send() block: each stops the program until it has something to return. That
 * makes the simplest server there is: take a client, echo until it ends, take the next.
 *
 * Still wrong: while it waits for one client, it does nothing for any other.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { BUFFER_SIZE = 64 * 1024 };

struct server {
    const char *host;
    int port, listener;
    unsigned long long accepted, echoed;
};

static volatile sig_atomic_t stopping;

/* Only notes the signal: little else is safe in a handler, see signal-safety(7). */
static void on_signal(int number)
{
    (void)number;
    stopping = 1;
    /* A signal that comes between the loop's look at `stopping` and its wait would not end that
     * wait. So ring again every 100 ms, until the program has ended: SIGALRM lands here, too.
     * (That list has alarm(), not setitimer(); but both are bare system calls.) */
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_usec = 100000}, NULL);
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: a signal ends a wait */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* sending to a client that has left fails, and that is all */
}

/* Prints how to call the program, and ends it. NULL: for --help; else names the wrong argument. */
static _Noreturn void usage(const char *wrong)
{
    if (wrong)
        fprintf(stderr, "server: wrong argument '%s'; ", wrong);
    fputs("usage: server [--host ADDR] [--help] [PORT], "
          "ADDR an IPv4 address (default 127.0.0.1), PORT 0..65535 (default 8000; 0: a free one)\n",
          wrong ? stderr : stdout);
    exit(wrong ? 2 : 0);
}

/* Ends a start that has failed: says at which call, and why. */
static _Noreturn void fail(const struct server *server, const char *call)
{
    fprintf(stderr, "server: %s:%d: %s: %s\n", server->host, server->port, call, strerror(errno));
    exit(1);
}

static bool is_port(const char *text)
{
    return *text && !text[strspn(text, "0123456789")] && strtol(text, NULL, 10) <= 65535;
}

static void listen_on(struct server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server->port)};
    socklen_t size = sizeof address;
    if (inet_pton(AF_INET, server->host, &address.sin_addr) != 1)
        usage(server->host);

    int on = 1, fd = server->listener = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 ||
        /* take the port even while connections of an earlier run linger in TIME_WAIT */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        fail(server, "listen");
    server->port = ntohs(address.sin_port); /* PORT 0: which one is it? */
}

/* Sends all of it, however many calls that takes. Returns false when the client is lost. */
static bool send_all(struct server *server, int fd, const char *bytes, size_t length)
{
    size_t sent = 0;
    while (sent < length) {
        /* a signal may end even a blocking send() early: what counts is what it returns */
        ssize_t n = send(fd, bytes + sent, length - sent, 0);
        if (n < 0) {
            if (errno == EINTR && !stopping)
                continue;
            return false; /* it left without waiting for its bytes, or we are leaving */
        }
        sent += (size_t)n;
        server->echoed += (size_t)n;
    }
    return true;
}

/* Echoes until the client's end of file. By then, all it sent has been sent back, so a client
 * that only half-closes, shutdown(SHUT_WR), still gets all its bytes. */
static void serve_client(struct server *server, int fd)
{
    char buffer[BUFFER_SIZE];
    while (!stopping) {
        ssize_t got = recv(fd, buffer, sizeof buffer, 0); /* waits until something comes */
        if (got < 0 && errno == EINTR)
            continue; /* a signal: see whether we are to stop */
        if (got <= 0 || !send_all(server, fd, buffer, (size_t)got))
            return; /* 0: end of file, and nothing is owed; -1: it is lost */
    }
}

static void serve(struct server *server)
{
    if (dprintf(STDOUT_FILENO, "listening on %s:%d\n", server->host, server->port) < 0 && !stopping)
        fail(server, "stdout");
    while (!stopping) {
        int fd = accept(server->listener, NULL, NULL); /* waits until somebody connects */
        if (fd >= 0) {
            server->accepted++;
            serve_client(server, fd);
            close(fd);
        } else if (!stopping)
            sleep(1); /* no descriptor is free? then accept() fails at once, and waits for none */
    }
}

int main(int argc, char **argv)
{
    struct server server = {0};
    const char *port = NULL;
    server.host = "127.0.0.1";
    catch_signals(); /* first of all: however early a signal comes, it is not lost */
    /* Is stdin, stdout or stderr closed? A client would get its number, and our lines. */
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            return 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            usage(NULL);
        else if (strcmp(argv[i], "--host") == 0 && i + 1 < argc)
            server.host = argv[++i];
        else if (is_port(argv[i]) && !port)
            port = argv[i];
        else
            usage(argv[i]);
    }
    server.port = port ? (int)strtol(port, NULL, 10) : 8000;
    listen_on(&server);
    serve(&server);

    close(server.listener);
    dprintf(STDOUT_FILENO, "served %llu clients, %llu bytes\n", server.accepted, server.echoed);
    return 0;
}
