/*
 * Exercise: a thread per client, a worked answer.
 *
 * The main thread accepts; each of the others serves its client, waits for it in recv() as chapter
 * 01 does, and ends with it. They share all memory, so whatever more than one of them uses is
 * either atomic or guarded by the lock. Signals come to the main thread alone.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { BUFFER_SIZE = 16 * 1024 }; /* on each thread's stack, for as long as its client stays */

struct server {
    const char *host;
    int port, listener;
    unsigned long long accepted; /* the main thread's own */
    atomic_ullong echoed;
    pthread_mutex_t lock; /* of all below, and of what the list holds */
    pthread_cond_t none;  /* the last client has gone */
    struct client *clients;
};

/* One client and its thread, which closes fd and frees all of this at its end. */
struct client {
    struct server *server;
    int fd;
    struct client *next, *previous;
};

/* Threads look at it while the handler sets it: for that, volatile sig_atomic_t is not enough. */
static atomic_bool stopping;

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

static void client_add(struct client *client)
{
    struct server *server = client->server;
    pthread_mutex_lock(&server->lock);
    client->next = server->clients;
    if (client->next)
        client->next->previous = client;
    server->clients = client;
    pthread_mutex_unlock(&server->lock);
}

/* Closes under the lock: as long as a client is in the list, its descriptor's number is its own,
 * and end_clients() cannot shut down somebody else who got that number next. */
static void client_remove(struct client *client)
{
    struct server *server = client->server;
    pthread_mutex_lock(&server->lock);
    if (client->next)
        client->next->previous = client->previous;
    if (client->previous)
        client->previous->next = client->next;
    else
        server->clients = client->next;
    close(client->fd);
    if (!server->clients)
        pthread_cond_signal(&server->none);
    pthread_mutex_unlock(&server->lock);
    free(client);
}

static void *client_thread(void *argument)
{
    struct client *client = argument;
    serve_client(client->server, client->fd);
    client_remove(client);
    return NULL;
}

/* Detached: nobody will join it, so the system takes back its stack as soon as it ends. It starts
 * with all signals blocked, so that SIGTERM ends the accept() of the main thread, not its recv().
 * Returns false when no thread is to be had. */
static bool start_thread(struct client *client)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* a new thread inherits it */
    int error = pthread_create(&thread, NULL, client_thread, client);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        pthread_detach(thread);
    return error == 0;
}

/* Each thread gets memory of its own: a variable of serve() would be the next client's before the
 * thread has looked at it. */
static void client_open(struct server *server, int fd)
{
    struct client *client = malloc(sizeof *client);
    if (!client) {
        close(fd);
        return;
    }
    *client = (struct client){.server = server, .fd = fd};
    client_add(client);
    if (!start_thread(client))
        client_remove(client); /* it is turned away; the others stay */
}

/* Ends every thread's recv() or send(), whatever it waits for, and waits until all are gone. */
static void end_clients(struct server *server)
{
    pthread_mutex_lock(&server->lock);
    for (struct client *client = server->clients; client; client = client->next)
        shutdown(client->fd, SHUT_RDWR); /* close() would leave a sleeping recv() asleep */
    while (server->clients)
        pthread_cond_wait(&server->none, &server->lock);
    pthread_mutex_unlock(&server->lock);
}

static void serve(struct server *server)
{
    if (dprintf(STDOUT_FILENO, "listening on %s:%d\n", server->host, server->port) < 0 && !stopping)
        fail(server, "stdout");
    while (!stopping) {
        int fd = accept(server->listener, NULL, NULL); /* waits until somebody connects */
        if (fd >= 0) {
            server->accepted++;
            client_open(server, fd);
        } else if (!stopping)
            sleep(1); /* no descriptor is free? then accept() fails at once, and waits for none */
    }
    end_clients(server);
}

int main(int argc, char **argv)
{
    static struct server server = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                   .none = PTHREAD_COND_INITIALIZER};
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
