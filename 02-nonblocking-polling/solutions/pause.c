/*
 * Exercise: a pause between rounds, a worked answer.
 *
 * A round in vain is followed by a pause, and any other by the next round at once: as long as there
 * is work, nobody waits for a pause. What is left is the wait of whoever speaks first after a
 * silence: up to one pause.
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
#include <time.h>
#include <unistd.h>

enum { BUFFER_SIZE = 64 * 1024 };
enum { MAX_DESCRIPTORS = 1 << 20 }; /* Linux's default ceiling (fs.nr_open) */

/* All zero while the descriptor belongs to nobody. */
struct client {
    bool open;
    char *owed;          /* received and not sent back yet; NULL while there is nothing */
    size_t length, sent; /* how many bytes that is, and how many of them have gone out so far */
};

struct server {
    const char *host;
    int port, listener;
    struct client clients[MAX_DESCRIPTORS]; /* by descriptor: the kernel gives the lowest free */
    int highest;                            /* the highest descriptor in use */
    int pause;                              /* after a round in vain, in milliseconds */
    unsigned long long accepted, closed, echoed;
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
    fputs("usage: server [--host ADDR] [--pause MS] [--help] [PORT], "
          "ADDR an IPv4 address (default 127.0.0.1), MS 0..1000 milliseconds (default 10), "
          "PORT 0..65535 (default 8000; 0: a free one)\n",
          wrong ? stderr : stdout);
    exit(wrong ? 2 : 0);
}

/* Ends a start that has failed: says at which call, and why. */
static _Noreturn void fail(const struct server *server, const char *call)
{
    fprintf(stderr, "server: %s:%d: %s: %s\n", server->host, server->port, call, strerror(errno));
    exit(1);
}

static bool is_number(const char *text, long most)
{
    return *text && !text[strspn(text, "0123456789")] && strtol(text, NULL, 10) <= most;
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

static void client_open(struct server *server, int fd)
{
    if (fd < MAX_DESCRIPTORS && fcntl(fd, F_SETFL, O_NONBLOCK) == 0) {
        server->clients[fd].open = true;
        server->accepted++;
        if (fd > server->highest)
            server->highest = fd;
    } else
        close(fd);
}

static void client_close(struct server *server, int fd)
{
    free(server->clients[fd].owed);
    server->clients[fd] = (struct client){0};
    close(fd);
    server->closed++;
    while (server->highest > server->listener && !server->clients[server->highest].open)
        server->highest--;
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
        server->clients[fd] = (struct client){.open = true, .owed = bytes, .length = (size_t)got};
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
}

static void accept_clients(struct server *server)
{
    /* -1: nobody there, or no descriptor free: whoever comes waits in the kernel's queue meanwhile
     */
    for (int fd; (fd = accept(server->listener, NULL, NULL)) >= 0;)
        client_open(server, fd);
}

/* Sleeps, but not through a signal: then it returns at once, and serve() looks at `stopping`. */
static void rest(int milliseconds)
{
    struct timespec time = {.tv_sec = milliseconds / 1000,
                            .tv_nsec = milliseconds % 1000 * 1000000L}; /* always below a second */
    nanosleep(&time, NULL);
}

static void serve(struct server *server)
{
    server->highest = server->listener;
    if (dprintf(STDOUT_FILENO, "listening on %s:%d\n", server->host, server->port) < 0 && !stopping)
        fail(server, "stdout");
    while (!stopping) {
        unsigned long long before = server->accepted + server->echoed;
        accept_clients(server);
        for (int fd = 0; fd <= server->highest; fd++)
            if (server->clients[fd].open)
                client_ready(server, fd);
        if (server->accepted + server->echoed == before && server->pause > 0)
            rest(server->pause); /* nobody came, and nothing went out: all were asked in vain */
    }
}

int main(int argc, char **argv)
{
    static struct server server; /* large, but a page of it takes memory only once it is touched */
    const char *port = NULL;
    server.host = "127.0.0.1";
    server.pause = 10;
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
        else if (strcmp(argv[i], "--pause") == 0 && i + 1 < argc && is_number(argv[i + 1], 1000))
            server.pause = (int)strtol(argv[++i], NULL, 10);
        else if (is_number(argv[i], 65535) && !port)
            port = argv[i];
        else
            usage(argv[i]);
    }
    server.port = port ? (int)strtol(port, NULL, 10) : 8000;
    listen_on(&server);
    serve(&server);

    for (int fd = 0; server.closed < server.accepted; fd++)
        if (server.clients[fd].open)
            client_close(&server, fd);
    close(server.listener);
    dprintf(STDOUT_FILENO, "served %llu clients, %llu bytes\n", server.accepted, server.echoed);
    return 0;
}
