/*
 * Clients, from accept() to close(). What chapters 01 to 06 did with the bytes of one message, this
 * does with requests and answers: bytes that cannot go out now are owed, and a client that is owed
 * too much is not read.
 */
#include "http_server.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BUFFER_SIZE = 64 * 1024
};                             /* received at a time; also how much may be owed before we pause */
enum { BODY_MAX = 64 * 1024 }; /* of a request */
enum { HEAD_MAX = 1024 };      /* of an answer */
enum { STREAM_BUFFER = 16 * 1024 }; /* the kernel's, of an answer without an end */
enum { RETRY_MS = 100 };            /* until accept() is tried again, after an error */
/* How long a client may take: for a request, from its first byte to its last; without a request, or
 * without taking any of its answer; for closing its side, after its last answer. */
enum { REQUEST_MS = 10 * 1000, IDLE_MS = 60 * 1000, LINGER_MS = 2 * 1000 };

struct client {
    struct http_server *server;
    struct client *next, **link; /* among the server's clients */
    int fd;
    unsigned watched; /* for LOOP_READ, LOOP_WRITE */

    bool parsing;   /* inside read_requests(), which sees to what follows an answer */
    bool busy;      /* its request is with the handler */
    bool head;      /* ... and is a HEAD */
    bool old;       /* ... and is HTTP/1.0 */
    bool continued; /* it has been told "100 Continue" */
    bool ended;     /* it has closed its side */
    bool closing;   /* no further request is read: close when the answer is out */
    bool lingering; /* all is sent and our side closed: waits for it to close its own */
    bool closed;    /* its socket is closed: it is only here until the round is over */

    struct http_parser request;
    char *unread; /* received while busy, or while too much was owed; NULL: nothing */
    size_t unread_start, unread_end;
    char *owed; /* what has to go out; NULL: nothing */
    size_t owed_start, owed_end, owed_room;

    struct timer timer;
    int64_t since;               /* when what allowed_ms() limits began */
    const char *headers;         /* while busy, and only if the handler has set any */
    const struct waiter *waiter; /* while busy, and only if the handler has set one */
    void *waiter_arg;
    struct deferred leave; /* frees it */
};

struct http_server {
    struct loop *loop;
    int listener;
    http_handler *handler;
    struct client *clients;
    struct timer retry; /* runs while no descriptor is free */
    struct http_counts counts;
    bool refused;              /* and said so */
    char date[HTTP_DATE_SIZE]; /* of this second: */
    time_t second;
    char buffer[BUFFER_SIZE]; /* for recv() only: nothing stays in it */
};

static void client_ready(struct loop *loop, int fd, unsigned events, void *arg);
static void listener_ready(struct loop *loop, int fd, unsigned events, void *arg);

/* --- a client's end, and its time --- */

/* From anywhere, also while others up the stack are in the middle of something with this client: so
 * its memory stays until the round is over. Nothing more is read or sent from here on. */
static void client_close(struct client *client)
{
    struct http_server *server = client->server;
    if (client->closed)
        return;
    client->closed = client->closing = true;
    loop_unwatch(server->loop, client->fd);
    close(client->fd);
    timer_stop(server->loop, &client->timer);
    server->counts.clients--;
    loop_defer(server->loop, &client->leave);
}

/* The deferred call that follows client_close(). */
static void client_free(struct loop *loop, void *arg)
{
    struct client *client = arg;
    loop_defer_cancel(loop, &client->leave); /* http_server_free() does not wait for the call */
    if (client->waiter)
        client->waiter->gone(client->waiter_arg);
    http_reset(&client->request);
    free(client->unread);
    free(client->owed);
    *client->link = client->next;
    if (client->next)
        client->next->link = client->link;
    free(client);
}

