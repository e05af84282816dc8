/*
 * 06-kqueue/wakeup, worked: each line that comes by standard input goes to all clients.
 *
 * A thread reads the lines, puts them where the server can take them, and rings: EVFILT_USER is an
 * event that the program itself makes. A global variable would be seen only when kevent() returns.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/event.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_SIZE = 64 * 1024, RETRY_MS = 100 };
enum { MAX_DESCRIPTORS = 1 << 20 };               /* what the systems allow is less, as a rule */
enum { READ_SIZE = 4096, LINES_MAX = 64 * 1024 }; /* read from standard input; kept until taken */
enum { OWED_MAX = 1 << 20 }; /* a client that is owed more does not read any more */
enum { MAX_EVENTS = 256 };   /* taken from one wait */

/* All zero while the descriptor belongs to nobody. */
struct client {
    bool open;
    char *owed;          /* received and not sent back yet; NULL while there is nothing */
    size_t length, sent; /* how many bytes that is, and how many of them have gone out so far */
};

/* What one thread has read from standard input, and the other has not taken yet. */
struct lines {
    pthread_mutex_t lock; /* for all below */
    pthread_cond_t room;  /* signalled when the bytes have been taken, or nobody will any more */
    char bytes[LINES_MAX];
    size_t length;
    bool ending;
    pthread_t reader;
    int stop[2]; /* a pipe: closing stop[1] ends the reader's wait, by an end of file */
};

struct server {
    const char *host;
    int port, listener;
    struct client clients[MAX_DESCRIPTORS]; /* by descriptor: the kernel gives the lowest free */
    int end;                                /* all clients are below this descriptor */
    struct lines lines;
    int watcher; /* the kernel's list of whom to watch */
    bool paused; /* accept() has failed: the listener is not watched for a moment */
    unsigned long long accepted, closed, echoed;
};

static volatile sig_atomic_t stopping;
/* Asked before each line: does stdout take it, or is it a full pipe, whose reader sleeps? */
static struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};

/* Only notes the signal: little else is safe in a handler, see signal-safety(7). To end the loop's
 * wait is left to the queue; this is for a signal that comes before the queue watches it. */
static void on_signal(int number)
{
    (void)number;
    stopping = 1;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: a signal ends a wait */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* sending to a client that has left fails, and that is all */
}

