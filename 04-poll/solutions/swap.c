/*
 * Exercise 04-poll/swap, one answer: an array without holes. Entry 0 is the listener's, entries 1
 * to n are the n clients', in any order; the last one moves into the gap that a client leaves. Both
 * coming and leaving take the same few steps however many clients there are.
 *
 * What must hold at any time: watched[clients[fd].place].fd == fd for each client. Whoever moves an
 * entry has to tell its client.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_SIZE = 64 * 1024, RETRY_MS = 100 };
enum { MAX_DESCRIPTORS = 1 << 20 }; /* Linux's default ceiling (fs.nr_open) */

/* All zero while the descriptor belongs to nobody. */
struct client {
    bool open;
    int place;           /* of its entry in watched[] */
    char *owed;          /* received and not sent back yet; NULL while there is nothing */
    size_t length, sent; /* how many bytes that is, and how many of them have gone out so far */
};

struct server {
    const char *host;
    int port, listener;
    struct client clients[MAX_DESCRIPTORS]; /* by descriptor: the kernel gives the lowest free */
    struct pollfd watched[MAX_DESCRIPTORS]; /* the listener, then the clients */
    int count;                              /* of entries in use */
    bool paused; /* accept() has failed: the listener is not watched for a moment */
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
    if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
        /* take the port even while connections of an earlier run linger in TIME_WAIT */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        fail(server, "listen");
    server->port = ntohs(address.sin_port); /* PORT 0: which one is it? */
}

/* A new entry behind the others: returns its place. */
static int watch(struct server *server, int fd)
{
    server->watched[server->count] = (struct pollfd){.fd = fd, .events = POLLIN};
    return server->count++;
}

/* The last entry moves into the gap. If this is the last one it moves onto itself: no harm. */
static void unwatch(struct server *server, int place)
{
    struct pollfd last = server->watched[--server->count];
    server->watched[place] = last;
    server->clients[last.fd].place = place;
}

static void client_open(struct server *server, int fd)
{
    if (fd >= MAX_DESCRIPTORS || fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        close(fd);
        return;
    }
    server->clients[fd].open = true;
    server->clients[fd].place = watch(server, fd);
    server->accepted++;
}

static void client_close(struct server *server, int fd)
{
    unwatch(server, server->clients[fd].place); /* while it still knows its place */
    free(server->clients[fd].owed);
    server->clients[fd] = (struct client){0};
    close(fd);
}

/* Sends back what is owed, or what of it the socket takes now. Returns whether all is gone. */
static bool client_writable(struct server *server, int fd)
{
    struct client *client = &server->clients[fd];
    while (client->sent < client->length) {
        /* send() may take less than it is given: what counts is what it returns */
        ssize_t n = send(fd, client->owed + client->sent, client->length - client->sent, 0);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR)
                client_close(server, fd); /* it left without waiting for its bytes */
            return false;
        }
        client->sent += (size_t)n;
        server->echoed += (size_t)n;
    }
    free(client->owed);
    client->owed = NULL;
    return true;
}

/* Returns whether something came, and has been sent back already. */
static bool client_readable(struct server *server, int fd)
{
    char *bytes = malloc(BUFFER_SIZE);
    ssize_t got = bytes ? recv(fd, bytes, BUFFER_SIZE, 0) : -1; /* no memory: errno is ENOMEM */
    if (got > 0) {
        struct client *client = &server->clients[fd];
        client->owed = bytes; /* one by one, for it keeps its place */
        client->length = (size_t)got;
        client->sent = 0;
        return client_writable(server, fd); /* there is nearly always room: no need to ask first */
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR))
        client_close(server, fd); /* 0: end of file, and nothing is owed; -1: it is lost */
    free(bytes);
    return false;
}

/* A client that is owed bytes is not read until they are gone. So it costs one buffer at most,
 * however much it sends; and when its end of file is read, all before it has been sent back. */
static void client_ready(struct server *server, int fd)
{
    struct client *client = &server->clients[fd];
    if (client->owed)
        client_writable(server, fd);
    else
        client_readable(server, fd);
    if (client->open)
        server->watched[client->place].events = client->owed ? POLLOUT : POLLIN;
}

static void accept_clients(struct server *server)
{
    int lost = 0;
    for (int fd = 0; fd >= 0 || (errno == ECONNABORTED && ++lost < SOMAXCONN);)
        if ((fd = accept(server->listener, NULL, NULL)) >= 0)
            client_open(server, fd);
    /* EAGAIN: nobody is left. Else no descriptor is free, say: clients in the kernel's queue keep
     * the listener ready, so every wait would end at once. Look away, and try after RETRY_MS. */
    server->paused = errno != EAGAIN;
    server->watched[0].fd = server->paused ? -1 : server->listener; /* -1: poll() passes over it */
}

/* From the last entry to the first: what moves into a gap comes from behind it, and has been looked
 * at already. In the other direction it would be passed over until the next round. Entries do not
 * come in between: clients are accepted behind the loop. */
static void serve(struct server *server)
{
    watch(server, server->listener);
    if (dprintf(STDOUT_FILENO, "listening on %s:%d\n", server->host, server->port) < 0 && !stopping)
        fail(server, "stdout");
    while (!stopping) {
        int wait_ms = server->paused ? RETRY_MS : -1;
        int ready = poll(server->watched, (nfds_t)server->count, wait_ms);
        if (ready < 0 && !stopping) /* no memory, say, or a lower limit of descriptors */
            nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000L}, NULL);
        for (int place = 0; ready < 0 && place < server->count; place++) /* and ask all, as in 02 */
            server->watched[place].revents = server->watched[place].events;
        bool knocking = server->paused || server->watched[0].revents;
        for (int place = server->count - 1; place > 0; place--)
            if (server->watched[place].revents)
                client_ready(server, server->watched[place].fd);
        if (knocking) /* last, so that a descriptor closed just now serves the next at once */
            accept_clients(server);
    }
}

int main(int argc, char **argv)
{
    static struct server server; /* large, but a page of it takes memory only once it is touched */
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

    while (server.count > 1)
        client_close(&server, server.watched[server.count - 1].fd);
    close(server.listener);
    dprintf(STDOUT_FILENO, "served %llu clients, %llu bytes\n", server.accepted, server.echoed);
    return 0;
}
