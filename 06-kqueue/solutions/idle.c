/*
 * 06-kqueue/idle, worked: a client that has been silent for --idle MS is closed, by a timer of its
 * own (EVFILT_TIMER). Silent is who moves no bytes, in neither direction: who still takes what it
 * is owed is not.
 *
 * The program itself looks at no clock, and computes no time-out.
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
#include <sys/event.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_SIZE = 64 * 1024 };
enum { MAX_DESCRIPTORS = 1 << 20 }; /* Linux's default ceiling (fs.nr_open) */
enum { RETRY_MS = 100 };
enum { LONGEST_IDLE_MS = 3600 * 1000 };
enum { MAX_EVENTS = 256 }; /* taken from one wait */

/* All zero while the descriptor belongs to nobody. */
struct client {
    bool open;
    char *owed;          /* received and not sent back yet; NULL while there is nothing */
    size_t length, sent; /* how many bytes that is, and how many of them have gone out so far */
};

struct server {
    int listener;
    struct client clients[MAX_DESCRIPTORS]; /* by descriptor: the kernel gives the lowest free */
    int watcher;                            /* the kernel's list of whom to watch */
    int idle_ms;                            /* close who is silent for so long; 0: nobody */
    bool paused; /* no descriptor was free: the listener is not watched */
    unsigned long long accepted, echoed, received;
};

static bool stopping;

static void catch_signals(void)
{
    signal(SIGINT, SIG_IGN); /* the queue sees them all the same */
    signal(SIGTERM, SIG_IGN);
    signal(SIGPIPE, SIG_IGN); /* sending to a client that has left fails, and that is all */
}

/* Prints how to call the program, and ends it. NULL: for --help; else names the wrong argument. */
static _Noreturn void usage(const char *wrong)
{
    if (wrong)
        fprintf(stderr, "server: wrong argument '%s'; ", wrong);
    fputs("usage: server [--idle MS] [--host ADDR] [--help] [PORT], "
          "MS 1..3600000 milliseconds of silence until a client is closed (default: never), "
          "ADDR an IPv4 address (default 127.0.0.1), PORT 0..65535 (default 8000; 0: a free one)\n",
          wrong ? stderr : stdout);
    exit(wrong ? 2 : 0);
}

static _Noreturn void fail(const char *call)
{
    fprintf(stderr, "server: %s: %s\n", call, strerror(errno));
    exit(1);
}

static bool is_port(const char *text)
{
    return *text && !text[strspn(text, "0123456789")] && strtol(text, NULL, 10) <= 65535;
}

static int milliseconds(const char *text)
{
    bool is_number = *text && !text[strspn(text, "0123456789")];
    long ms = is_number ? strtol(text, NULL, 10) : 0;
    if (ms < 1 || ms > LONGEST_IDLE_MS)
        usage(text);
    return (int)ms;
}

static int listen_on(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof address;
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        usage(host);

    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
        /* take the port even while connections of an earlier run linger in TIME_WAIT */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0) { /* PORT 0: which one is it? */
        fprintf(stderr, "server: cannot listen on %s:%d: %s\n", host, port, strerror(errno));
        exit(1);
    }
    printf("listening on %s:%d\n", host, ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

/* The filter says what number is: a descriptor or a signal. */
static bool watch(struct server *server, int number, short filter, bool on)
{
    struct kevent change;
    unsigned flags = EV_ADD | (on ? EV_ENABLE : EV_DISABLE);
    EV_SET(&change, (uintptr_t)number, filter, (unsigned short)flags, 0, 0, NULL);
    return kevent(server->watcher, &change, 1, NULL, 0, NULL) == 0;
}

/* Starts the client's timer, anew if it runs already: EV_ADD changes what is there. The number is
 * the descriptor again, which is no clash with its other filters: number and filter are the key.
 * If there is no timer to be had (on Linux, each is a descriptor), it is served without for now. */
static void timer_start(struct server *server, int fd)
{
    struct kevent change;
    EV_SET(&change, (uintptr_t)fd, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, server->idle_ms, NULL);
    if (server->idle_ms > 0)
        kevent(server->watcher, &change, 1, NULL, 0, NULL);
}

/* close() takes a descriptor's filters away, but to the kernel this number is not a descriptor. The
 * timer would go on, and then tell of whoever has that descriptor. ENOENT: it has run out. */
static void timer_stop(struct server *server, int fd)
{
    struct kevent change;
    EV_SET(&change, (uintptr_t)fd, EVFILT_TIMER, EV_DELETE, 0, 0, NULL);
    if (server->idle_ms > 0)
        kevent(server->watcher, &change, 1, NULL, 0, NULL);
}

static void client_open(struct server *server, int fd)
{
    if (fd >= MAX_DESCRIPTORS || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
        !watch(server, fd, EVFILT_READ, true)) {
        close(fd);
        return;
    }
    server->clients[fd].open = true;
    server->accepted++;
    timer_start(server, fd);
}

static void client_close(struct server *server, int fd)
{
    free(server->clients[fd].owed);
    server->clients[fd] = (struct client){0};
    timer_stop(server, fd);
    close(fd);
}

/* Sends back what is owed, or as much of it as the socket takes now. */
static void client_writable(struct server *server, int fd)
{
    struct client *client = &server->clients[fd];
    while (client->sent < client->length) {
        /* send() may take less than it is given: what counts is what it returns */
        ssize_t n = send(fd, client->owed + client->sent, client->length - client->sent, 0);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR)
                client_close(server, fd); /* it left without waiting for its bytes */
            return;
        }
        client->sent += (size_t)n;
        server->echoed += (size_t)n;
    }
    free(client->owed);
    client->owed = NULL;
}

