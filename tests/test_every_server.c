/* What all servers have in common: the command line, how they end, and that they stay up. */
#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier): prlimit() */
#include "suite.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PLENTY = 120 }; /* seconds a test may take on a slow, busy machine */
static const size_t MIB = 1 << 20;

/* --- the command line --- */

/* Runs the server with these arguments to its end, or to its start line, and ends it then. */
static struct process run_server(const char *first, const char *second)
{
    const char *argv[] = {subject.server, first, second, NULL};
    struct process process = process_start(argv, 0);
    process_end(&process, process_listening(&process) >= 0 ? SIGTERM : 0);
    return process;
}

START_TEST(help_goes_to_stdout)
{
    struct process process = run_server("--help", NULL);
    ck_assert_int_eq(process.status, 0);
    ck_assert_ptr_nonnull(strstr(process.output, "--host"));
    ck_assert_ptr_nonnull(strstr(process.output, "8000"));
    ck_assert_str_eq(process.errors, "");
}
END_TEST

static const struct {
    const char *first, *second, *named;
} bad_arguments[] = {
    {"abc", NULL, "abc"},
    {"80x", NULL, "80x"},
    {"-1", NULL, "-1"},
    {"+1", NULL, "+1"},
    {"65536", NULL, "65536"},
    {"99999999999999999999", NULL, "99999999999999999999"},
    {"", NULL, ""},
    {" 0", NULL, " 0"},
    {"0x50", NULL, "0x50"},
    {"8000.5", NULL, "8000.5"},
    {"--nonsense", NULL, "--nonsense"},
    {"-h", NULL, "-h"},
    {"--host", NULL, "--host"},
    {"--host", "nonsense", "nonsense"},
    {"--host", "256.0.0.1", "256.0.0.1"},
    {"--host", "", ""},
    {"0", "1", "1"},
    {"0", "more", "more"},
};

START_TEST(bad_argument_is_named)
{
    const char *first = bad_arguments[_i].first, *second = bad_arguments[_i].second;
    struct process process = run_server(first, second);
    ck_assert_msg(process.status == 2, "'%s' '%s': exit status %d", first, second ? second : "",
                  process.status);
    ck_assert_str_eq(process.output, "");
    ck_assert_int_eq(lines_in(process.errors), 1);
    ck_assert_ptr_nonnull(strstr(process.errors, bad_arguments[_i].named));
    ck_assert_ptr_nonnull(strstr(process.errors, "65535")); /* what is accepted */
    ck_assert_ptr_nonnull(strstr(process.errors, "--host"));
}
END_TEST

static const struct {
    const char *value, *named;
} bad_backends[] = {{NULL, "--backend"}, {"nonsense", "nonsense"}, {"", ""}};

START_TEST(bad_backend_is_named)
{
    struct process process = run_server("--backend", bad_backends[_i].value);
    ck_assert_int_eq(process.status, 2);
    ck_assert_str_eq(process.output, "");
    ck_assert_int_eq(lines_in(process.errors), 1);
    ck_assert_ptr_nonnull(strstr(process.errors, bad_backends[_i].named));
    ck_assert_ptr_nonnull(strstr(process.errors, "poll")); /* what is accepted */
}
END_TEST

START_TEST(port_in_use)
{
    char port[16];
    snprintf(port, sizeof port, "%d", server.port);
    struct process second = run_server(port, NULL);
    ck_assert_int_eq(second.status, 1);
    ck_assert_str_eq(second.output, "");
    ck_assert_int_eq(lines_in(second.errors), 1);
    ck_assert(strstr(second.errors, strerror(EADDRINUSE)) ||
              strstr(second.errors, "Address in use")); /* as musl says it */
}
END_TEST

START_TEST(address_that_is_not_ours)
{
    struct process process = run_server("--host", "192.0.2.1"); /* TEST-NET-1: nobody's address */
    ck_assert_int_eq(process.status, 1);
    ck_assert_int_eq(lines_in(process.errors), 1);
    ck_assert(strstr(process.errors, strerror(EADDRNOTAVAIL)) ||
              strstr(process.errors, "Address not available")); /* as musl says it */
}
END_TEST

