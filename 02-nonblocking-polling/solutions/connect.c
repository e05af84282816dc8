/*
 * Exercise: connecting to many ports at once, a worked answer.
 *
 * connect() on a non-blocking socket only starts: the kernel goes on by itself, and the program
 * starts the next one. Then it asks each in turn what has become of it, until all have an answer or
 * the time is over. All of them wait at the same time, so the whole takes one time-out at most.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_COUNT = 500, MAX_PORT = 65535, MAX_TIMEOUT = 60000 };

/* What is known of one port: "open", "refused" or "no answer"; NULL as long as nothing is. */
struct attempt {
    int port, fd;
    const char *answer;
};

struct client {
    int timeout, count; /* timeout in milliseconds */
    struct attempt attempts[MAX_COUNT];
    int open; /* how many still wait for an answer */
};

/* Prints how the program is called and ends it: asked by --help, or because of a wrong argument. */
static _Noreturn void usage(const char *wrong)
{
    if (wrong)
        fprintf(stderr, "connect: wrong argument '%s'; ", wrong);
    fputs("usage: connect [--timeout MS] [--help] PORT..., "
          "MS 1..60000 milliseconds (default 1000), PORT 1..65535, one to 500 of them\n",
          wrong ? stderr : stdout);
    exit(wrong ? 2 : 0);
}

/* Ends the program: what keeps us from trying says nothing about the port. */
static _Noreturn void fail(int port, const char *reason)
{
    fprintf(stderr, "connect: port %d: %s\n", port, reason);
    exit(1);
}

/* A number from 1 to most, digits only: strtol() alone would take " 5", "+5" and "5x" as well. */
static int number_up_to(int most, const char *text)
{
    long number = text[strspn(text, "0123456789")] ? 0 : strtol(text, NULL, 10);
    if (number < 1 || number > most)
        usage(text);
    return (int)number;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time); /* the time of day may be set back; this one is not */
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void attempt_end(struct client *client, struct attempt *attempt, const char *answer)
{
    attempt->answer = answer;
    close(attempt->fd);
    client->open--;
}

/* Ends the attempt with what connect() failed with. */
static void attempt_failed(struct client *client, struct attempt *attempt, int error)
{
    if (error == ECONNREFUSED) /* the kernel answers for a port where nobody listens */
        attempt_end(client, attempt, "refused");
    else if (error == ETIMEDOUT)
        attempt_end(client, attempt, "no answer");
    else
        fail(attempt->port, strerror(error));
}

/* Starts to connect and does not wait for it. Still, the answer may be here at once: this machine
 * is not far away. */
static void attempt_start(struct client *client, struct attempt *attempt)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)attempt->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    attempt->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (attempt->fd < 0 || fcntl(attempt->fd, F_SETFL, O_NONBLOCK) < 0)
        fail(attempt->port, strerror(errno));
    client->open++;
    if (connect(attempt->fd, (struct sockaddr *)&address, sizeof address) == 0)
        attempt_end(client, attempt, "open");
    else if (errno != EINPROGRESS) /* which is no failure: it goes on without us */
        attempt_failed(client, attempt, errno);
}

/* Asks what has become of it. That takes two questions, for no error does not mean connected: there
 * is none either as long as the other side has not answered. */
static void attempt_ask(struct client *client, struct attempt *attempt)
{
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    int error = 0;
    socklen_t error_size = sizeof error;
    if (getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &error, &error_size) < 0)
        fail(attempt->port, strerror(errno));
    if (error)
        attempt_failed(client, attempt, error);
    else if (getpeername(attempt->fd, (struct sockaddr *)&peer, &size) == 0)
        attempt_end(client, attempt, "open"); /* ENOTCONN: not yet */
}

/* One round a millisecond is enough: nobody waits for us, and the CPU is free for others. */
static void try_all(struct client *client)
{
    double end = now() + client->timeout / 1000.0;
    bool over = false;
    for (int i = 0; i < client->count; i++)
        attempt_start(client, &client->attempts[i]);
    while (client->open > 0 && !over) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        over = now() >= end; /* before the round: whoever has answered by now is still heard */
        for (int i = 0; i < client->count; i++)
            if (!client->attempts[i].answer)
                attempt_ask(client, &client->attempts[i]);
    }
    for (int i = 0; i < client->count; i++)
        if (!client->attempts[i].answer)
            attempt_end(client, &client->attempts[i], "no answer");
}

/* Every argument is looked at before anything is done. */
static void read_arguments(struct client *client, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            usage(NULL);
        else if (strcmp(argv[i], "--timeout") == 0 && i + 1 < argc)
            client->timeout = number_up_to(MAX_TIMEOUT, argv[++i]);
        else if (client->count < MAX_COUNT)
            client->attempts[client->count++].port = number_up_to(MAX_PORT, argv[i]);
        else
            usage(argv[i]);
    }
    if (client->count == 0)
        usage("PORT");
}

int main(int argc, char **argv)
{
    static struct client client = {.timeout = 1000};
    read_arguments(&client, argc, argv);
    try_all(&client);
    for (int i = 0; i < client.count; i++)
        printf("%d %s\n", client.attempts[i].port, client.attempts[i].answer);
    return 0;
}