static void client_readable(struct server *server, int fd)
{
    char *bytes = malloc(BUFFER_SIZE);
    ssize_t got = bytes ? recv(fd, bytes, BUFFER_SIZE, 0) : -1; /* no memory: errno is ENOMEM */
    if (got > 0) {
        server->received += (size_t)got;
        server->clients[fd] = (struct client){.open = true, .owed = bytes, .length = (size_t)got};
        client_writable(server, fd); /* there is nearly always room: no need to ask first */
        return;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR))
        client_close(server, fd); /* 0: end of file, and nothing is owed; -1: it is lost */
    free(bytes);
}

/* A client that is owed bytes is not read until they are gone. So it costs one buffer at most,
 * however much it sends; and when its end of file is read, all before it has been sent back.
 * Returns whether it moved any bytes, and is still there. */
static bool client_ready(struct server *server, int fd)
{
    unsigned long long before = server->echoed + server->received;
    struct client *client = &server->clients[fd];
    bool was_owed = client->owed;
    if (was_owed)
        client_writable(server, fd);
    else
        client_readable(server, fd);
    if (client->open && was_owed != (client->owed != NULL) &&
        !(watch(server, fd, EVFILT_READ, !client->owed) &&
          watch(server, fd, EVFILT_WRITE, client->owed)))
        client_close(server, fd);
    bool moved = client->open && server->echoed + server->received > before;
    if (moved)
        timer_start(server, fd);
    return moved;
}

/* If its bytes have come at the same time, it is not silent. */
static void client_timed_out(struct server *server, int fd)
{
    if (!client_ready(server, fd) && server->clients[fd].open)
        client_close(server, fd);
}

static void accept_clients(struct server *server)
{
    bool was_paused = server->paused;
    for (;;) {
        int fd = accept(server->listener, NULL, NULL);
        /* No descriptor is free? Clients in the kernel's queue keep the listener ready, so every
         * wait would end at once. Stop watching it, and try again after RETRY_MS. */
        server->paused =
            fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM);
        if (fd >= 0)
            client_open(server, fd);
        else if (errno == EAGAIN || server->paused)
            break;
        /* any other error: this client left before we got to it; on to the next */
    }
    if (server->paused != was_paused &&
        !watch(server, server->listener, EVFILT_READ, !server->paused))
        fail("listener");
}

static void serve(struct server *server)
{
    if (!watch(server, server->listener, EVFILT_READ, true))
        fail("watcher");
    while (!stopping) {
        struct kevent events[MAX_EVENTS];
        int ready = kevent(server->watcher, NULL, 0, events, MAX_EVENTS,
                           server->paused ? &(struct timespec){0, RETRY_MS * 1000000L} : NULL);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready < 0)
            fail("kevent");
        bool knocking = server->paused;
        /* Timers first: nobody has been closed since they were fetched, and none started anew. */
        for (int i = 0; i < ready; i++)
            if (events[i].filter == EVFILT_TIMER)
                client_timed_out(server, (int)events[i].ident);
        for (int i = 0; i < ready; i++)
            if (events[i].filter == EVFILT_SIGNAL)
                stopping = true;
            else if (events[i].filter == EVFILT_TIMER)
                continue;
            else if ((int)events[i].ident == server->listener)
                knocking = true;
            else if (server->clients[events[i].ident].open) /* a timer may have closed it */
                client_ready(server, (int)events[i].ident);
        if (knocking) /* last: an event above is never about a client who came after it */
            accept_clients(server);
    }
}

int main(int argc, char **argv)
{
    static struct server server; /* large, but a page of it takes memory only once it is touched */
    const char *host = "127.0.0.1";
    int port = -1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            usage(NULL);
        else if (strcmp(argv[i], "--idle") == 0 && i + 1 < argc)
            server.idle_ms = milliseconds(argv[++i]);
        else if (strcmp(argv[i], "--host") == 0 && i + 1 < argc)
            host = argv[++i];
        else if (is_port(argv[i]) && port < 0)
            port = (int)strtol(argv[i], NULL, 10);
        else
            usage(argv[i]);
    }
    catch_signals();
    server.watcher = kqueue();
    if (server.watcher < 0 || !watch(&server, SIGINT, EVFILT_SIGNAL, true) ||
        !watch(&server, SIGTERM, EVFILT_SIGNAL, true))
        fail("kqueue");
    server.listener = listen_on(host, port < 0 ? 8000 : port);
    serve(&server);

    for (int fd = 0; fd < MAX_DESCRIPTORS; fd++)
        if (server.clients[fd].open)
            client_close(&server, fd);
    close(server.watcher);
    close(server.listener);
    printf("served %llu clients, %llu bytes\n", server.accepted, server.echoed);
    return 0;
}