START_TEST(default_is_127_0_0_1_port_8000)
{
    struct process process = run_server(NULL, NULL);
    /* somebody else may have the port: then the complaint names it */
    ck_assert_msg(strstr(process.output, "listening on 127.0.0.1:8000\n") == process.output ||
                      (process.status == 1 && strstr(process.errors, "8000")),
                  "stdout '%s', stderr '%s'", process.output, process.errors);
}
END_TEST

START_TEST(host_is_listened_on)
{
    struct process all = server_start(subject.server, "--host 0.0.0.0", 0);
    char line[64];
    snprintf(line, sizeof line, "listening on 0.0.0.0:%d\n", all.port);
    ck_assert_str_eq(all.output, line);
    int fd = client_connect(all.port);
    ck_assert(fd >= 0 && is_served(fd));
    close(fd);
    ck_assert_int_eq(process_end(&all, SIGTERM), 0);
}
END_TEST

START_TEST(options_may_follow_the_port)
{
    const char *argv[] = {subject.server, "0", "--host", "127.0.0.1", NULL};
    struct process process = process_start(argv, 0);
    ck_assert_int_gt(process_listening(&process), 0);
    ck_assert_int_eq(process_end(&process, SIGTERM), 0);
}
END_TEST

/* Start line first, totals last, nothing else. */
START_TEST(totals_are_right)
{
    char expected[128];
    bool http = subject.chapter >= FIRST_HTTP_CHAPTER;
    for (int i = 0; i < 3; i++) {
        int fd = connect_client();
        ck_assert(http ? is_served(fd) : client_echo(fd, "ten bytes!"));
        shutdown(fd, SHUT_WR);
        ck_assert(client_at_eof(fd));
        close(fd);
    }
    ck_assert_int_eq(process_end(&server, SIGTERM), 0);
    snprintf(expected, sizeof expected, "listening on 127.0.0.1:%d\nserved 3 %s\n", server.port,
             subject.chapter == 9 ? "requests, 0 tasks left unfinished"
             : http               ? "requests"
                                  : "clients, 30 bytes");
    ck_assert_str_eq(server.output, expected);
    ck_assert_str_eq(server.errors, "");
}
END_TEST

/* Sends and does not read, until the server owes more than the connection holds. */
static void become_owed(int fd)
{
    if (subject.chapter < FIRST_HTTP_CHAPTER) {
        send_until_stuck(fd, pattern(16 * MIB), 16 * MIB);
        return;
    }
    char *requests = http_pipeline("/", 100000);
    send_until_stuck(fd, requests, strlen(requests));
    free(requests);
}

static const int ending_signals[] = {SIGTERM, SIGINT};

/* With 50 clients connected, some of them owed bytes: ends, and the port is free again at once. */
START_TEST(signal_ends_it)
{
    int fds[50];
    for (int i = 0; i < 50; i++) {
        fds[i] = connect_client();
        ck_assert(client_asks(fds[i]));
    }
    ck_assert(client_has_input(fds[0], patience()));
    become_owed(fds[0]);
    ck_assert_int_eq(process_end(&server, ending_signals[_i]), 0);
    ck_assert_ptr_nonnull(strstr(server.output, "\nserved "));
    ck_assert_int_eq(lines_in(server.output), 2);

    char port[16];
    snprintf(port, sizeof port, "%d", server.port);
    struct process again = run_server(port, NULL);
    ck_assert_msg(again.status == 0,
                  "started again on the same port: exit status %d, stdout %s, stderr %s",
                  again.status, again.output, again.errors);
    for (int i = 0; i < 50; i++)
        close(fds[i]);
}
END_TEST

