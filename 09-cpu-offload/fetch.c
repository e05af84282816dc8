/*
 * Three things can happen to a fetch: the socket has become writable (the connection stands, or has
 * failed), it has become readable (the answer is coming), or the time is up. Each is a callback,
 * and between them nobody waits.
 */
#include "fetch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_SIZE = 64 * 1024 };

struct fetch {
    struct loop *loop;
    int fd;
    char *request;
    size_t length, sent;
    struct http_parser response;
    struct timer deadline;
    fetch_done *done;
    void *arg;
};

void fetch_cancel(struct fetch *fetch)
{
    timer_stop(fetch->loop, &fetch->deadline);
    if (fetch->fd >= 0) {
        loop_unwatch(fetch->loop, fetch->fd);
        close(fetch->fd);
    }
    http_reset(&fetch->response);
    free(fetch->request);
    free(fetch);
}

static void finish(struct fetch *fetch, int status, const char *why)
{
    fetch->done(fetch->arg, status, why, status == 0 ? &fetch->response : NULL);
    fetch_cancel(fetch);
}

static void time_is_up(struct loop *loop, void *arg)
{
    (void)loop;
    finish(arg, 504, "the other server took too long");
}

static void fetch_readable(struct loop *loop, int fd, unsigned events, void *arg)
{
    (void)loop;
    (void)events;
    struct fetch *fetch = arg;
    char buffer[BUFFER_SIZE];
    ssize_t got = recv(fd, buffer, sizeof buffer, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got > 0)
        http_feed(&fetch->response, buffer, (size_t)got);
    else if (got == 0)
        http_feed_end(&fetch->response);
    if (fetch->response.state == HTTP_COMPLETE)
        finish(fetch, 0, NULL);
    else if (got < 0)
        finish(fetch, 502, "the other server reset the connection");
    else if (got == 0)
        finish(fetch, 502, "the other server closed the connection before its answer was complete");
    else if (fetch->response.state == HTTP_FAILED && fetch->response.status == 500)
        finish(fetch, 500, fetch->response.error);
    else if (fetch->response.state == HTTP_FAILED)
        finish(fetch, 502, "the other server's answer is not HTTP/1.1 as it is understood here");
}

/* The first time: the connection stands, or SO_ERROR says why not, see connect(2), EINPROGRESS. */
static void fetch_writable(struct loop *loop, int fd, unsigned events, void *arg)
{
    (void)events;
    struct fetch *fetch = arg;
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error != 0) {
        finish(fetch, 502, "the other server cannot be reached");
        return;
    }
    ssize_t n = send(fd, fetch->request + fetch->sent, fetch->length - fetch->sent, 0);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        finish(fetch, 502, "the other server reset the connection");
        return;
    }
    fetch->sent += n > 0 ? (size_t)n : 0;
    if (fetch->sent == fetch->length && !loop_watch(loop, fd, LOOP_READ, fetch_readable, fetch))
        finish(fetch, 500, "out of memory");
}

/* The connection is for this request only. */
static bool write_request(struct fetch *fetch, const struct sockaddr_in *address, const char *path)
{
    static const char format[] = "GET %s HTTP/1.1\r\nHost: %s:%d\r\nConnection: close\r\n\r\n";
    char host[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &address->sin_addr, host, sizeof host);
    size_t room = sizeof format + strlen(path) + sizeof host + 8;
    fetch->request = malloc(room);
    if (!fetch->request)
        return false;
    fetch->length =
        (size_t)snprintf(fetch->request, room, format, path, host, ntohs(address->sin_port));
    return true;
}

/* EINPROGRESS is what a non-blocking connect() says when all is well: the answer comes later. */
static bool start_connecting(struct fetch *fetch, const struct sockaddr_in *address)
{
    fetch->fd = socket(AF_INET, SOCK_STREAM, 0);
    return fetch->fd >= 0 && fcntl(fetch->fd, F_SETFL, O_NONBLOCK) == 0 &&
           fcntl(fetch->fd, F_SETFD, FD_CLOEXEC) == 0 &&
           (connect(fetch->fd, (const struct sockaddr *)address, sizeof *address) == 0 ||
            errno == EINPROGRESS) &&
           loop_watch(fetch->loop, fetch->fd, LOOP_WRITE, fetch_writable, fetch);
}

struct fetch *fetch_start(struct loop *loop, const struct sockaddr_in *address, const char *path,
                          int64_t timeout_ms, fetch_done *done, void *arg)
{
    struct fetch *fetch = calloc(1, sizeof *fetch);
    if (!fetch)
        return NULL;
    fetch->loop = loop;
    fetch->fd = -1;
    fetch->done = done;
    fetch->arg = arg;
    fetch->deadline = (struct timer){.callback = time_is_up, .arg = fetch};
    http_init(&fetch->response, HTTP_RESPONSE, FETCH_BODY_MAX);
    if (!write_request(fetch, address, path) || !start_connecting(fetch, address) ||
        !timer_start(loop, &fetch->deadline, timeout_ms)) {
        int reason = errno;
        fetch_cancel(fetch);
        errno = reason;
        return NULL;
    }
    return fetch;
}
