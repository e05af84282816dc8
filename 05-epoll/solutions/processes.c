/*
 * 05-epoll/processes, worked: one port, several processes.
 *
 * With --workers N and N > 1, N worker processes serve, each with an epoll of its own. The parent
 * serves nobody: it replaces a worker that dies, and on SIGTERM or SIGINT ends all of them and
 * prints the totals of all. The workers share its listener: who of them is asleep is woken.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_SIZE = 64 * 1024 };
enum { MAX_DESCRIPTORS = 1 << 20 }; /* Linux's default ceiling (fs.nr_open) */
enum { RETRY_MS = 100 };
enum { MAX_EVENTS = 256, MAX_WORKERS = 64 }; /* taken from one wait; processes */

/* All zero while the descriptor belongs to nobody. */
struct client {
    bool open;
    char *owed;          /* received and not sent back yet; NULL while there is nothing */
    size_t length, sent; /* how many bytes that is, and how many of them have gone out so far */
};

/* In memory that all processes have in common: a counter of one's own would die with a worker. */
struct totals {
    atomic_ullong accepted, echoed;
};

struct server {
    int listener;
    struct client clients[MAX_DESCRIPTORS]; /* by descriptor: the kernel gives the lowest free */
    int watcher;                            /* the kernel's list of whom to watch */
    bool paused; /* no descriptor was free: the listener is not watched */
    struct totals *totals;
};

static volatile sig_atomic_t stopping;

/* Only notes the signal: little else is safe in a handler, see signal-safety(7). */
static void on_signal(int number)
{
    (void)number;
    stopping = 1;
    /* A signal that comes between the loop's look at `stopping` and its wait would not end that
     * wait. So ring again a second later, until the program has ended: SIGALRM lands here, too. */
    alarm(1);
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
    fputs("usage: server [--workers N] [--host ADDR] [--help] [PORT], N 1..64 (default 1), "
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

static int worker_count(const char *text)
{
    bool is_number = *text && !text[strspn(text, "0123456789")];
    long count = is_number ? strtol(text, NULL, 10) : 0;
    if (count < 1 || count > MAX_WORKERS)
        usage(text);
    return (int)count;
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

/* ADD registers fd, until it is closed. MOD changes events. */
static bool watch(struct server *server, int operation, int fd, unsigned events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    return epoll_ctl(server->watcher, operation, fd, &event) == 0;
}

static void client_open(struct server *server, int fd)
{
    if (fd >= MAX_DESCRIPTORS || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
        !watch(server, EPOLL_CTL_ADD, fd, EPOLLIN)) {
        close(fd);
        return;
    }
    server->clients[fd].open = true;
    atomic_fetch_add(&server->totals->accepted, 1);
}

static void client_close(struct server *server, int fd)
{
    free(server->clients[fd].owed);
    server->clients[fd] = (struct client){0};
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
        atomic_fetch_add(&server->totals->echoed, (size_t)n);
    }
    free(client->owed);
    client->owed = NULL;
}

static void client_readable(struct server *server, int fd)
{
    char *bytes = malloc(BUFFER_SIZE);
    ssize_t got = bytes ? recv(fd, bytes, BUFFER_SIZE, 0) : -1; /* no memory: errno is ENOMEM */
    if (got > 0) {
        server->clients[fd] = (struct client){.open = true, .owed = bytes, .length = (size_t)got};
        client_writable(server, fd); /* there is nearly always room: no need to ask first */
        return;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR))
        client_close(server, fd); /* 0: end of file, and nothing is owed; -1: it is lost */
    free(bytes);
}

/* A client that is owed bytes is not read until they are gone. So it costs one buffer at most,
 * however much it sends; and when its end of file is read, all before it has been sent back. */
static void client_ready(struct server *server, int fd)
{
    struct client *client = &server->clients[fd];
    bool was_owed = client->owed;
    if (was_owed)
        client_writable(server, fd);
    else
        client_readable(server, fd);
    if (client->open && was_owed != (client->owed != NULL) &&
        !watch(server, EPOLL_CTL_MOD, fd, client->owed ? EPOLLOUT : EPOLLIN))
        client_close(server, fd);
}

/* EPOLLEXCLUSIVE: a client that comes wakes one of the workers asleep; without it, all of them, and
 * all but one in vain. The kernel allows no MOD for such an entry, so a pause takes it out. */
static bool watch_listener(struct server *server, bool on)
{
    int operation = on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL;
    return watch(server, operation, server->listener, EPOLLIN | EPOLLEXCLUSIVE);
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
    if (server->paused != was_paused && !watch_listener(server, !server->paused))
        fail("listener");
}

static void serve(struct server *server)
{
    server->watcher = epoll_create1(0);
    if (server->watcher < 0 || !watch_listener(server, true))
        fail("watcher");
    while (!stopping) {
        struct epoll_event events[MAX_EVENTS];
        int wait_ms = server->paused ? RETRY_MS : -1;
        int ready = epoll_wait(server->watcher, events, MAX_EVENTS, wait_ms);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready < 0)
            fail("epoll_wait");
        bool knocking = server->paused;
        for (int i = 0; i < ready; i++)
            if (events[i].data.fd == server->listener)
                knocking = true;
            else
                client_ready(server, events[i].data.fd);
        if (knocking) /* last, so that a descriptor closed just now serves the next at once */
            accept_clients(server);
    }
    for (int fd = 0; fd < MAX_DESCRIPTORS; fd++)
        if (server->clients[fd].open)
            client_close(server, fd);
    close(server->watcher);
}

