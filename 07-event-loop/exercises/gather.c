/*
 * gather: --count coroutines, each a client of a server on this machine: it connects, sends
 * "hello\n", reads the line that comes back, and closes; and all that --times times. At the end:
 * how many answers there were.
 *
 * To be done: no more than --limit of them are connected at a time (asyncio.Semaphore). So far all
 * of them start at once, however many there are.
 *
 *     gather [--limit N] [--count N] [--times N] PORT
 */
#include "coroutine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const int64_t FOR_EVER = INT64_MAX; /* ms */

static struct {
    struct loop *loop;
    int port, limit, count, times;
    int answers;
} program = {.limit = 100, .count = 1000, .times = 1};

/* --- one client --- */

static void on_connected(struct loop *loop, int fd, unsigned events, void *arg)
{
    (void)events;
    loop_unwatch(loop, fd);
    co_wake(arg);
}

/* A coroutine can wait for anything that calls back: co_sleep() until co_wake(). */
static bool connect_to(int fd, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int error = 0;
    socklen_t size = sizeof error;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return true;
    if (errno != EINPROGRESS ||
        !loop_watch(program.loop, fd, LOOP_WRITE, on_connected, co_current()))
        return false;
    bool woken = co_sleep(FOR_EVER);
    loop_unwatch(program.loop, fd);
    return woken && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

static bool read_line(int fd)
{
    char bytes[256];
    ssize_t n;
    while ((n = co_read(fd, bytes, sizeof bytes)) > 0)
        if (memchr(bytes, '\n', (size_t)n))
            return true;
    return false;
}

/* Returns whether an answer came. */
static bool ask(void)
{
    static const char hello[] = "hello\n";
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        return false;
    bool answered = fcntl(fd, F_SETFL, O_NONBLOCK) == 0 && connect_to(fd, program.port) &&
                    co_write(fd, hello, sizeof hello - 1) && read_line(fd);
    close(fd);
    return answered;
}

/* --- all of them --- */

static void run_client(void *arg)
{
    (void)arg;
    for (int i = 0; i < program.times; i++) {
        /* Your work: wait here for one of program.limit places, and free it afterwards, whatever
         * has come of ask(). There is one thread only: no lock is needed. */
        if (ask())
            program.answers++;
    }
}

static void run_clients(void *arg)
{
    (void)arg;
    size_t count = (size_t)program.count;
    struct task **tasks = calloc(count, sizeof(struct task *));
    if (!tasks)
        return;
    for (size_t i = 0; i < count; i++)
        tasks[i] = co_start(program.loop, run_client, NULL);
    co_gather(tasks, count);
    free(tasks);
}

/* --- the program --- */

/* Prints how to call the program, and ends it. NULL: for --help; else names the wrong argument. */
static _Noreturn void usage(const char *wrong)
{
    if (wrong)
        fprintf(stderr, "gather: wrong argument '%s'; ", wrong);
    fprintf(wrong ? stderr : stdout,
            "usage: gather [--limit N] [--count N] [--times N] [--help] PORT, limit (default 100), "
            "count (default 1000) and times (default 1) 1..10000, PORT 1..65535 of a server on "
            "127.0.0.1\n");
    exit(wrong ? 2 : 0);
}

/* The number in text; ends the program if it is none from 1 to most. */
static int number(const char *text, long most)
{
    if (text[strspn(text, "0123456789")] || strtol(text, NULL, 10) < 1 ||
        strtol(text, NULL, 10) > most)
        usage(text);
    return (int)strtol(text, NULL, 10);
}

static void read_arguments(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            usage(NULL);
        else if (strcmp(argv[i], "--limit") == 0 && i + 1 < argc)
            program.limit = number(argv[++i], 10000);
        else if (strcmp(argv[i], "--count") == 0 && i + 1 < argc)
            program.count = number(argv[++i], 10000);
        else if (strcmp(argv[i], "--times") == 0 && i + 1 < argc)
            program.times = number(argv[++i], 10000);
        else if (program.port == 0)
            program.port = number(argv[i], 65535);
        else
            usage(argv[i]);
    }
    if (program.port == 0)
        usage("");
}

int main(int argc, char **argv)
{
    read_arguments(argc, argv);
    signal(SIGPIPE, SIG_IGN); /* sending to a server that has left fails, and that is all */
    program.loop = loop_new(NULL);
    if (!program.loop || co_run(program.loop, run_clients, NULL) < 0) {
        perror("gather");
        return 1;
    }
    loop_free(program.loop);
    printf("%d answers\n", program.answers);
    return 0;
}
