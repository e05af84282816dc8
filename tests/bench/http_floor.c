/*
 * The least an epoll HTTP server can do: wait, receive, see how many requests have ended, send as
 * many answers, always the same one. It is the floor that `make bench` measures chapter 07 against.
 *
 * Left out on purpose, so not for use: what floor.c leaves out (sockets are blocking, running out
 * of descriptors ends the program), and all of HTTP but the end of a request's head: nobody looks
 * at what is asked for, or what time it is.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_EVENTS = 256, MAX_DESCRIPTORS = 1 << 20 };
enum { BUFFER_SIZE = 16 * 1024, SHORTEST_REQUEST = 4 }; /* its end alone */

/* As long as chapter 07's answer to GET /health: the kernel's work is then the same. */
#define ANSWER                                                                                     \
    "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\n" \
    "Content-Length: 15\r\n\r\n{\"status\":\"ok\"}"
enum { ANSWER_SIZE = sizeof ANSWER - 1, MAX_ANSWERS = BUFFER_SIZE / SHORTEST_REQUEST };

static char buffer[BUFFER_SIZE];                /* one for all */
static char answers[MAX_ANSWERS * ANSWER_SIZE]; /* one behind the other: a batch is one send() */
static unsigned char matched[MAX_DESCRIPTORS];  /* how much of a head's end has come */

static void on_signal(int number)
{
    (void)number;
    _exit(0); /* the kernel closes everything */
}

static _Noreturn void fail(const char *call)
{
    fprintf(stderr, "http_floor: %s: %s\n", call, strerror(errno));
    exit(1);
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        /* those who are accepted inherit it: an answer does not wait for the one before it */
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        fail("cannot listen");
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (fd < 0 || fd >= MAX_DESCRIPTORS || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("accept");
    matched[fd] = 0;
}

/* How many heads end in these bytes. A head may be cut anywhere, also within its end. */
static size_t count_ends(int fd, const char *bytes, size_t length)
{
    static const char head_end[] = "\r\n\r\n";
    const char *end = bytes + length;
    size_t count = 0, match = matched[fd];
    for (; bytes < end; bytes++) {
        if (match == 0 && !(bytes = memchr(bytes, '\r', (size_t)(end - bytes))))
            break;
        match = *bytes == head_end[match] ? match + 1 : *bytes == '\r';
        if (match == sizeof head_end - 1) {
            match = 0;
            count++;
        }
    }
    matched[fd] = (unsigned char)match;
    return count;
}

static void answer(int fd)
{
    ssize_t got = recv(fd, buffer, sizeof buffer, 0);
    size_t size = got > 0 ? count_ends(fd, buffer, (size_t)got) * ANSWER_SIZE : 0;
    if (got <= 0 || (size > 0 && send(fd, answers, size, MSG_NOSIGNAL) != (ssize_t)size))
        close(fd);
}

int main(int argc, char **argv)
{
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    for (size_t i = 0; i < MAX_ANSWERS; i++)
        memcpy(answers + i * ANSWER_SIZE, ANSWER, ANSWER_SIZE);
    int listener = listen_on(argc > 1 ? (int)strtol(argv[1], NULL, 10) : 8000);
    int epoll = epoll_create1(0);
    watch(epoll, listener);
    for (;;) {
        struct epoll_event events[MAX_EVENTS];
        int ready = epoll_wait(epoll, events, MAX_EVENTS, -1);
        for (int i = 0; i < ready; i++)
            if (events[i].data.fd == listener)
                watch(epoll, accept(listener, NULL, NULL));
            else
                answer(events[i].data.fd);
    }
}
