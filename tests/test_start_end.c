/* How every server starts and ends: whatever its standard streams are, however few descriptors it
 * gets, and whenever a signal comes. */
#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier): prlimit() */
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PLENTY = 120 }; /* seconds a test may take on a slow, busy machine */
/* Seconds in which a signal ends a server. It promises one; the others are for slow machines. What
 * is wrong waits for ever. */
enum { SOON = 5 };

/* Starts the server; prepare() changes what it inherits. */
static struct process start_prepared(void (*prepare)(void), const char *port)
{
    char args[256];
    snprintf(args, sizeof args, "%s %s", subject.args, port);
    process_prepare = prepare;
    struct process process = process_start_words(subject.server, args, 0);
    process_prepare = NULL;
    return process;
}

/* --- standard streams --- */

static int closed; /* a bit for each of the streams that the server starts without */

static bool is_closed(int fd)
{
    return closed & 1 << fd;
}

static void close_streams(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (is_closed(fd))
            close(fd);
}

/* A port for a server that cannot say which one it got: lower than those that kernels hand out. */
static int own_port(void)
{
    return 20000 + (int)getpid() % 10000;
}

/* client_connect() to a server that is still starting. -1 if it ends instead. */
static int connect_in_time(const struct process *process, int port)
{
    int fd = -1;
    for (double end = now() + patience(); fd < 0 && now() < end; sleep_for(0.01)) {
        fd = client_connect(port);
        if (fd < 0 && process_ends_within(process, 0.001))
            break;
    }
    return fd;
}

/* In the place of a stream that is closed there is /dev/null, and no client's or helper's socket:
 * that would get what the server prints. */
static void assert_streams(pid_t pid)
{
#ifdef __linux__
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        char path[64], target[64] = "";
        snprintf(path, sizeof path, "/proc/%ld/fd/%d", (long)pid, fd);
        ck_assert_int_gt(readlink(path, target, sizeof target - 1), 0);
        ck_assert_msg(!is_closed(fd) || strcmp(target, "/dev/null") == 0, "%d is %s", fd, target);
    }
#else
    (void)pid;
#endif
}

static const int some_closed[] = {1 << 0, 1 << 1, 1 << 2, 7};

START_TEST(closed_streams)
{
    char text[16];
    int port = own_port();
    closed = some_closed[_i];
    snprintf(text, sizeof text, "%d", port);
    struct process process = start_prepared(close_streams, text);
    int fd = connect_in_time(&process, port);
    ck_assert_msg(fd >= 0 && is_served(fd), "not served; stderr: %s", process.errors);
    assert_streams(process.pid);
    if (subject.chapter >= 9) { /* its helper and its workers live with that, too */
        struct http_client client = http_connect(port);
        assert_status(&client, http_get(&client, "/compute?n=10"), 200);
        http_close(&client);
    }
    close(fd);
    ck_assert_int_eq(process_end(&process, SIGTERM), 0);
    ck_assert_int_eq(lines_in(process.output), is_closed(STDOUT_FILENO) ? 0 : 2);
    ck_assert_str_eq(process.errors, "");
}
END_TEST

static int server_stdout;

static void replace_stdout(void)
{
    if (dup2(server_stdout, STDOUT_FILENO) < 0)
        _exit(99);
}

static int server_stderr;

static void replace_stderr(void)
{
    if (dup2(server_stderr, STDERR_FILENO) < 0)
        _exit(99);
}

/* Puts as much into the pipe as it takes, as a reader does who sleeps. */
static void fill(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    ck_assert_int_eq(fcntl(fd, F_SETFL, flags | O_NONBLOCK), 0);
    while (write(fd, "x", 1) == 1)
        ;
    ck_assert_int_eq(errno, EAGAIN);
    ck_assert_int_eq(fcntl(fd, F_SETFL, flags), 0); /* which the server has, too */
}