/* How long the client may stay as it is; -1: as long as the handler likes. */
static int64_t allowed_ms(const struct client *client)
{
    if (client->lingering)
        return LINGER_MS;
    if (client->owed)
        return IDLE_MS;
    if (client->busy)
        return -1;
    return client->request.state == HTTP_READING ? REQUEST_MS : IDLE_MS;
}

/* The client's time starts now. Its timer is moved only if it would ring too late; if too early,
 * client_late() sends it on. So a client with one quick request after another moves it never. */
static void restart_clock(struct client *client)
{
    int64_t ms = allowed_ms(client);
    client->since = loop_clock();
    if (ms >= 0 && (client->timer.place == 0 || client->timer.due > client->since + ms * 1000000))
        timer_start(client->server->loop, &client->timer, ms);
}

/* --- what goes out --- */

/* Makes room for length bytes more behind what is owed. Without memory the client is closed: rather
 * no answer than half of one. Returns where the room is, or NULL if the client is closed. */
static char *owe(struct client *client, size_t length)
{
    bool first = !client->owed;
    size_t left = client->owed_end - client->owed_start, room = client->owed_room;
    if (client->closed)
        return NULL;
    if (client->owed_end + length > room) {
        if (client->owed && client->owed_start > 0)
            memmove(client->owed, client->owed + client->owed_start, left);
        client->owed_start = 0;
        client->owed_end = left;
        while (room < left + length)
            room = room ? 2 * room : 1024;
        char *owed = realloc(client->owed, room);
        if (!owed) {
            client_close(client);
            return NULL;
        }
        client->owed = owed;
        client->owed_room = room;
    }
    if (first) /* its time to take this begins now, however long the request took */
        restart_clock(client);
    return client->owed + client->owed_end;
}

static void owe_bytes(struct client *client, const char *bytes, size_t length)
{
    char *out = length > 0 ? owe(client, length) : NULL;
    if (!out)
        return;
    memcpy(out, bytes, length);
    client->owed_end += length;
}

/* Sends what is owed, or as much of it as the socket takes now. */
static void send_owed(struct client *client)
{
    if (!client->owed || client->closed)
        return;
    while (client->owed_start < client->owed_end) {
        ssize_t n = send(client->fd, client->owed + client->owed_start,
                         client->owed_end - client->owed_start, 0);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            client_close(client);
        if (n < 0)
            return;
        client->owed_start += (size_t)n;
        restart_clock(client);
    }
    free(client->owed);
    client->owed = NULL;
    client->owed_start = client->owed_end = client->owed_room = 0;
}

static const char *date_now(struct http_server *server)
{
    time_t second = time(NULL);
    if (second != server->second) {
        http_date(server->date, second);
        server->second = second;
    }
    return server->date;
}

static void client_update(struct client *client);
static void client_ended(struct client *client);
static void ask_loop(struct client *client);

/* Owes the head of an answer, and has room for `more` bytes behind it. */
static void owe_head(struct client *client, const struct answer *answer, size_t more)
{
    if (answer->length < 0)
        client->closing = true;
    struct http_head head = {.status = answer->status,
                             .headers = answer->headers,
                             .more_headers = client->headers,
                             .type = answer->type ? answer->type : "application/json",
                             .length = answer->length,
                             .date = date_now(client->server),
                             .keep_alive = !client->closing,
                             .minor_version = client->old ? 0 : 1};
    char *out = owe(client, HEAD_MAX + more);
    size_t length = out ? http_write_head(out, HEAD_MAX, &head) : 0;
    client->owed_end += length;
    if (length == 0)
        client_close(client);
}

/* The client's request has been dealt with. */
static void answered(struct client *client)
{
    client->busy = false;
    client->waiter = NULL;
    client->headers = NULL;
    if (client->closed)
        return;
    client->server->counts.requests++;
    if (!client->parsing)
        client_update(client);
}

void client_answer(struct client *client, const struct answer *answer)
{
    size_t length = client->head ? 0 : (size_t)answer->length;
    owe_head(client, answer, length);
    owe_bytes(client, answer->body, length);
    answered(client);
}