/* Prints how to call the program, and ends it. NULL: for --help; else names the wrong argument. */
static _Noreturn void usage(const char *wrong)
{
    if (wrong)
        fprintf(stderr, "server: wrong argument '%s'; ", wrong);
    fputs("usage: server [--host ADDR] [--help] [PORT] (reads lines from standard input), "
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

/* The bell has a filter of its own, so its number can be no descriptor's. Without the trigger, this
 * makes it. EV_CLEAR: however often it was rung, it is told once, and is silent again. */
static bool bell(struct server *server, unsigned short flags, unsigned trigger)
{
    struct kevent change;
    EV_SET(&change, 0, EVFILT_USER, flags, trigger, 0, NULL);
    return kevent(server->watcher, &change, 1, NULL, 0, NULL) == 0;
}

/* --- the thread that reads standard input --- */

/* Waits until there is something to read; false: the program ends. A thread inside read() could not
 * be told so. (select(): on macOS, poll() takes no terminal.) */
static bool input_comes(int stop)
{
    fd_set input;
    int ready;
    do {
        FD_ZERO(&input);
        FD_SET(STDIN_FILENO, &input);
        FD_SET(stop, &input);
        ready = select(stop + 1, &input, NULL, NULL, NULL);
    } while (ready < 0 && errno == EINTR);
    return ready > 0 && !FD_ISSET(stop, &input);
}

/* Waits for room: who types faster than all is sent has to wait, too. False: the program ends. */
static bool lines_put(struct server *server, const char *bytes, size_t length)
{
    struct lines *lines = &server->lines;
    pthread_mutex_lock(&lines->lock);
    while (!lines->ending && lines->length + length > LINES_MAX)
        pthread_cond_wait(&lines->room, &lines->lock);
    bool ending = lines->ending;
    if (!ending) {
        memcpy(lines->bytes + lines->length, bytes, length);
        lines->length += length;
    }
    pthread_mutex_unlock(&lines->lock);
    /* After the bytes are there: who is woken before would look, find none, and sleep again. */
    if (!ending && !bell(server, 0, NOTE_TRIGGER))
        fail(server, "bell");
    return !ending;
}

/* The length of all whole lines; of everything, if one line fills the buffer. */
static size_t whole_lines(const char *bytes, size_t length)
{
    size_t whole = length;
    while (whole > 0 && bytes[whole - 1] != '\n')
        whole--;
    return whole == 0 && length == READ_SIZE ? length : whole;
}

static void *read_lines(void *argument)
{
    struct server *server = argument;
    char bytes[READ_SIZE];
    size_t length = 0;
    for (ssize_t n = 1; n > 0 && input_comes(server->lines.stop[0]);) {
        n = read(STDIN_FILENO, bytes + length, sizeof bytes - length);
        length += n > 0 ? (size_t)n : 0;
        size_t whole = n > 0 ? whole_lines(bytes, length) : length; /* the last may have no end */
        if (whole > 0 && !lines_put(server, bytes, whole))
            break;
        memmove(bytes, bytes + whole, length - whole);
        length -= whole;
    }
    return NULL;
}

static void reader_prepare(struct server *server)
{
    struct lines *lines = &server->lines;
    if (pipe(lines->stop) < 0)
        fail(server, "pipe");
    errno = EMFILE;
    if (lines->stop[0] >= FD_SETSIZE) /* see input_comes() */
        fail(server, "pipe");
}

static void reader_start(struct server *server)
{
    struct lines *lines = &server->lines;
    if ((errno = pthread_mutex_init(&lines->lock, NULL)) ||
        (errno = pthread_cond_init(&lines->room, NULL)) ||
        (errno = pthread_create(&lines->reader, NULL, read_lines, server)))
        fail(server, "thread");
}

/* It waits for input, or for room: both have to end. */
static void reader_end(struct lines *lines)
{
    pthread_mutex_lock(&lines->lock);
    lines->ending = true;
    pthread_cond_signal(&lines->room);
    pthread_mutex_unlock(&lines->lock);
    close(lines->stop[1]);
    pthread_join(lines->reader, NULL);
    close(lines->stop[0]);
    pthread_cond_destroy(&lines->room);
    pthread_mutex_destroy(&lines->lock);
}

/* --- the thread that serves --- */

/* The filter says what number is: a descriptor or a signal. */
static bool watch(struct server *server, int number, short filter, bool on)
{
    struct kevent change;
    unsigned flags = EV_ADD | (on ? EV_ENABLE : EV_DISABLE);
    EV_SET(&change, (uintptr_t)number, filter, (unsigned short)flags, 0, 0, NULL);
    return kevent(server->watcher, &change, 1, NULL, 0, NULL) == 0;
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
    if (fd >= server->end)
        server->end = fd + 1;
}

static void client_close(struct server *server, int fd)
{
    free(server->clients[fd].owed);
    server->clients[fd] = (struct client){0};
    close(fd);
    server->closed++;
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

/* Has the kernel watch for what the client waits for now, if that has changed. */
static void client_watch(struct server *server, int fd, bool was_owed)
{
    struct client *client = &server->clients[fd];
    if (client->open && was_owed != (client->owed != NULL) &&
        !(watch(server, fd, EVFILT_READ, !client->owed) &&
          watch(server, fd, EVFILT_WRITE, client->owed)))
        client_close(server, fd);
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
    client_watch(server, fd, was_owed);
}

/* Returns how many bytes there were. */
static size_t lines_take(struct lines *lines, char bytes[LINES_MAX])
{
    pthread_mutex_lock(&lines->lock);
    size_t length = lines->length;
    memcpy(bytes, lines->bytes, length);
    lines->length = 0;
    pthread_cond_signal(&lines->room);
    pthread_mutex_unlock(&lines->lock);
    return length;
}

/* Puts the bytes behind those that the client is owed already: a line never gets into the middle of
 * another. Who does not read would be owed more and more, and is closed. */
static void client_tell(struct server *server, int fd, const char *bytes, size_t length)
{
    struct client *client = &server->clients[fd];
    bool was_owed = client->owed;
    size_t left = was_owed ? client->length - client->sent : 0;
    char *owed = left + length <= OWED_MAX ? malloc(left + length) : NULL;
    if (!owed) {
        client_close(server, fd);
        return;
    }
    if (was_owed)
        memcpy(owed, client->owed + client->sent, left);
    memcpy(owed + left, bytes, length);
    free(client->owed);
    *client = (struct client){.open = true, .owed = owed, .length = left + length};
    if (!was_owed) /* or else it is watched already, and there is no room */
        client_writable(server, fd);
    client_watch(server, fd, was_owed);
}

/* Hands to all clients what the thread has read. */
static void deliver_lines(struct server *server)
{
    char bytes[LINES_MAX];
    size_t length = lines_take(&server->lines, bytes);
    for (int fd = 0; fd < server->end && length > 0; fd++)
        if (server->clients[fd].open)
            client_tell(server, fd, bytes, length);
}

/* Takes all clients that are there. One that has left already (ECONNABORTED) is passed over. */
static void accept_clients(struct server *server)
{
    int lost = 0;
    for (int fd = 0; fd >= 0 || (errno == ECONNABORTED && ++lost < SOMAXCONN);)
        if ((fd = accept(server->listener, NULL, NULL)) >= 0)
            client_open(server, fd);
    /* EAGAIN: nobody is left. Else no descriptor is free, say: clients in the kernel's queue keep
     * the listener ready, so every wait would end at once. Look away, and try after RETRY_MS. */
    bool pausing = errno != EAGAIN;
    if (pausing != server->paused && watch(server, server->listener, EVFILT_READ, !pausing))
        server->paused = pausing; /* if that has failed, it is tried again */
}

static void serve(struct server *server)
{
    if (!watch(server, server->listener, EVFILT_READ, true))
        fail(server, "watcher");
    while (!stopping && poll(&output, 1, RETRY_MS) == 0)
        ;
    if (!stopping && dprintf(STDOUT_FILENO, "listening on %s:%d\n", server->host, server->port) < 0)
        fail(server, "stdout");
    while (!stopping) {
        struct kevent events[MAX_EVENTS];
        int ready = kevent(server->watcher, NULL, 0, events, MAX_EVENTS,
                           server->paused ? &(struct timespec){0, RETRY_MS * 1000000L} : NULL);
        if (ready < 0 && !stopping) /* no memory, say: try again, but do not spin */
            poll(NULL, 0, RETRY_MS);
        bool knocking = server->paused, rung = false;
        for (int i = 0; i < ready; i++)
            if (events[i].filter == EVFILT_SIGNAL)
                stopping = 1;
            else if (events[i].filter == EVFILT_USER)
                rung = true;
            else if ((int)events[i].ident == server->listener)
                knocking = true;
            else
                client_ready(server, (int)events[i].ident);
        if (rung) /* behind the loop: it may close clients that there is an event of */
            deliver_lines(server);
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
    reader_prepare(&server);
    server.watcher = kqueue();
    if (server.watcher < 0 || !watch(&server, SIGINT, EVFILT_SIGNAL, true) ||
        !watch(&server, SIGTERM, EVFILT_SIGNAL, true) || !bell(&server, EV_ADD | EV_CLEAR, 0))
        fail(&server, "kqueue");
    listen_on(&server);
    reader_start(&server);
    serve(&server);

    reader_end(&server.lines);
    for (int fd = 0; server.closed < server.accepted; fd++)
        if (server.clients[fd].open)
            client_close(&server, fd);
    close(server.watcher);
    close(server.listener);
    if (poll(&output, 1, 0) > 0)
        dprintf(STDOUT_FILENO, "served %llu clients, %llu bytes\n", server.accepted, server.echoed);
    return 0;
}
