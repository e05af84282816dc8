/*
 * 03, the client's side: many echoes at once, by letting the kernel watch the connections.
 *
 * New: select() sleeps until at least one of them is ready. Nobody looks at the buzzer any more: it
 * rings. The waiting is as short as in 02 and takes no CPU.
 *
 * Still wrong: descriptors of FD_SETSIZE (1,024) and above do not fit, and each call hands over all
 * of the set and looks through all of it again.
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
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_SIZE = 64 * 1024 };
enum { MAX_COUNT = 1000, MAX_PORT = 65535 };
enum { SHOWN = 40 }; /* a longer message is not printed, only its length */

struct connection {
    int number, fd;        /* the number counts from 1; fd is -1 once the whole echo is here */
    size_t sent, received; /* how many bytes of the message */
};

struct client {
    const char *host, *message;
    size_t length; /* of the message */
    int port, count;
    struct sockaddr_in address; /* host and port as the kernel wants them */
    double start;               /* of the first connection; all times count from here */
    struct connection connections[MAX_COUNT];
    int open; /* how many still wait for a part of their echo */
};

/* Prints how the program is called and ends it: asked by --help, or because of a wrong argument. */
static _Noreturn void usage(const char *wrong)
{
    if (wrong)
        fprintf(stderr, "client: wrong argument '%s'; ", wrong);
    fputs("usage: client [--host ADDR] [--count N] [--message TEXT] [--help] PORT, "
          "ADDR an IPv4 address (default 127.0.0.1), N 1..1000 connections (default 5), "
          "TEXT not empty (default hello), PORT 1..65535 (must be given)\n",
          wrong ? stderr : stdout);
    exit(wrong ? 2 : 0);
}

/* Ends the program: a connection without its echo is a failure, and the reader should see why. */
static _Noreturn void fail(const struct client *client, int number, const char *reason)
{
    fflush(stdout); /* first what went well */
    fprintf(stderr, "client: connection %d to %s:%d: %s\n", number, client->host, client->port,
            reason);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time); /* the time of day may be set back; this one is not */
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* A number from 1 to most, digits only: strtol() alone would take " 5", "+5" and "5x" as well. */
static int number_up_to(int most, const char *text)
{
    long number = text[strspn(text, "0123456789")] ? 0 : strtol(text, NULL, 10);
    if (number < 1 || number > most)
        usage(text);
    return (int)number;
}

/* Starts to connect and does not wait for it: the other side's answer needs a round trip. */
static void connection_open(struct client *client, struct connection *connection)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
        (connect(fd, (struct sockaddr *)&client->address, sizeof client->address) < 0 &&
         errno != EINPROGRESS)) /* which is no failure: it goes on without us */
        fail(client, connection->number, strerror(errno));
    if (fd >= FD_SETSIZE) /* FD_SET() would write past the end of the set */
        fail(client, connection->number, "its descriptor does not fit select()'s set");
    connection->fd = fd;
    client->open++;
}

static void connection_close(struct client *client, struct connection *connection)
{
    double seconds = now() - client->start;
    close(connection->fd);
    connection->fd = -1;
    client->open--;
    if (client->length > SHOWN)
        printf("connection %d: %zu bytes came back after %.2f s\n", connection->number,
               client->length, seconds);
    else
        printf("connection %d: '%s' came back after %.2f s\n", connection->number, client->message,
               seconds);
}

/* A connecting socket becomes writable when that is over, for good or ill: SO_ERROR says which.
 * Then sends as much as the socket takes now. */
static void connection_send(struct client *client, struct connection *connection)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error)
        fail(client, connection->number, strerror(error ? error : errno));
    while (connection->sent < client->length) {
        ssize_t n = send(connection->fd, client->message + connection->sent,
                         client->length - connection->sent, 0);
        if (n < 0 && errno == EAGAIN) /* full: back to select(), until there is room */
            return;
        if (n < 0)
            fail(client, connection->number, strerror(errno));
        connection->sent += (size_t)n; /* send() may take less than it is given */
    }
}

