/*
 * Exercise: connecting to many ports at once.
 *
 * The program tries ports of this machine and prints a line for each: "PORT open", "PORT refused"
 * or "PORT no answer". It does so one port after the other, and connect() blocks: a port that does
 * not answer holds up all the others, for two minutes. All of it, with its checks, is in the
 * chapter's README under "Exercises".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_COUNT = 500, MAX_PORT = 65535, MAX_TIMEOUT = 60000 };

/* What is known of one port: "open", "refused" or "no answer"; NULL as long as nothing is. */
struct attempt {
    int port;
    const char *answer;
};

struct client {
    int timeout, count; /* timeout in milliseconds */
    struct attempt attempts[MAX_COUNT];
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

/* Connects, which waits for the other side's answer, however long that takes. */
static void try_port(struct attempt *attempt)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)attempt->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        fail(attempt->port, strerror(errno));
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        attempt->answer = "open";
    else if (errno == ECONNREFUSED) /* the kernel answers for a port where nobody listens */
        attempt->answer = "refused";
    else if (errno == ETIMEDOUT)
        attempt->answer = "no answer";
    else
        fail(attempt->port, strerror(errno));
    close(fd);
}

/* Your work: all of them at once, with sockets that do not block, and client->timeout for the
 * whole. As the chapter does, ask each in turn: is the connection made, has it failed, or not yet?
 */
static void try_all(struct client *client)
{
    for (int i = 0; i < client->count; i++)
        try_port(&client->attempts[i]);
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
