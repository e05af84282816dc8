/*
 * An echo peer that serves everybody at once and lets each of them wait: what arrives goes back
 * MS milliseconds later. The clients of chapters 01 to 03 are tried against it.
 *
 *     slow-peer [--delay MS] [PORT]     default: 1000, and a port that the kernel picks
 *
 * A process for each connection: none has to know of the others.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIECE_SIZE = 64 * 1024, PIECES = 64 };

/* What one recv() brought, and when it goes back. */
struct piece {
    double due;
    size_t length, sent;
    char bytes[PIECE_SIZE];
};

struct connection {
    int fd;
    double delay;
    bool at_end;               /* the other side sends no more */
    size_t taken, given;       /* pieces so far; those between are in the ring */
    struct piece ring[PIECES]; /* full: the other side has to wait until some have gone back */
};

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
    alarm(1); /* rings again, should the signal have come just before accept() */
}

static double now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static _Noreturn void fail(const char *call)
{
    fprintf(stderr, "slow-peer: %s: %s\n", call, strerror(errno));
    exit(1);
}

/* Both return false when the connection is lost. */
static bool take(struct connection *connection)
{
    struct piece *piece = &connection->ring[connection->taken % PIECES];
    ssize_t n = recv(connection->fd, piece->bytes, PIECE_SIZE, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN;
    connection->at_end = n == 0;
    if (n > 0) {
        piece->due = now_ms() + connection->delay;
        piece->length = (size_t)n;
        piece->sent = 0;
        connection->taken++;
    }
    return true;
}

static bool give(struct connection *connection)
{
    struct piece *piece = &connection->ring[connection->given % PIECES];
    ssize_t n =
        send(connection->fd, piece->bytes + piece->sent, piece->length - piece->sent, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN;
    piece->sent += (size_t)n;
    if (piece->sent == piece->length)
        connection->given++;
    return true;
}

/* Until the client has ended and has all its bytes, is lost, or the lifeline says that the parent
 * has gone. */
static void serve_client(struct connection *connection, int lifeline)
{
    while (!connection->at_end || connection->given < connection->taken) {
        size_t held = connection->taken - connection->given;
        double wait = held ? connection->ring[connection->given % PIECES].due - now_ms() : -1;
        bool taking = !connection->at_end && held < PIECES, giving = held && wait <= 0;
        struct pollfd watched[2] = {{.fd = taking || giving ? connection->fd : -1},
                                    {.fd = lifeline}};
        watched[0].events = (short)((taking ? POLLIN : 0) | (giving ? POLLOUT : 0));
        if (poll(watched, 2, wait > 0 ? (int)wait + 1 : -1) < 0 && errno != EINTR)
            fail("poll");
        if (watched[1].revents || (taking && watched[0].revents && !take(connection)) ||
            (giving && watched[0].revents && !give(connection)))
            return;
    }
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

static int number_up_to(int most, const char *text)
{
    long number = strtol(text, NULL, 10);
    if (!*text || text[strspn(text, "0123456789")] || number > most) {
        fprintf(stderr,
                "slow-peer: wrong argument '%s'; usage: slow-peer [--delay MS] [PORT], "
                "MS 0..60000 (default 1000), PORT 0..65535 (default 0: a free one)\n",
                text);
        exit(2);
    }
    return (int)number;
}

int main(int argc, char **argv)
{
    static struct connection connection = {.delay = 1000};
    struct sigaction action = {.sa_handler = on_signal};
    int port = 0, lifeline[2];
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--delay") == 0 && i + 1 < argc)
            connection.delay = number_up_to(60000, argv[++i]);
        else
            port = number_up_to(65535, argv[i]);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN); /* nobody asks how a child ended: none becomes a zombie */
    /* Nothing is ever written: it only ends, for all children, when the parent does. */
    if (pipe(lifeline) < 0)
        fail("pipe");

    int listener = listen_on(port);
    while (!stopping) {
        connection.fd = accept(listener, NULL, NULL);
        pid_t pid = connection.fd < 0 ? -1 : fork();
        if (pid == 0) {
            close(listener);
            close(lifeline[1]);
            serve_client(&connection, lifeline[0]);
            _exit(0);
        }
        close(connection.fd);
    }
    return 0;
}