/* Takes what has come back, which may be any part of what was sent. */
static void connection_receive(struct client *client, struct connection *connection)
{
    while (connection->received < connection->sent) {
        char buffer[BUFFER_SIZE];
        size_t due = connection->sent - connection->received;
        ssize_t n = recv(connection->fd, buffer, due < sizeof buffer ? due : sizeof buffer, 0);
        if (n < 0 && errno == EAGAIN) /* nothing more yet: back to select() */
            return;
        if (n <= 0) /* 0 is the end of file: the other side closed, and nothing more will come */
            fail(client, connection->number,
                 n < 0 ? strerror(errno) : "closed by the other side before the whole echo came");
        if (memcmp(buffer, client->message + connection->received, (size_t)n) != 0)
            fail(client, connection->number, "something else came back than was sent");
        connection->received += (size_t)n;
    }
    if (connection->received == client->length)
        connection_close(client, connection);
}

/* Fills the sets, again for each call, for select() overwrites them. To be writable is nearly a
 * socket's natural state: watched when nothing is left to send, it would end every wait at once. */
static int watch_all(const struct client *client, fd_set *readable, fd_set *writable)
{
    int highest = -1;
    FD_ZERO(readable);
    FD_ZERO(writable);
    for (int i = 0; i < client->count; i++) {
        const struct connection *connection = &client->connections[i];
        int fd = connection->fd;
        if (fd >= 0 && connection->sent < client->length)
            FD_SET(fd, writable);
        if (fd >= 0 && connection->received < connection->sent)
            FD_SET(fd, readable);
        highest = fd > highest ? fd : highest;
    }
    return highest;
}

/* All of them are on their way before the first answer is there. */
static void exchange_all(struct client *client)
{
    for (int i = 0; i < client->count; i++) {
        client->connections[i].number = i + 1;
        connection_open(client, &client->connections[i]);
    }
    while (client->open > 0) {
        fd_set readable, writable;
        int highest = watch_all(client, &readable, &writable);
        int ready = select(highest + 1, &readable, &writable, NULL, NULL); /* waits here */
        if (ready < 0) {
            fprintf(stderr, "client: select: %s\n", strerror(errno));
            exit(1);
        }
        for (int i = 0; i < client->count; i++) {
            struct connection *connection = &client->connections[i];
            int fd = connection->fd;
            if (fd >= 0 && FD_ISSET(fd, &writable))
                connection_send(client, connection);
            if (fd >= 0 && FD_ISSET(fd, &readable))
                connection_receive(client, connection);
        }
    }
}

/* Every argument is looked at before anything is done. */
static void read_arguments(struct client *client, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--help") == 0)
            usage(NULL);
        else if (strcmp(argv[i], "--host") == 0 && more)
            client->host = argv[++i];
        else if (strcmp(argv[i], "--count") == 0 && more)
            client->count = number_up_to(MAX_COUNT, argv[++i]);
        else if (strcmp(argv[i], "--message") == 0 && more && *argv[i + 1])
            client->message = argv[++i];
        else if (argv[i][0] != '-' && client->port == 0)
            client->port = number_up_to(MAX_PORT, argv[i]);
        else
            usage(argv[i]);
    }
    client->length = strlen(client->message);
    client->address.sin_family = AF_INET;
    client->address.sin_port = htons((uint16_t)client->port); /* in the network's byte order */
    if (inet_pton(AF_INET, client->host, &client->address.sin_addr) != 1)
        usage(client->host);
    if (client->port == 0)
        usage("PORT");
}

int main(int argc, char **argv)
{
    static struct client client = {.host = "127.0.0.1", .message = "hello", .count = 5};
    read_arguments(&client, argc, argv);
    signal(SIGPIPE, SIG_IGN); /* sending to someone who has left fails, and we want to say so */

    client.start = now();
    exchange_all(&client);
    printf("%d %s in %.2f s, %.3f s of CPU\n", client.count, client.count == 1 ? "echo" : "echoes",
           now() - client.start,
           (double)clock() / CLOCKS_PER_SEC); /* clock() stands while we wait */
    return 0;
}
