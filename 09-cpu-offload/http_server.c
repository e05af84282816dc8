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
enum { RETRY_MS = 100 };       /* until accept() is tried again, out of descriptors */
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

    struct http_parser request;
    char *unread; /* received while busy, or while too much was owed; NULL: nothing */
    size_t unread_start, unread_end;
    char *owed; /* what has to go out; NULL: nothing */
    size_t owed_start, owed_end, owed_room;

    struct timer timer;
    int64_t since;               /* when what allowed_ms() limits began */
    const struct waiter *waiter; /* while busy, and only if the handler has set one */
    void *waiter_arg;
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

static void client_close(struct client *client)
{
    struct http_server *server = client->server;
    loop_unwatch(server->loop, client->fd);
    close(client->fd);
    timer_stop(server->loop, &client->timer);
    if (client->waiter)
        client->waiter->gone(client->waiter_arg);
    http_reset(&client->request);
    free(client->unread);
    free(client->owed);
    *client->link = client->next;
    if (client->next)
        client->next->link = client->link;
    server->counts.clients--;
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

/* Makes room for length bytes more behind what is owed. Returns where, or NULL without memory. */
static char *owe(struct client *client, size_t length)
{
    bool first = !client->owed;
    size_t left = client->owed_end - client->owed_start, room = client->owed_room;
    if (client->owed_end + length > room) {
        if (client->owed_start > 0)
            memmove(client->owed, client->owed + client->owed_start, left);
        client->owed_start = 0;
        client->owed_end = left;
        while (room < left + length)
            room = room ? 2 * room : 1024;
        char *owed = realloc(client->owed, room);
        if (!owed)
            return NULL;
        client->owed = owed;
        client->owed_room = room;
    }
    if (first) /* its time to take this begins now, however long the request took */
        restart_clock(client);
    return client->owed + client->owed_end;
}

/* Sends what is owed, or as much of it as the socket takes now. False: the client is lost. */
static bool send_owed(struct client *client)
{
    if (!client->owed)
        return true;
    while (client->owed_start < client->owed_end) {
        ssize_t n = send(client->fd, client->owed + client->owed_start,
                         client->owed_end - client->owed_start, 0);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        client->owed_start += (size_t)n;
        restart_clock(client);
    }
    free(client->owed);
    client->owed = NULL;
    client->owed_start = client->owed_end = client->owed_room = 0;
    return true;
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

static bool client_update(struct client *client);
static bool ask_loop(struct client *client);

/* Owes the head of an answer, and has room for `more` bytes behind it. False: no memory. */
static bool owe_head(struct client *client, const struct answer *answer, size_t more)
{
    if (answer->length < 0)
        client->closing = true;
    struct http_head head = {.status = answer->status,
                             .headers = answer->headers,
                             .type = answer->type ? answer->type : "application/json",
                             .length = answer->length,
                             .date = date_now(client->server),
                             .keep_alive = !client->closing,
                             .minor_version = client->old ? 0 : 1};
    char *out = owe(client, HEAD_MAX + more);
    size_t length = out ? http_write_head(out, HEAD_MAX, &head) : 0;
    client->owed_end += length;
    return length > 0;
}

/* The client's request has been dealt with. */
static void answered(struct client *client)
{
    client->busy = false;
    client->waiter = NULL;
    client->server->counts.requests++;
    if (!client->parsing)
        client_update(client);
}

void client_answer(struct client *client, const struct answer *answer)
{
    size_t length = client->head ? 0 : (size_t)answer->length;
    if (owe_head(client, answer, length)) {
        memcpy(client->owed + client->owed_end, answer->body, length);
        client->owed_end += length;
    } else { /* no memory: rather no answer than half of one */
        client->closing = true;
    }
    answered(client);
}

void client_answer_json(struct client *client, int status, const char *format, ...)
{
    char body[1024];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(body, sizeof body, format, args);
    va_end(args);
    client_answer(client, &(struct answer){status, NULL, NULL, body, length});
}

void client_answer_error(struct client *client, int status, const char *headers, const char *what)
{
    char body[512];
    int length = snprintf(body, sizeof body, "{\"error\": \"%s\"}", what);
    client_answer(client, &(struct answer){status, headers, NULL, body, length});
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

bool client_begin(struct client *client, const struct answer *answer)
{
    if (owe_head(client, answer, 0))
        return true;
    client_close(client);
    return false;
}

bool client_write(struct client *client, const void *bytes, size_t length)
{
    bool nothing = client->head || length == 0;
    char *out = nothing ? NULL : owe(client, length);
    if (out) {
        memcpy(out, bytes, length);
        client->owed_end += length;
    }
    if ((out || nothing) && send_owed(client) && ask_loop(client))
        return true;
    client_close(client);
    return false;
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
    client->head = client->old = false;
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
        char *out = owe(client, sizeof leave - 1);
        if (out) {
            memcpy(out, leave, sizeof leave - 1);
            client->owed_end += sizeof leave - 1;
            client->continued = true;
        }
    }
    client->parsing = false;
    return used;
}

static size_t unread_size(const struct client *client)
{
    return client->unread ? client->unread_end - client->unread_start : 0;
}

/* Keeps what was received and cannot be dealt with yet, behind what was kept before. */
static bool keep_unread(struct client *client, const char *bytes, size_t length)
{
    size_t before = unread_size(client);
    if (length == 0 || client->closing)
        return true;
    char *unread = malloc(before + length);
    if (!unread)
        return false;
    if (before > 0)
        memcpy(unread, client->unread + client->unread_start, before);
    memcpy(unread + before, bytes, length);
    free(client->unread);
    client->unread = unread;
    client->unread_start = 0;
    client->unread_end = before + length;
    return true;
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

/* Returns false if the client is lost. */
static bool client_readable(struct client *client)
{
    char *buffer = client->server->buffer;
    ssize_t got = recv(client->fd, buffer, BUFFER_SIZE, 0);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0)
        client->ended = true;
    if (got == 0 || client->lingering)
        return true;
    size_t used = client->unread ? 0 : read_requests(client, buffer, (size_t)got);
    return keep_unread(client, buffer + used, (size_t)got - used);
}

/* --- what next --- */

/* Closes our side only, and waits for the client to close its own: were the socket closed while
 * bytes arrive, the kernel would answer them with a reset, and a reset makes the client's kernel
 * drop what it has received and not yet handed over, our answer (RFC 9112, 9.6). */
static bool linger(struct client *client)
{
    if (!client->lingering) {
        client->lingering = true;
        shutdown(client->fd, SHUT_WR);
        restart_clock(client);
    }
    return !client->ended;
}

/* Has the loop watch the client for what is needed next. */
static bool ask_loop(struct client *client)
{
    /* also while its request is with the handler: a client that is lost is noticed by reading */
    bool room = unread_size(client) < BUFFER_SIZE && (client->busy || !client->closing);
    bool receive = client->lingering || (!client->ended && room);
    unsigned events = (receive ? LOOP_READ : 0U) | (client->owed ? LOOP_WRITE : 0U);
    if (events == client->watched)
        return true;
    client->watched = events;
    return loop_watch(client->server->loop, client->fd, events, client_ready, client);
}

/* After anything has happened to the client: sends, goes on reading requests, and sees to what is
 * needed next. False: the client was lost, and is gone. */
static bool client_update(struct client *client)
{
    bool lives = true;
    do {
        lives = send_owed(client);
    } while (lives && read_kept(client));
    if (lives && !client->owed && !client->busy) {
        if (client->closing)
            lives = linger(client);
        else if (client->ended && !client->unread)
            lives = false;
    }
    if (lives && ask_loop(client))
        return true;
    client_close(client);
    return false;
}

static void client_ready(struct loop *loop, int fd, unsigned events, void *arg)
{
    (void)loop;
    (void)fd;
    struct client *client = arg;
    bool was_owed = client->owed, had_ended = client->ended;
    if ((events & LOOP_READ) && !client_readable(client)) {
        client_close(client);
        return;
    }
    const struct waiter *waiter = client->waiter;
    if (client->ended && !had_ended && waiter && waiter->ended &&
        waiter->ended(client->waiter_arg)) {
        client_drop(client);
        return;
    }
    if (!client_update(client) || !was_owed || client->owed)
        return;
    waiter = client->waiter;
    if (waiter && waiter->drained)
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
    if (!client || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
        !loop_watch(server->loop, fd, LOOP_READ, client_ready, client)) {
        if (client && errno == ERANGE && !server->refused) {
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
    for (;;) {
        int fd = accept(server->listener, NULL, NULL);
        if (fd >= 0) {
            client_open(server, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            /* as in chapter 05: look away for a moment, or every wait would end at once */
            if (timer_start(server->loop, &server->retry, RETRY_MS))
                loop_watch(server->loop, server->listener, 0, listener_ready, server);
            return;
        } else if (errno == EAGAIN) {
            return;
        }
        /* any other error: this client left before we got to it; on to the next */
    }
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
    loop_watch(loop, server->listener, LOOP_READ, listener_ready, server);
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
