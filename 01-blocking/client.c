/*
 * 01, the client's side: one echo after the other.
 *
 * connect(), send() and recv() block: recv() stops the program until an answer is there. That is
 * standing at the counter until the kimchi stew is ready, with nothing else done meanwhile.
 *
 * Still wrong: the waits add up. Five answers that take a second each take five seconds, though the
 * other side could have worked on all of them at the same time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_SIZE = 64 * 1024 };
enum { MAX_COUNT = 1000, MAX_PORT = 65535 };
enum { SHOWN = 40 }; /* a longer message is not printed, only its length */

struct connection {
    int number, fd;        /* the number counts from 1 */
    size_t sent, received; /* how many bytes of the message */
};

struct client {
    const char *host, *message;
    size_t length; /* of the message */
    int port, count;
    struct sockaddr_in address; /* host and port as the kernel wants them */
    double start;               /* of the first connection; all times count from here */
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

/* Connects, which waits for the other side's answer. */
static void connection_open(struct client *client, struct connection *connection)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&client->address, sizeof client->address) < 0)
        fail(client, connection->number, strerror(errno));
    connection->fd = fd;
}

static void connection_close(struct client *client, struct connection *connection)
{
    double seconds = now() - client->start;
    close(connection->fd);
    if (client->length > SHOWN)
        printf("connection %d: %zu bytes came back after %.2f s\n", connection->number,
               client->length, seconds);
    else
        printf("connection %d: '%s' came back after %.2f s\n", connection->number, client->message,
               seconds);
}

/* Sends the message, at most one buffer of it before the echo is taken back. To send all of a long
 * one first would be a trap: with every buffer on the way full, the other side waits in its send()
 * until we receive, and we wait in ours until it does. */
static void connection_send(struct client *client, struct connection *connection)
{
    size_t end = connection->received + BUFFER_SIZE;
    if (end > client->length)
        end = client->length;
    while (connection->sent < end) {
        ssize_t n =
            send(connection->fd, client->message + connection->sent, end - connection->sent, 0);
        if (n < 0)
            fail(client, connection->number, strerror(errno));
        connection->sent += (size_t)n; /* send() may take less than it is given */
    }
}

/* Waits until all that was sent has come back, which may be in any number of pieces. */
static void connection_receive(struct client *client, struct connection *connection)
{
    while (connection->received < connection->sent) {
        char buffer[BUFFER_SIZE];
        size_t due = connection->sent - connection->received;
        ssize_t n = recv(connection->fd, buffer, due, 0); /* the program stops here */
        if (n <= 0) /* 0 is the end of file: the other side closed, and nothing more will come */
            fail(client, connection->number,
                 n < 0 ? strerror(errno) : "closed by the other side before the whole echo came");
        if (memcmp(buffer, client->message + connection->received, (size_t)n) != 0)
            fail(client, connection->number, "something else came back than was sent");
        connection->received += (size_t)n;
    }
}

/* The next one begins when the one before has all of its echo. */
static void exchange_all(struct client *client)
{
    for (int i = 0; i < client->count; i++) {
        struct connection connection = {.number = i + 1};
        connection_open(client, &connection);
        while (connection.received < client->length) {
            connection_send(client, &connection);
            connection_receive(client, &connection);
        }
        connection_close(client, &connection);
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
