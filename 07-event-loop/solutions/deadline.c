/*
 * deadline: await_echo, from which a client is thrown out that takes too long.
 *
 * With --deadline MS a client has to end each line within MS milliseconds after the line before
 * (the first one: after it has connected), and has to take its echo, too: until then nothing more
 * is read, no line's end either. Bytes that are no line's end gain it no time.
 */
#include "coroutine.h"

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

enum { BUFFER_SIZE = 4 * 1024 };
enum { RETRY_MS = 100 };

struct server {
    struct loop *loop;
    int listener;
    int64_t deadline_ms; /* 0: none */
    struct task *paused; /* accept_clients(), while nobody can be accepted; else NULL */
    const char *host;
    int failed; /* to start: errno */
    unsigned long long accepted, echoed;
};

struct client {
    struct server *server;
    int fd;
    struct task *task;  /* that serves it */
    struct timer timer; /* ends that when it rings */
};

/* Prints how to call the program, and ends it. NULL: for --help; else names the wrong argument. */
static _Noreturn void usage(const char *wrong)
{
    if (wrong)
        fprintf(stderr, "deadline: wrong argument '%s'; ", wrong);
    fprintf(wrong ? stderr : stdout,
            "usage: deadline [--deadline MS] [--backend NAME] [--host ADDR] [--help] [PORT], MS "
            "1..3600000 (default: none), NAME one of %s (default: the first), ADDR an IPv4 address "
            "(default 127.0.0.1), PORT 0..65535 "
            "(default 8000; 0: a free one)\n",
            loop_backends());
    exit(wrong ? 2 : 0);
}

static bool is_number(const char *text, long least, long most)
{
    return *text && !text[strspn(text, "0123456789")] && strtol(text, NULL, 10) >= least &&
           strtol(text, NULL, 10) <= most;
}

static int listen_on(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        usage(host);

    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
        /* take the port even while connections of an earlier run linger in TIME_WAIT */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, SOMAXCONN) < 0) {
        fprintf(stderr, "deadline: cannot listen on %s:%d: %s\n", host, port, strerror(errno));
        exit(1);
    }
    return fd;
}

static struct loop *make_loop(const char *backend)
{
    struct loop *loop = loop_new(backend);
    if (!loop && errno == EINVAL)
        usage(backend);
    if (!loop) {
        fprintf(stderr, "deadline: no event loop: %s\n", strerror(errno));
        exit(1);
    }
    return loop;
}

static struct wakeup stop;
static volatile sig_atomic_t stopping, running; /* running: there is a loop to be woken */

static void on_stop(struct loop *loop, void *arg)
{
    (void)arg;
    loop_stop(loop);
}

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
    if (running)
        wakeup_send(&stop); /* no race with the wait: what is sent, wakes it */
}

/* First of all: however early a signal comes, it is noted. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* sending to a client that has left fails, and that is all */
}

/* Were stdout closed, the first socket would get its number: the lowest that is free. */
static bool open_streams(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            return false;
    return true;
}

/* Asked before each line: does stdout take it, or is it a full pipe, whose reader sleeps? */
static struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};

/* Says where it listens (PORT 0: which one is it?) as soon as stdout takes that. Returns false with
 * errno set if it never will. */
static bool announce(const struct server *server)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    if (getsockname(server->listener, (struct sockaddr *)&address, &size) < 0)
        return false;
    while (!stopping && poll(&output, 1, 100) == 0)
        ;
    return stopping || dprintf(STDOUT_FILENO, "listening on %s:%d\n", server->host,
                               ntohs(address.sin_port)) > 0;
}

/* --- deadlines --- */

static void on_late(struct loop *loop, void *arg)
{
    (void)loop;
    struct client *client = arg;
    co_cancel(client->task); /* what it waits for fails, and so will all that it waits for later */
}

/* Returns false without memory for the timer. */
static bool start_clock(struct client *client)
{
    int64_t ms = client->server->deadline_ms;
    return ms == 0 || timer_start(client->server->loop, &client->timer, ms);
}

static void stop_clock(struct client *client)
{
    timer_stop(client->server->loop, &client->timer);
}

/* --- clients --- */

/* The clock runs while we read and while we write: only a line's end starts it anew. It is enough
 * that there is one among the bytes, for what follows it has come at the same time. */
static void serve_client(void *arg)
{
    struct client *client = arg;
    struct server *server = client->server;
    char buffer[BUFFER_SIZE];
    ssize_t n;
    client->task = co_current();
    client->timer = (struct timer){.callback = on_late, .arg = client};
    bool ticking = start_clock(client);
    while (ticking && (n = co_read(client->fd, buffer, sizeof buffer)) > 0) {
        if (memchr(buffer, '\n', (size_t)n))
            ticking = start_clock(client);
        if (!co_write(client->fd, buffer, (size_t)n))
            break;
        server->echoed += (size_t)n;
    }
    stop_clock(client); /* before the timer is freed with the client */
    close(client->fd);
    free(client);
    if (server->paused)
        co_wake(server->paused);
}

static void client_open(struct server *server, int fd)
{
    struct client *client = malloc(sizeof *client);
    struct task *task = NULL;
    if (client) {
        *client = (struct client){.server = server, .fd = fd};
        task = co_start(server->loop, serve_client, client);
    }
    if (!task) {
        free(client);
        close(fd);
        return;
    }
    co_detach(task);
    server->accepted++;
}

static void accept_clients(void *arg)
{
    struct server *server = arg;
    server->failed = announce(server) ? 0 : errno;
    while (!stopping && !server->failed) {
        int fd = co_accept(server->listener);
        if (fd >= 0) {
            client_open(server, fd);
        } else if (errno == ECANCELED) {
            return;
        } else { /* say, no descriptor is free: clients have to wait until somebody leaves */
            server->paused = co_current();
            co_sleep(RETRY_MS);
            server->paused = NULL;
        }
    }
}

int main(int argc, char **argv)
{
    struct server server = {0};
    const char *host = "127.0.0.1", *backend = NULL;
    int port = -1;
    catch_signals();
    if (!open_streams())
        return 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            usage(NULL);
        else if (strcmp(argv[i], "--deadline") == 0 && i + 1 < argc &&
                 is_number(argv[i + 1], 1, 3600000))
            server.deadline_ms = strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--backend") == 0 && i + 1 < argc)
            backend = argv[++i];
        else if (strcmp(argv[i], "--host") == 0 && i + 1 < argc)
            host = argv[++i];
        else if (is_number(argv[i], 0, 65535) && port < 0)
            port = (int)strtol(argv[i], NULL, 10);
        else
            usage(argv[i]);
    }
    server.loop = make_loop(backend);
    stop.callback = on_stop;
    wakeup_add(server.loop, &stop);
    running = 1;
    server.host = host;
    server.listener = listen_on(host, port < 0 ? 8000 : port);
    if (co_run(server.loop, accept_clients, &server) < 0)
        server.failed = errno;
    if (server.failed) {
        fprintf(stderr, "deadline: cannot start: %s\n", strerror(server.failed));
        return 1;
    }

    running = 0; /* from here on there is no loop to be woken */
    wakeup_remove(&stop);
    loop_free(server.loop);
    close(server.listener);
    if (poll(&output, 1, 0) > 0) /* a reader that sleeps cannot keep us here */
        dprintf(STDOUT_FILENO, "served %llu clients, %llu bytes\n", server.accepted, server.echoed);
    return 0;
}