/* Nobody may keep a server alive by not reading what it prints. */
START_TEST(totals_nobody_reads)
{
    char text[16], line[64] = "";
    int ends[2], port = own_port();
    ck_assert_int_eq(pipe(ends), 0);
    server_stdout = ends[1];
    snprintf(text, sizeof text, "%d", port);
    struct process process = start_prepared(replace_stdout, text);
    int fd = connect_in_time(&process, port);
    ck_assert(fd >= 0 && is_served(fd));
    ck_assert_int_gt(read(ends[0], line, sizeof line - 1), 0);
    ck_assert_ptr_nonnull(strstr(line, "listening on "));
    fill(ends[1]);
    kill(process.pid, SIGTERM);
    ck_assert_msg(process_ends_within(&process, SOON), "waits for a reader of its totals");
    ck_assert_int_eq(process_end(&process, 0), 0);
    ck_assert_str_eq(process.errors, "");
    close(fd);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

/* select() ends at 1,024 descriptors, and the server says so on stderr: once, if that takes it. */
START_TEST(refusal_nobody_reads)
{
    int ends[2], fds[1100];
    ck_assert_int_eq(pipe(ends), 0);
    fill(ends[1]);
    server_stderr = ends[1];
    struct process process = start_prepared(replace_stderr, "0");
    int port = process_listening(&process), first = client_connect(port);
    ck_assert(first >= 0 && is_served(first));
    for (int i = 0; i < COUNT(fds); i++)
        fds[i] = client_connect(port);
    ck_assert_msg(is_served(first), "waits for a reader of stderr");
    for (int i = 0; i < COUNT(fds); i++)
        close(fds[i]);
    close(first);
    ck_assert_int_eq(process_end(&process, SIGTERM), 0);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

/* True once the process has a handler for SIGTERM. Where the system does not tell: false. */
static bool hears_sigterm(pid_t pid)
{
    return strtoull(process_status(pid, "SigCgt"), NULL, 16) >> (SIGTERM - 1) & 1;
}

START_TEST(start_line_nobody_reads)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    fill(ends[1]);
    server_stdout = ends[1];
    struct process process = start_prepared(replace_stdout, "0");
    for (double end = now() + patience(); now() < end && !hears_sigterm(process.pid);)
        sleep_for(0.01);
    sleep_for(0.2); /* it is printing now, or the test is easier than meant */
    kill(process.pid, SIGTERM);
    ck_assert_msg(process_ends_within(&process, SOON), "waits for a reader of its start line");
    ck_assert_int_eq(process_end(&process, 0), 0);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

/* Nobody would know the port: that is a failed start. */
START_TEST(start_line_refused)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    close(ends[0]);
    server_stdout = _i ? ends[1] : open("/dev/full", O_WRONLY);
    if (server_stdout >= 0) {
        struct process process = start_prepared(replace_stdout, "0");
        ck_assert_msg(process_ends_within(&process, patience()), "starts all the same");
        ck_assert_int_eq(process_end(&process, 0), 1);
        ck_assert_int_eq(lines_in(process.errors), 1);
        ck_assert_ptr_nonnull(strstr(process.errors, strerror(_i ? EPIPE : ENOSPC)));
    }
    close(ends[1]);
}
END_TEST

/* --- few descriptors --- */

enum { FEWEST = 3, ENOUGH = 24 };

static void assert_failed_start(struct process *process)
{
    int status = process_end(process, 0);
    if (status == 127)
        return; /* it has not even begun: the loader needs a descriptor to read the libraries */
    ck_assert_int_eq(status, 1);
    ck_assert_str_eq(process->output, "");
    ck_assert_int_eq(lines_in(process->errors), 1);
    ck_assert(strstr(process->errors, strerror(EMFILE)) ||
              strstr(process->errors, "No file descriptors")); /* as musl says it */
}

/* Returns once it waits for clients, or has ended (polling does neither), or if no /proc tells. */
static void let_settle(pid_t pid)
{
    for (double end = now() + 0.5; now() < end; sleep_for(0.001))
        if (strchr("SZ", *process_status(pid, "State")))
            return;
}

/* The server keeps its word that it listens: a client is served once descriptors are there. */
static void assert_serves(struct process *process)
{
    let_settle(process->pid); /* what it needs, it has to ask for while there are few */
    int fd = client_connect(process->port);
    ck_assert_msg(fd >= 0 && client_asks(fd), "\"listening on\", and then: %s", process->errors);
#ifdef __linux__
    struct rlimit limit;
    ck_assert_int_eq(prlimit(process->pid, RLIMIT_NOFILE, NULL, &limit), 0);
    limit.rlim_cur = 100;
    ck_assert_int_eq(prlimit(process->pid, RLIMIT_NOFILE, &limit, NULL), 0);
    ck_assert(client_has_input(fd, patience()));
#endif
    close(fd);
    ck_assert_int_eq(process_end(process, SIGTERM), 0);
}

/* "listening on" comes when nothing can go wrong any more. */
START_TEST(few_descriptors)
{
    char args[256];
    snprintf(args, sizeof args, "%s 0", subject.args);
    struct process process = process_start_words(subject.server, args, FEWEST + _i);
    if (process_listening(&process) > 0)
        assert_serves(&process);
    else
        assert_failed_start(&process);
}
END_TEST

/* --- signals --- */

/* A signal before main() ends any program; from its handlers on, which are the first thing that a
 * server makes, none is lost. */
START_TEST(early_signal)
{
    for (int i = 0; i < 100; i += subject.sanitized ? 5 : 1) {
        struct process process = start_prepared(NULL, "0");
        /* every other time, the clock starts with the handlers */
        for (double end = now() + 0.2; i % 2 && now() < end && !hears_sigterm(process.pid);)
            ;
        sleep_for(50e-6 * i);
        bool heard = hears_sigterm(process.pid);
        int status = process_end(&process, SIGTERM);
        ck_assert_msg(status == 0 || (status == 128 + SIGTERM && !heard),
                      "SIGTERM after %d us: exit status %d; stderr: %s", 50 * i, status,
                      process.errors);
        ck_assert_str_eq(process.errors, "");
    }
}
END_TEST

/* Signals while it ends already change nothing. */
START_TEST(many_signals)
{
    int fds[50];
    for (int i = 0; i < COUNT(fds); i++) {
        fds[i] = connect_client();
        ck_assert(client_asks(fds[i]));
    }
    double end = now() + patience();
    for (int i = 0; now() < end && !process_ends_within(&server, 0); i++)
        kill(server.pid, i % 2 ? SIGINT : SIGTERM);
    ck_assert_int_eq(process_end(&server, 0), 0);
    ck_assert_int_eq(lines_in(server.output), 2);
    ck_assert_str_eq(server.errors, "");
    for (int i = 0; i < COUNT(fds); i++)
        close(fds[i]);
}
END_TEST

Suite *start_end_suite(void)
{
    Suite *suite = suite_create("start and end");
    TCase *streams = tcase_create("streams");
    tcase_set_timeout(streams, PLENTY);
    tcase_add_loop_test(streams, closed_streams, 0, COUNT(some_closed));
    tcase_add_test(streams, totals_nobody_reads);
    tcase_add_test(streams, start_line_nobody_reads);
    tcase_add_loop_test(streams, start_line_refused, 0, 2);
    if (subject.chapter == 3 || strstr(subject.args, "select"))
        tcase_add_test(streams, refusal_nobody_reads);
    suite_add_tcase(suite, streams);

    TCase *few = tcase_create("few");
    tcase_set_timeout(few, PLENTY);
    if (!subject.sanitized) /* a sanitizer needs descriptors itself, and complains */
        tcase_add_loop_test(few, few_descriptors, 0, ENOUGH - FEWEST);
    suite_add_tcase(suite, few);

    TCase *signals = tcase_create("signals");
    tcase_set_timeout(signals, PLENTY);
    tcase_add_test(signals, early_signal);
    suite_add_tcase(suite, signals);

    TCase *repeated = tcase_create("repeated");
    tcase_set_timeout(repeated, PLENTY);
    tcase_add_checked_fixture(repeated, start_server, NULL);
    tcase_add_test(repeated, many_signals);
    suite_add_tcase(suite, repeated);
    return suite;
}