/* The moment of the signal must not matter: in the middle of a call, or between two. */
START_TEST(signal_at_any_moment)
{
    for (int i = 0; i < 25; i++) {
        struct process process = server_start(subject.server, subject.args, 0);
        int fd = client_connect(process.port);
        sleep_for(0.0002 * i);
        ck_assert_int_eq(process_end(&process, SIGTERM), 0);
        close(fd);
    }
}
END_TEST

START_TEST(sigpipe_and_stop_and_continue)
{
    int fd = connect_client();
    ck_assert(is_served(fd));
    kill(server.pid, SIGPIPE);
    kill(server.pid, SIGSTOP);
    sleep_for(0.05);
    kill(server.pid, SIGCONT);
    ck_assert(is_served(fd));
    close(fd);
}
END_TEST

START_TEST(gone_before_it_was_accepted)
{
    kill(server.pid, SIGSTOP);
    for (int i = 0; i < 100; i++)
        client_reset(connect_client());
    kill(server.pid, SIGCONT);
    int fd = connect_client();
    ck_assert(is_served(fd));
    close(fd);
}
END_TEST

/* --- out of descriptors --- */

enum { KNOCKING = 100, FEW = 32 };

/* Of the clients that knock, how many have been answered? Those are marked in served. */
static int count_served(const int *fds, bool *served, double seconds)
{
    int count = 0;
    for (double end = now() + seconds; now() < end; sleep_for(0.02)) {
        count = 0;
        for (int i = 0; i < KNOCKING; i++)
            count += served[i] = fds[i] >= 0 && client_has_input(fds[i], 0);
    }
    return count;
}

/* 09 keeps a descriptor back for each of its workers, and has as many as there are CPUs. */
static struct process start_with(int descriptors)
{
    const char *args = subject.chapter == 9 ? "--workers 1" : subject.args;
    return server_start(subject.server, args, descriptors);
}

START_TEST(out_of_descriptors)
{
    int fds[KNOCKING], left = KNOCKING;
    bool served[KNOCKING];
    server = start_with(FEW);
    for (int i = 0; i < KNOCKING; i++) {
        fds[i] = connect_client();
        ck_assert(client_asks(fds[i]));
    }
    int count = count_served(fds, served, 1);
    ck_assert_msg(subject.chapter == 1 ? count == 1 : count > FEW / 3 && count < FEW,
                  "%d clients served with %d descriptors", count, FEW);
    if (subject.chapter != 2) {
        double share = process_cpu_share(server.pid, 1);
        ck_assert_msg(share < 0.2, "%.0f %% CPU while others wait", share * 100);
    }
    while (left > 0) { /* those who are in go on; each who leaves makes room for another */
        double deadline = now() + patience();
        while (count_served(fds, served, 0.01) == 0)
            ck_assert_msg(now() < deadline, "%d clients are still waiting, nobody is served", left);
        for (int i = 0; i < KNOCKING; i++)
            if (served[i]) {
                ck_assert(client_is_answered(fds[i]));
                ck_assert_msg(is_served(fds[i]), "a client that was in is not served");
                close(fds[i]);
                fds[i] = -1;
                left--;
            }
    }
}
END_TEST

/* A descriptor may become free without anybody leaving, so that nothing happens that would wake the
 * server: it has to look by itself. */
START_TEST(more_descriptors_while_it_runs)
{
    server = start_with(subject.chapter == 9 ? 16 : 12);
#ifdef __linux__
    int fds[12];
    for (int i = 0; i < 12; i++) {
        fds[i] = connect_client();
        ck_assert(client_asks(fds[i]));
    }
    ck_assert(!client_has_input(fds[11], 0.5));
    struct rlimit limit;
    ck_assert_int_eq(prlimit(server.pid, RLIMIT_NOFILE, NULL, &limit), 0);
    limit.rlim_cur = FEW;
    ck_assert_int_eq(prlimit(server.pid, RLIMIT_NOFILE, &limit, NULL), 0);
    ck_assert_msg(client_has_input(fds[11], patience()), "descriptors are free, and none is used");
#endif
}
END_TEST

