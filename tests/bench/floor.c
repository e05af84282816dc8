/*
 * The least an epoll echo server can do: wait, read, write. It is the floor that `make bench`
 * measures the others against: who costs 1.05 times as much spends 5 % on being a real server.
 *
 * Left out on purpose, so not for use: sockets are blocking, so a client that does not read holds
 * up everybody (no partial writes, no back-pressure); nothing is known of a client but its
 * descriptor; running out of descriptors ends the program.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_EVENTS = 256 };

static char buffer[64 * 1024]; /* one for all: it is empty again before the next is read */

static void on_signal(int number)
{
    (void)number;
    _exit(0); /* the kernel closes everything */
}

static _Noreturn void fail(const char *call)
{
    fprintf(stderr, "floor: %s: %s\n", call, strerror(errno));
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
    if (fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("accept");
}

static void echo(int fd)
{
    ssize_t got = recv(fd, buffer, sizeof buffer, 0);
    if (got <= 0 || send(fd, buffer, (size_t)got, MSG_NOSIGNAL) != got)
        close(fd);
}

int main(int argc, char **argv)
{
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
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
                echo(events[i].data.fd);
    }
}
