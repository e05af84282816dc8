/* 02-nonblocking-polling: a pause between rounds, and connecting to many ports at once. */
#include "exercise.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- a pause between rounds --- */

enum { SILENT = 10 };

/* Connects them. The last one speaks once, so all are known to be in. */
static void connect_silent(const char *args, int fds[], int count)
{
    for (int i = 0; i < count; i++)
        fds[i] = connect_client();
    expect(
        client_echo(fds[count - 1], "in"),
        "with '%s', expected an answer after %d clients connected, but none came within %d s: is "
        "the pause one of milliseconds?",
        args, count, patience());
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds until an answer comes to who speaks after a silence: the median of `times`, at most 9. */
static double wait_after_silence(int fd, int times)
{
    double waits[9];
    for (int i = 0; i < times; i++) {
        sleep_for(0.01 + rand() % 20 / 1000.0);
        double asked = now();
        expect(client_echo(fd, "?"), "a client that speaks after a silence got no answer");
        waits[i] = now() - asked;
    }
    qsort(waits, (size_t)times, sizeof *waits, by_size);
    return waits[times / 2];
}

static void expect_rest(const char *args)
{
    int fds[SILENT];
    start(args);
    connect_silent(args, fds, SILENT);
    double share = process_cpu_share(server.pid, 0.8);
    expect(share < (subject.sanitized ? 0.15 : 0.05),
           "with '%s' and %d silent clients, expected less than 5 %% of a CPU, but it took %.0f %%",
           args, SILENT, share * 100);
    for (int i = 1; i < SILENT; i++)
        close(fds[i]);
    double wait = strcmp(args, "--pause 10") == 0 ? wait_after_silence(fds[0], 9) : 0;
    expect(wait < 0.25,
           "with '%s', expected an answer to who speaks after a silence within 0.25 s, but it took "
           "%.3f s (the median of 9)",
           args, wait);
    close(fds[0]);
    int status = process_end(&server, SIGTERM);
    expect(status == 0, "with '%s', expected exit status 0 after SIGTERM, but it was %d", args,
           status);
}

/* The longest pause, too: tv_nsec, for one, must be below a second. */
static void rests_when_idle(void)
{
    expect_rest("--pause 10");
    expect_rest("--pause 1000");
}

static void expect_one_pause(int fd, int pause, int times)
{
    double wait = wait_after_silence(fd, times) * 1000;
    expect(wait > pause / 3.0,
           "with '--pause %d', expected that who speaks after a silence waits for most of a pause, "
           "but the answer came after %.0f ms (the median of %d)",
           pause, wait, times);
    expect(
        wait < 3.0 * pause,
        "with '--pause %d' and %d clients, expected that who speaks after a silence waits for "
        "one pause at most, but the answer took %.0f ms (the median of %d): is there one pause a "
        "round, in milliseconds?",
        pause, SILENT, wait, times);
}

/* The length cannot be known before, and does not grow with the number of clients. */
static void pause_is_as_asked(void)
{
    int fds[SILENT];
    char args[32];
    srand((unsigned)getpid()); /* another length each time */
    int pause = 150 + rand() % 100;
    snprintf(args, sizeof args, "--pause %d", pause);
    start(args);
    connect_silent(args, fds, SILENT);
    expect_one_pause(fds[0], pause, 5);
    for (int i = 0; i < SILENT; i++)
        close(fds[i]);
}

/* 1 MiB is 16 rounds or more. Three times, for a round in vain may come in between now and then. */
static void work_is_not_paused(void)
{
    enum { PAUSE = 250, LENGTH = 1 << 20, ROUNDS = LENGTH / (64 * 1024) };
    int fds[SILENT];
    double best = 1e9, limit = ROUNDS * PAUSE / 1000.0 / 2;
    start("--pause 250");
    connect_silent("--pause 250", fds, SILENT);
    expect_one_pause(fds[0], PAUSE, 3);
    for (int i = 0; i < 3 && best > limit; i++) {
        double begun = now();
        expect(client_exchange(fds[0], pattern(LENGTH), LENGTH, LENGTH), "1 MiB did not come back");
        if (now() - begun < best)
            best = now() - begun;
    }
    expect(best < limit,
           "with '--pause 250' and others silent, expected 1 MiB back in less than %.1f s, but it "
           "took %.1f s (the best of 3), which is %.0f pauses: only a round in which nobody wanted "
           "anything is to be followed by one",
           limit, best, best * 1000 / PAUSE);
    for (int i = 0; i < SILENT; i++)
        close(fds[i]);
}

static void echo_is_exact(void)
{
    echoes_exactly("--pause 5");
}

/* --- connecting to many ports at once --- */

enum kind { OPEN, REFUSED, NO_ANSWER };
static const char *const answers[] = {"open", "refused", "no answer"};

enum { MANY = 200, ROOM = 128 /* connections that an open port takes */ };

/* A port of ours. It is bound all the time, so nobody else gets it. */
struct port {
    enum kind kind;
    int number, fd;
};

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* Starts a connection that is left as it is. */
static int knock(int port)
{
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert(fd >= 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        ck_assert_int_eq(errno, EINPROGRESS);
    return fd;
}

static bool is_connected(int fd, double seconds)
{
    return poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, (int)(seconds * 1000)) == 1;
}

/* One that does not answer has a queue for one connection, and that one is there: Linux drops
 * whatever else comes, as a firewall would. */
static struct port port_open(enum kind kind)
{
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    struct port port = {.kind = kind, .fd = socket(AF_INET, SOCK_STREAM, 0)};
    ck_assert(port.fd >= 0 && bind(port.fd, (struct sockaddr *)&address, size) == 0 &&
              getsockname(port.fd, (struct sockaddr *)&address, &size) == 0);
    fcntl(port.fd, F_SETFD, FD_CLOEXEC);
    port.number = ntohs(address.sin_port);
    if (kind != REFUSED)
        ck_assert_int_eq(listen(port.fd, kind == OPEN ? ROOM : 0), 0);
    if (kind == NO_ANSWER)
        ck_assert(is_connected(knock(port.number), patience()));
    return port;
}

/* Opens ports of these kinds, and puts them in any order. False where a full queue refuses. */
static bool ports_open(struct port ports[], int open, int refused, int no_answer)
{
    int count = 0;
    srand((unsigned)getpid());
    for (int i = 0; i < no_answer; i++)
        ports[count++] = port_open(NO_ANSWER);
    int last = no_answer ? knock(ports[count - 1].number) : -1;
    bool silent = !no_answer || !is_connected(last, 0.2);
    close(last);
    for (int i = 0; i < open + refused; i++)
        ports[count++] = port_open(i < open ? OPEN : REFUSED);
    for (int i = count - 1; i > 0; i--) {
        int other = rand() % (i + 1);
        struct port port = ports[i];
        ports[i] = ports[other];
        ports[other] = port;
    }
    return silent;
}

/* The arguments to try them with: lasts until the next call. */
static const char *arguments(int timeout, const struct port ports[], int count)
{
    static char text[32 + 6 * MANY];
    int length = snprintf(text, sizeof text, "--timeout %d", timeout);
    for (int i = 0; i < count; i++)
        length += snprintf(text + length, sizeof text - (size_t)length, " %d", ports[i].number);
    return text;
}

/* Compares what the program has printed line by line. */
static void expect_answers(const struct port ports[], int count)
{
    char *rest = server.output, line[64];
    expect(server.status == 0, "expected exit status 0, but it was %d; stderr: %.250s",
           server.status, server.errors);
    for (int i = 0; i < count; i++) {
        size_t length = strcspn(rest, "\n");
        snprintf(line, sizeof line, "%d %s", ports[i].number, answers[ports[i].kind]);
        expect(length == strlen(line) && strncmp(rest, line, length) == 0,
               "for %d ports, expected line %d to be '%s', but it is '%.*s'", count, i + 1, line,
               length < 60 ? (int)length : 60, rest);
        rest += length + (rest[length] == '\n');
    }
    expect(!*rest, "for %d ports, expected %d lines, but there is more: '%.60s'", count, count,
           rest);
}

/* The time-out is one that must not be waited for. */
static void answers_are_right(void)
{
    struct port ports[6];
    ports_open(ports, 3, 3, 0);
    run_program(arguments(60000, ports, 6), patience());
    expect_answers(ports, 6);
}

static void arguments_are_looked_at(void)
{
    static const char *const wrong[] = {"",
                                        "0",
                                        "65536",
                                        "http",
                                        "80 -1",
                                        "80x",
                                        "--timeout 0 80",
                                        "80 --timeout",
                                        "--fast 1",
                                        "--timeout 5",
                                        "--timeout 60001 1"};
    for (int i = 0; i < COUNT(wrong); i++) {
        run_program(wrong[i], patience());
        expect(server.status == 2 && strchr(server.errors, '\n'),
               "run with '%s', expected exit status 2 and a line on stderr, but the status was %d",
               wrong[i], server.status);
    }
    run_program("--help", patience());
    expect(server.status == 0 && *server.output,
           "run with --help, expected exit status 0 and the usage on stdout, but the status was %d",
           server.status);
}

static void silent_port_holds_up_nobody(void)
{
    struct port ports[5];
    if (!ports_open(ports, 2, 2, 1))
        return;
    run_program(arguments(300, ports, 5), patience());
    expect_answers(ports, 5);
}

/* While it runs, all of them are in one thread: that a connect() blocks is no answer. */
static void expect_one_thread(void)
{
    int threads = process_threads(server.pid), children = process_children(server.pid, NULL, 0);
    expect(threads <= 1 + subject.sanitized && children <= 0,
           "while ports did not answer, expected one process with one thread, which starts all "
           "attempts and waits for none, but there were %d threads and %d child processes",
           threads, children);
}

/* Runs it as run_program() does, and looks at it meanwhile. Returns how many ms it took. */
static double run_and_look(int timeout, const struct port ports[], int count, double timeouts)
{
    double begun = now(), limit = begun + timeouts * timeout / 1000;
    server = process_start_words(subject.server, arguments(timeout, ports, count), 0);
    siginfo_t end = {0};
    for (; now() < limit && end.si_pid == 0; sleep_for(0.02)) {
        process_read_output(&server);
        expect_one_thread();
        waitid(P_PID, (id_t)server.pid, &end, WEXITED | WNOHANG | WNOWAIT);
    }
    double took = (now() - begun) * 1000;
    expect(end.si_pid != 0,
           "with %d ports and --timeout %d, expected an end after one time-out, but it still ran "
           "after %.0f ms: %.0f time-outs",
           count, timeout, took, took / timeout);
    process_end(&server, 0);
    return took;
}

static void waits_at_the_same_time(void)
{
    enum { TIMEOUT = 500, COUNT = 6 };
    struct port ports[COUNT];
    if (!ports_open(ports, 0, 0, COUNT))
        return;
    double took = run_and_look(TIMEOUT, ports, COUNT, 2 * COUNT);
    expect_answers(ports, COUNT);
    expect(took > 0.8 * TIMEOUT,
           "with %d ports that do not answer and --timeout %d, expected it to wait %d ms, but it "
           "ended after %.0f ms",
           COUNT, TIMEOUT, TIMEOUT, took);
    expect(took < 4 * TIMEOUT,
           "with %d ports that do not answer and --timeout %d, expected it to wait for all of them "
           "at the same time, %d ms, but it took %.0f ms: %.1f time-outs",
           COUNT, TIMEOUT, TIMEOUT, took, took / TIMEOUT);
}

static void many_at_once(void)
{
    enum { TIMEOUT = 600, SILENT_ONES = 20 };
    struct port ports[MANY];
    int open = 50 + (int)getpid() % 80;
    if (!ports_open(ports, open, MANY - open - SILENT_ONES, SILENT_ONES))
        return;
    double took = run_and_look(TIMEOUT, ports, MANY, 1.2 * SILENT_ONES);
    expect_answers(ports, MANY);
    expect(took < 5 * TIMEOUT,
           "with %d ports, %d of them without an answer, and --timeout %d, expected an end after "
           "one time-out, but it took %.0f ms: %.1f time-outs",
           MANY, SILENT_ONES, TIMEOUT, took, took / TIMEOUT);
}

/* Two ports that answer only when the kernel knocks again, a second later: by then one has room in
 * its queue, and the other has no listener any more. On loopback all other answers are there before
 * connect() returns. */
static void late_answers_are_heard(void)
{
    enum { COUNT = 4, TIMEOUT = 2300 };
    struct port ports[COUNT];
    if (!ports_open(ports, 0, 0, COUNT))
        return;
    int opens = rand() % COUNT, refuses = (opens + 1) % COUNT;
    server = process_start_words(subject.server, arguments(TIMEOUT, ports, COUNT), 0);
    for (double late = now() + 0.4; process_has(server.pid, "socket:") < COUNT && now() < late;)
        sleep_for(0.01);
    sleep_for(0.1); /* they have knocked, too */
    listen(ports[opens].fd, ROOM);
    close(ports[refuses].fd);
    ports[opens].kind = OPEN;
    ports[refuses].kind = REFUSED;
    process_end(&server, 0);
    expect(server.status != 128 + SIGKILL,
           "with 4 ports of which 2 answer after a second, and --timeout %d, expected an end, but "
           "it still ran after %d s",
           TIMEOUT, patience());
    expect_answers(ports, COUNT);
}

const struct exercise exercises_02[] = {
    {"02-nonblocking-polling/pause",
     20,
     false,
     {{"bytes come back exactly, and a half-close is answered", echo_is_exact, 1, true},
      {"while nobody speaks, it rests", rests_when_idle, 2, false},
      {"there is one pause a round, as long as asked for", pause_is_as_asked, 1, false},
      {"while there is work, there is no pause", work_is_not_paused, 1, false}}},
    {"02-nonblocking-polling/connect",
     60,
     false,
     {{"open and refused ports are told apart, in order", answers_are_right, 1, true},
      {"wrong arguments are refused", arguments_are_looked_at, 1, true},
      {"a port that does not answer holds up no other", silent_port_holds_up_nobody, 2, false},
      {"six that do not answer take one time-out", waits_at_the_same_time, 2, false},
      {"200 ports are tried at once", many_at_once, 2, false},
      {"an answer that comes late is heard, and is the right one", late_answers_are_heard, 2,
       false}}},
    {0},
};