#ifdef __linux__
static void set_descriptor_limit(rlim_t limit)
{
    struct rlimit old;
    ck_assert_int_eq(prlimit(server.pid, RLIMIT_NOFILE, NULL, &old), 0);
    old.rlim_cur = limit;
    ck_assert_int_eq(prlimit(server.pid, RLIMIT_NOFILE, &old, NULL), 0);
}

/* Less than what is open already: calls that look at the limit, as poll() does, fail then. */
START_TEST(fewer_descriptors_while_it_runs)
{
    int fds[10], count = subject.chapter == 1 ? 1 : COUNT(fds);
    for (int i = 0; i < count; i++) {
        fds[i] = connect_client();
        ck_assert(is_served(fds[i]));
    }
    set_descriptor_limit(4);
    int late = connect_client();
    ck_assert(client_asks(late));
    for (int i = 0; i < count; i++)
        ck_assert_msg(is_served(fds[i]), "a client that was in is not served");
    double share = process_cpu_share(server.pid, 0.5);
    ck_assert_msg(share < 0.2 || subject.chapter == 2, "%.0f %% CPU", share * 100);
    if (_i && subject.sanitized) /* a sanitizer needs descriptors to look for leaks */
        set_descriptor_limit(100);
    if (_i) /* fixture stop_server() sends SIGTERM now */
        return;
    set_descriptor_limit(100);
    for (int i = 0; i < count; i++)
        close(fds[i]);
    ck_assert_msg(client_has_input(late, patience()), "never accepts again");
    ck_assert(client_is_answered(late) && is_served(late));
    close(late);
}
END_TEST
#endif

/* --- accept() fails, and goes on failing --- */

static const char *const accept_errors[] = {"ECONNABORTED", "EINTR", "EINVAL", "EIO",
                                            "EMFILE",       "EPERM", "EPROTO"};

/* Makes accept() fail from now on, until process_end() of what is returned. */
static struct process fail_accept(const char *error, const char *log)
{
    char options[256];
    snprintf(options, sizeof options,
             "-o %s -e trace=?accept,?accept4 --inject=?accept,?accept4:error=%s", log, error);
    struct process strace = strace_attach(server.pid, options);
    if (strace.status != -1)
        fprintf(stderr, "accept_fails: skipped, strace does not work here\n");
    return strace;
}

/* What is not one client's own fault is waited out. ECONNABORTED is: the next in the queue is
 * tried, which SOMAXCONN says how many there may be of. 02 asks all the time, on purpose. */
static void assert_no_spinning(const char *log, const char *error)
{
    int before = lines_of_file(log);
    sleep_for(0.3);
    int calls = lines_of_file(log) - before;
    ck_assert_msg(calls < 200 || subject.chapter == 2 || strcmp(error, "ECONNABORTED") == 0,
                  "accept() is called %d times in 0.3 s", calls);
}

/* Whatever accept() says: clients that are in are served, SIGTERM is heard, and when the trouble is
 * over, those who waited are served. Even numbers: the trouble ends; odd ones: the server does. */
START_TEST(accept_fails)
{
    char log[] = "build/accept-XXXXXX";
    const char *error = accept_errors[_i / 2];
    if (_i % 2 && subject.sanitized) /* the leak checker cannot work while strace looks on */
        return;
    int in = -1, file = mkstemp(log);
    ck_assert_int_ge(file, 0);
    close(file);
    if (subject.chapter > 1) /* which is in accept() only while it has no client */
        ck_assert(is_served(in = connect_client()));
    struct process strace = fail_accept(error, log);
    if (strace.status == -1) {
        int late = connect_client();
        ck_assert(client_asks(late));
        assert_no_spinning(log, error);
        ck_assert(in < 0 || is_served(in));
        if (_i % 2)
            stop_server();
        process_end(&strace, SIGTERM);
        ck_assert(_i % 2 || (client_has_input(late, patience()) && client_is_answered(late)));
        close(late);
    }
    close(in);
    unlink(log);
    if (server.status == -1)
        stop_server();
}
END_TEST