/* Returns the worker's id, or -1. The parent has no clients, so a new worker inherits none: one
 * that is forked by a worker would keep the connections of its parent's clients open. */
static pid_t start_worker(struct server *server)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    serve(server);
    close(server->listener);
    munmap(server->totals, sizeof *server->totals);
    exit(0);
}

static void pause_briefly(void)
{
    nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000L}, NULL);
}

/* Writes `to` in the place of `from`; 0 is a free place. False if there is no such place: whoever
 * has turned into this program by exec() may have had children that are no workers. */
static bool replace(pid_t pids[], pid_t from, pid_t to)
{
    for (int i = 0; i < MAX_WORKERS; i++)
        if (pids[i] == from) {
            pids[i] = to;
            return true;
        }
    return false;
}

/* Keeps that many workers running until a signal comes; it ends waitpid(), too: see on_signal(). */
static void supervise(struct server *server, pid_t pids[], int workers)
{
    for (int running = 0; !stopping;) {
        pid_t started = running < workers ? start_worker(server) : 0;
        pid_t ended = started == 0 ? waitpid(-1, NULL, 0) : 0;
        if (started > 0 && replace(pids, 0, started))
            running++;
        if (ended > 0 && replace(pids, ended, 0))
            running--;
        if (started < 0 || ended > 0)
            pause_briefly(); /* no process to be had? or do they die at once? not without pause */
    }
}

static void end_workers(const pid_t pids[])
{
    for (int i = 0; i < MAX_WORKERS; i++)
        if (pids[i] > 0)
            kill(pids[i], SIGTERM);
    for (int i = 0; i < MAX_WORKERS; i++)
        while (pids[i] > 0 && waitpid(pids[i], NULL, 0) < 0 && errno == EINTR)
            ;
}

static struct totals *share_totals(void)
{
    struct totals *totals = mmap(NULL, sizeof *totals, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0); /* all zero */
    if (totals == MAP_FAILED)
        fail("mmap");
    return totals;
}

int main(int argc, char **argv)
{
    static struct server server; /* large, but a page of it takes memory only once it is touched */
    const char *host = "127.0.0.1";
    int port = -1, workers = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            usage(NULL);
        else if (strcmp(argv[i], "--workers") == 0 && i + 1 < argc)
            workers = worker_count(argv[++i]);
        else if (strcmp(argv[i], "--host") == 0 && i + 1 < argc)
            host = argv[++i];
        else if (is_port(argv[i]) && port < 0)
            port = (int)strtol(argv[i], NULL, 10);
        else
            usage(argv[i]);
    }
    catch_signals();
    server.listener = listen_on(host, port < 0 ? 8000 : port);
    server.totals = share_totals();
    if (workers == 1)
        serve(&server);
    else {
        pid_t pids[MAX_WORKERS] = {0};
        supervise(&server, pids, workers);
        end_workers(pids);
    }

    close(server.listener);
    printf("served %llu clients, %llu bytes\n", atomic_load(&server.totals->accepted),
           atomic_load(&server.totals->echoed));
    munmap(server.totals, sizeof *server.totals);
    return 0;
}