/* snprintf() returns the length that it would have liked to write. */
static long long clamp(int length, size_t size)
{
    return length < 0 ? 0 : length < (int)size ? length : (int)size - 1;
}

void client_answer_json(struct client *client, int status, const char *format, ...)
{
    char body[1024];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(body, sizeof body, format, args);
    va_end(args);
    client_answer(client, &(struct answer){status, NULL, NULL, body, clamp(length, sizeof body)});
}

void client_answer_error(struct client *client, int status, const char *headers, const char *what)
{
    char body[512];
    int length = snprintf(body, sizeof body, "{\"error\": \"%s\"}", what);
    client_answer(client,
                  &(struct answer){status, headers, NULL, body, clamp(length, sizeof body)});
}

void client_set_headers(struct client *client, const char *lines)
{
    client->headers = lines;
}

void client_wait(struct client *client, const struct waiter *waiter, void *arg)
{
    client->waiter = waiter;
    client->waiter_arg = arg;
}

struct loop *client_loop(const struct client *client)
{
    return client->server->loop;
}

/* --- answers in bits --- */

void client_drop(struct client *client)
{
    client->waiter = NULL;
    client_close(client);
}

void client_begin(struct client *client, const struct answer *answer)
{
    /* An answer without an end: the kernel keeps little of it for a client that does not read, or
     * client_owed() would stay 0 for minutes. */
    int size = STREAM_BUFFER;
    if (answer->length < 0 && !client->closed)
        setsockopt(client->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    owe_head(client, answer, 0);
}

void client_write(struct client *client, const void *bytes, size_t length)
{
    owe_bytes(client, bytes, client->head ? 0 : length);
    send_owed(client);
    ask_loop(client);
}

void client_end(struct client *client)
{
    answered(client);
}

size_t client_owed(const struct client *client)
{
    return client->owed_end - client->owed_start;
}

/* --- what comes in --- */

/* A request that cannot be understood: where the next one begins is unknown, so it is the last. */
static void refuse(struct client *client, int status, const char *what)
{
    client->closing = true;
    client->head = http_is_head(&client->request);
    client->old = false;
    client_answer_error(client, status, NULL, what);
}

static void handle(struct client *client)
{
    const struct http_parser *request = &client->request;
    client->busy = true;
    client->head = strcmp(request->method, "HEAD") == 0;
    client->old = request->minor_version == 0;
    client->closing = !request->keep_alive;
    client->server->handler(client, request);
    if (client->ended) /* it had closed its side before this request's turn came */
        client_ended(client);
    http_reset(&client->request);
    client->continued = false;
}

/* Passes on the requests in these bytes, as many as can be dealt with now. Returns how many bytes
 * that took. */
static size_t read_requests(struct client *client, const char *bytes, size_t length)
{
    struct http_parser *request = &client->request;
    size_t used = 0;
    client->parsing = true;
    while (used < length && !client->busy && !client->closing &&
           client_owed(client) < BUFFER_SIZE) {
        bool first = request->state == HTTP_EMPTY;
        used += http_feed(request, bytes + used, length - used);
        if (request->state == HTTP_COMPLETE)
            handle(client);
        else if (request->state == HTTP_FAILED)
            refuse(client, request->status, request->error);
        else if (first && request->state == HTTP_READING)
            restart_clock(client);
    }
    if (request->state == HTTP_READING && request->wants_continue && !client->continued) {
        static const char leave[] = "HTTP/1.1 100 Continue\r\n\r\n";
        owe_bytes(client, leave, sizeof leave - 1);
        client->continued = true;
    }
    client->parsing = false;
    return used;
}

static size_t unread_size(const struct client *client)
{
    return client->unread ? client->unread_end - client->unread_start : 0;
}

/* Keeps what was received and cannot be dealt with yet, behind what was kept before. */
static void keep_unread(struct client *client, const char *bytes, size_t length)
{
    size_t before = unread_size(client);
    if (length == 0 || client->closing)
        return;
    char *unread = malloc(before + length);
    if (!unread) {
        client_close(client);
        return;
    }
    if (before > 0)
        memcpy(unread, client->unread + client->unread_start, before);
    memcpy(unread + before, bytes, length);
    free(client->unread);
    client->unread = unread;
    client->unread_start = 0;
    client->unread_end = before + length;
}

/* Goes on with what was kept. Returns whether that led anywhere. */
static bool read_kept(struct client *client)
{
    if (!client->unread)
        return false;
    size_t used = read_requests(client, client->unread + client->unread_start, unread_size(client));
    client->unread_start += used;
    if (client->unread_start == client->unread_end || client->closing) {
        free(client->unread);
        client->unread = NULL;
    }
    return used > 0;
}

static void client_readable(struct client *client)
{
    char *buffer = client->server->buffer;
    ssize_t got = recv(client->fd, buffer, BUFFER_SIZE, 0);
    if (got < 0 && errno != EAGAIN && errno != EINTR)
        client_close(client);
    if (got == 0)
        client->ended = true;
    if (got <= 0 || client->lingering)
        return;
    size_t used = client->unread ? 0 : read_requests(client, buffer, (size_t)got);
    keep_unread(client, buffer + used, (size_t)got - used);
}

/* --- what next --- */

/* Closes our side only, and waits for the client to close its own: were the socket closed while
 * bytes arrive, the kernel would answer them with a reset, and a reset makes the client's kernel
 * drop what it has received and not yet handed over, our answer (RFC 9112, 9.6). */
static void linger(struct client *client)
{
    if (client->ended) {
        client_close(client);
    } else if (!client->lingering) {
        client->lingering = true;
        shutdown(client->fd, SHUT_WR);
        restart_clock(client);
    }
}

/* Has the loop watch the client for what is needed next. */
static void ask_loop(struct client *client)
{
    /* also while its request is with the handler: a client that is lost is noticed by reading */
    bool room = unread_size(client) < BUFFER_SIZE && (client->busy || !client->closing);
    bool receive = client->lingering || (!client->ended && room);
    unsigned events = (receive ? LOOP_READ : 0U) | (client->owed ? LOOP_WRITE : 0U);
    if (client->closed || events == client->watched)
        return;
    client->watched = events;
    if (!loop_watch(client->server->loop, client->fd, events, client_ready, client))
        client_close(client);
}

/* All that the client has sent is answered; but it may have ended in the middle of a request. */
static void end_of_file(struct client *client)
{
    if (client->request.state == HTTP_READING)
        refuse(client, 400, "the connection was half closed in the middle of a request");
    else
        client_close(client);
}

/* After anything has happened to the client: sends, goes on reading requests, and sees to what is
 * needed next. */
static void client_update(struct client *client)
{
    do
        send_owed(client);
    while (read_kept(client));
    if (!client->owed && !client->busy && !client->closed) {
        if (client->closing)
            linger(client);
        else if (client->ended && !client->unread)
            end_of_file(client);
    }
    ask_loop(client);
}

/* The client has closed its side: whoever works on its request may want to give up its place. */
static void client_ended(struct client *client)
{
    const struct waiter *waiter = client->waiter;
    if (!waiter || !waiter->ended || !waiter->ended(client->waiter_arg))
        return;
    client->closing = true;
    client_answer_error(client, 503, "Retry-After: 1\r\n",
                        "given up: the connection was half closed, and others are waiting");
}

static void client_ready(struct loop *loop, int fd, unsigned events, void *arg)
{
    (void)loop;
    (void)fd;
    struct client *client = arg;
    bool was_owed = client->owed, had_ended = client->ended;
    if (events & LOOP_READ)
        client_readable(client);
    if (client->ended && !had_ended)
        client_ended(client);
    client_update(client);
    const struct waiter *waiter = client->waiter;
    if (was_owed && !client->owed && !client->closed && waiter && waiter->drained)
        waiter->drained(client->waiter_arg);
}

static void client_late(struct loop *loop, void *arg)
{
    struct client *client = arg;
    int64_t ms = allowed_ms(client), spent = (loop_clock() - client->since) / 1000000;
    if (ms < 0 || spent < ms)
        timer_start(loop, &client->timer, ms < 0 ? IDLE_MS : ms - spent);
    else if (ms == REQUEST_MS)
        refuse(client, 408, "the request took too long; all of it has to come within 10 s");
    else
        client_close(client);
}

/* --- the server --- */

static void client_open(struct http_server *server, int fd)
{
    struct client *client = calloc(1, sizeof *client);
    if (!client || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
        !loop_watch(server->loop, fd, LOOP_READ, client_ready, client)) {
        struct pollfd errors = {.fd = STDERR_FILENO, .events = POLLOUT};
        if (client && errno == ERANGE && !server->refused &&
            poll(&errors, 1, 0) > 0) { /* a full pipe would stop us */
            fprintf(stderr, "server: client refused: select() takes no descriptor above %d\n",
                    fd - 1);
            server->refused = true;
        }
        free(client);
        close(fd);
        return;
    }
    int on = 1; /* an answer goes out at once, even if the one before is not acknowledged yet */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    client->server = server;
    client->fd = fd;
    client->watched = LOOP_READ;
    client->timer = (struct timer){.callback = client_late, .arg = client};
    client->leave = (struct deferred){.callback = client_free, .arg = client};
    http_init(&client->request, HTTP_REQUEST, BODY_MAX);
    client->link = &server->clients;
    client->next = server->clients;
    if (client->next)
        client->next->link = &client->next;
    server->clients = client;
    server->counts.clients++;
    restart_clock(client);
    if (client->timer.place == 0) /* no memory for the timer */
        client_close(client);
}

static void accept_clients(struct http_server *server)
{
    int fd, lost = 0;
    do { /* ECONNABORTED: that one left before we got to it */
        fd = accept(server->listener, NULL, NULL);
        if (fd >= 0)
            client_open(server, fd);
    } while (fd >= 0 || (errno == ECONNABORTED && ++lost < SOMAXCONN));
    /* as in chapter 05: look away for a moment, or every wait would end at once */
    if (errno != EAGAIN && timer_start(server->loop, &server->retry, RETRY_MS))
        loop_watch(server->loop, server->listener, 0, listener_ready, server);
}

static void listener_ready(struct loop *loop, int fd, unsigned events, void *arg)
{
    (void)loop;
    (void)fd;
    (void)events;
    accept_clients(arg);
}

static void retry_due(struct loop *loop, void *arg)
{
    struct http_server *server = arg;
    if (!loop_watch(loop, server->listener, LOOP_READ, listener_ready, server))
        timer_start(loop, &server->retry, RETRY_MS); /* its place among the timers is free */
}

struct http_server *http_server_new(struct loop *loop, int listener, http_handler *handler)
{
    struct http_server *server = calloc(1, sizeof *server);
    if (!server || !loop_watch(loop, listener, LOOP_READ, listener_ready, server)) {
        int reason = errno;
        free(server);
        close(listener);
        errno = reason;
        return NULL;
    }
    server->loop = loop;
    server->listener = listener;
    server->handler = handler;
    server->retry = (struct timer){.callback = retry_due, .arg = server};
    return server;
}

void http_server_free(struct http_server *server)
{
    for (struct client *client = server->clients, *next; client; client = next) {
        next = client->next;
        client_close(client);
        client_free(server->loop, client); /* at once: no round is to follow */
    }
    timer_stop(server->loop, &server->retry);
    loop_unwatch(server->loop, server->listener);
    close(server->listener);
    free(server);
}

struct http_counts http_server_counts(const struct http_server *server)
{
    return server->counts;
}