/* Linux lets an administrator end a socket of anybody's: accept() on it says EINVAL from then on.
 */
START_TEST(listener_destroyed)
{
    char command[128];
    int in = -1, fd = -1;
    if (subject.chapter > 1)
        ck_assert(is_served(in = connect_client()));
    snprintf(command, sizeof command, "ss -K -l -t -n 'sport = :%d' > /dev/null 2>&1", server.port);
    if (system(command) != 0 || (fd = client_connect(server.port)) >= 0) {
        fprintf(stderr, "listener_destroyed: skipped, ss -K does not work here\n");
        close(fd);
        close(in);
        return;
    }
    double share = process_cpu_share(server.pid, 0.5);
    ck_assert_msg(share < 0.3 || subject.chapter == 2, "%.0f %% CPU", share * 100);
    ck_assert(in < 0 || is_served(in));
    close(in);
}
END_TEST

static void add_shortage_tests(Suite *suite)
{
    TCase *accepting = tcase_create("accepting");
    tcase_set_timeout(accepting, PLENTY);
    tcase_add_checked_fixture(accepting, start_server, NULL);
    tcase_add_loop_test(accepting, accept_fails, 0, 2 * COUNT(accept_errors));
    suite_add_tcase(suite, accepting);

    TCase *destroyed = tcase_create("destroyed");
    tcase_set_timeout(destroyed, PLENTY);
    tcase_add_checked_fixture(destroyed, start_server, stop_server);
    tcase_add_test(destroyed, listener_destroyed);
    suite_add_tcase(suite, destroyed);

    TCase *descriptors = tcase_create("descriptors");
    tcase_set_timeout(descriptors, PLENTY);
    tcase_add_checked_fixture(descriptors, NULL, stop_server);
    tcase_add_test(descriptors, out_of_descriptors);
    if (subject.chapter > 1)
        tcase_add_test(descriptors, more_descriptors_while_it_runs);
    suite_add_tcase(suite, descriptors);
}

Suite *every_server_suite(void)
{
    Suite *suite = suite_create("every server");
    TCase *alone = tcase_create("alone");
    tcase_set_timeout(alone, PLENTY);
    tcase_add_test(alone, help_goes_to_stdout);
    tcase_add_loop_test(alone, bad_argument_is_named, 0,
                        sizeof bad_arguments / sizeof *bad_arguments);
    if (subject.chapter >= FIRST_HTTP_CHAPTER)
        tcase_add_loop_test(alone, bad_backend_is_named, 0,
                            sizeof bad_backends / sizeof *bad_backends);
    tcase_add_test(alone, address_that_is_not_ours);
    tcase_add_test(alone, default_is_127_0_0_1_port_8000);
    tcase_add_test(alone, host_is_listened_on);
    tcase_add_test(alone, options_may_follow_the_port);
    tcase_add_test(alone, signal_at_any_moment);
    suite_add_tcase(suite, alone);

    TCase *ending = tcase_create("ending");
    tcase_set_timeout(ending, PLENTY);
    tcase_add_checked_fixture(ending, start_server, NULL);
    tcase_add_test(ending, totals_are_right);
    tcase_add_loop_test(ending, signal_ends_it, 0, 2);
    suite_add_tcase(suite, ending);

    TCase *running = tcase_create("running");
    tcase_set_timeout(running, PLENTY);
    tcase_add_checked_fixture(running, start_server, stop_server);
    tcase_add_test(running, port_in_use);
    tcase_add_test(running, sigpipe_and_stop_and_continue);
    tcase_add_test(running, gone_before_it_was_accepted);
#ifdef __linux__
    tcase_add_loop_test(running, fewer_descriptors_while_it_runs, 0, 2);
#endif
    suite_add_tcase(suite, running);

    add_shortage_tests(suite);
    return suite;
}
