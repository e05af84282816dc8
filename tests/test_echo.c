/* What every echo server owes its clients, whatever is inside. The command line, too. */
#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier): prlimit() */
#include "suite.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
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

static int lines_in(const char *text)
{
    int lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
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

START_TEST(port_in_use)
{
    char port[16];
    snprintf(port, sizeof port, "%d", server.port);
    struct process second = run_server(port, NULL);
    ck_assert_int_eq(second.status, 1);
    ck_assert_str_eq(second.output, "");
    ck_assert_int_eq(lines_in(second.errors), 1);
    ck_assert_ptr_nonnull(strstr(second.errors, strerror(EADDRINUSE)));
}
END_TEST

START_TEST(address_that_is_not_ours)
{
    struct process process = run_server("--host", "192.0.2.1"); /* TEST-NET-1: nobody's address */
    ck_assert_int_eq(process.status, 1);
    ck_assert_int_eq(lines_in(process.errors), 1);
    ck_assert_ptr_nonnull(strstr(process.errors, strerror(EADDRNOTAVAIL)));
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
    ck_assert(fd >= 0 && client_echo(fd, "from any address"));
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
    for (int i = 0; i < 3; i++) {
        int fd = connect_client();
        ck_assert(client_echo(fd, "ten bytes!"));
        shutdown(fd, SHUT_WR);
        ck_assert(client_at_eof(fd));
        close(fd);
    }
    ck_assert_int_eq(process_end(&server, SIGTERM), 0);
    snprintf(expected, sizeof expected, "listening on 127.0.0.1:%d\nserved 3 clients, 30 bytes\n",
             server.port);
    ck_assert_str_eq(server.output, expected);
    ck_assert_str_eq(server.errors, "");
}
END_TEST

static const int ending_signals[] = {SIGTERM, SIGINT};

/* With 50 clients connected, some of them owed bytes: ends, and the port is free again at once. */
START_TEST(signal_ends_it)
{
    int fds[50];
    for (int i = 0; i < 50; i++) {
        fds[i] = connect_client();
        ck_assert(client_send(fds[i], "x", 1));
    }
    ck_assert(client_has_input(fds[0], patience()));
    send_until_stuck(fds[0], pattern(16 * MIB), 16 * MIB);
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
    ck_assert(client_echo(fd, "before"));
    kill(server.pid, SIGPIPE);
    kill(server.pid, SIGSTOP);
    sleep_for(0.05);
    kill(server.pid, SIGCONT);
    ck_assert(client_echo(fd, "after"));
    close(fd);
}
END_TEST

Suite *command_line_suite(void)
{
    Suite *suite = suite_create("command line");
    TCase *alone = tcase_create("alone");
    tcase_set_timeout(alone, PLENTY);
    tcase_add_test(alone, help_goes_to_stdout);
    tcase_add_loop_test(alone, bad_argument_is_named, 0,
                        sizeof bad_arguments / sizeof *bad_arguments);
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
    suite_add_tcase(suite, running);
    return suite;
}

/* --- the bytes --- */

static const size_t lengths[] = {1,     2,      256,     4095,    65535,   65536,
                                 65537, 300000, 1 << 20, 8 << 20, 32 << 20};

START_TEST(bytes_come_back_exactly)
{
    size_t length = lengths[_i];
    int fd = connect_client();
    srand((unsigned)length);
    ck_assert(client_exchange(fd, pattern(length), length, length < 1000 ? 7 : length / 3));
    ck_assert_msg(!client_has_input(fd, 0.02), "more came back than was sent");
    shutdown(fd, SHUT_WR);
    ck_assert(client_at_eof(fd));
    close(fd);
}
END_TEST

START_TEST(byte_by_byte)
{
    int fd = connect_client();
    ck_assert(client_exchange(fd, pattern(20000), 20000, 1));
    close(fd);
}
END_TEST

/* A client that says "that was all" while much is still on its way gets all of it, then the end. */
START_TEST(half_close_gets_all_that_is_owed)
{
    static const size_t sizes[] = {0, 1, 70000, 64 << 20};
    int fd = connect_client();
    size_t sent = send_until_stuck(fd, pattern(sizes[_i]), sizes[_i]);
    shutdown(fd, SHUT_WR);
    sleep_for(0.1); /* let the end arrive before the first byte is taken */
    char *back = malloc(sent + 1);
    ck_assert_ptr_nonnull(back);
    ck_assert_msg(client_receive(fd, back, sent), "not all of %zu bytes came back", sent);
    ck_assert(sent == 0 || memcmp(back, pattern(sent), sent) == 0);
    ck_assert(client_at_eof(fd));
    free(back);
    close(fd);
}
END_TEST

/* --- clients that behave badly --- */

/* Clients that end in the worst moments; after each, somebody else is served. */
START_TEST(rude_clients_end_alone)
{
    for (int i = 0; i < 60; i++) {
        int rude = connect_client();
        if (i % 3 == 0) /* owes us nothing, we owe it much */
            send_until_stuck(rude, pattern(MIB), (size_t)(i + 1) * 10000);
        else if (i % 3 == 1)
            client_send(rude, "hello", 5); /* and no look at the answer */
        if (i % 2)
            client_reset(rude);
        else
            close(rude); /* with unread bytes, that is a reset, too: after ours have gone out */
        int polite = connect_client();
        ck_assert_msg(client_echo(polite, "still there?"), "after rude client %d", i);
        close(polite);
    }
}
END_TEST

START_TEST(gone_before_it_was_accepted)
{
    kill(server.pid, SIGSTOP);
    for (int i = 0; i < 100; i++)
        client_reset(connect_client());
    kill(server.pid, SIGCONT);
    int fd = connect_client();
    ck_assert(client_echo(fd, "I am here"));
    close(fd);
}
END_TEST

/* Sends 64 MiB and does not read: the server must not collect that, nor spin, nor forget others. */
START_TEST(back_pressure)
{
    size_t length = 64 * MIB;
    int warm = connect_client(), fd = connect_client();
    ck_assert(client_echo(warm, "first use of the heap"));
    if (subject.chapter == 1)
        close(warm); /* or the other would never have its turn */
    long before = process_memory_kib(server.pid);
    size_t sent = send_until_stuck(fd, pattern(length), length);
    if (before >= 0 && !subject.sanitized) {
        long grown = process_memory_kib(server.pid) - before;
        ck_assert_msg(grown < 1024, "%ld KiB grown for one client that does not read", grown);
    }
    if (subject.chapter > 1)
        for (int i = 0; i < 100; i++)
            ck_assert_msg(client_echo(warm, "meanwhile"), "held up by a client that does not read");
    if (subject.chapter != 2) {
        double share = process_cpu_share(server.pid, 0.5);
        ck_assert_msg(share < 0.2, "%.0f %% CPU while nobody reads or sends", share * 100);
    }
    char *back = malloc(sent);
    ck_assert_ptr_nonnull(back);
    ck_assert_msg(client_receive(fd, back, sent), "not all of %zu bytes came back", sent);
    ck_assert_msg(memcmp(back, pattern(sent), sent) == 0, "other bytes came back");
    ck_assert_msg(client_echo(fd, "and on"), "not read again after its bytes were taken");
    if (subject.chapter != 2) /* write interest must be gone with what was waiting */
        ck_assert(process_cpu_share(server.pid, 0.5) < 0.2);
    free(back);
    close(fd);
}
END_TEST

/* Buffers are for bytes that are owed: with those, they go. */
START_TEST(buffers_are_given_back)
{
    enum { SLOW = 8 };
    int fds[SLOW];
    size_t sent[SLOW];
    char *back = malloc(16 * MIB);
    ck_assert_ptr_nonnull(back);
    long before = process_memory_kib(server.pid);
    for (int i = 0; i < SLOW; i++) {
        fds[i] = connect_client();
        sent[i] = send_until_stuck(fds[i], pattern(16 * MIB), 16 * MIB);
    }
    for (int i = 0; i < SLOW; i++) {
        ck_assert(client_receive(fds[i], back, sent[i]));
        if (subject.chapter == 1)
            close(fds[i]);
    }
    sleep_for(0.1);
    long grown = process_memory_kib(server.pid) - before;
    ck_assert_msg(before < 0 || subject.sanitized || grown < SLOW * 64 / 2,
                  "%ld KiB are still held for %d clients that are owed nothing", grown, SLOW);
    free(back);
}
END_TEST

/* --- many clients --- */

START_TEST(clients_interleaved)
{
    enum { CLIENTS = 500 };
    int fds[CLIENTS];
    char back[3000];
    size_t together = subject.chapter == 1 ? 1 : CLIENTS; /* chapter 01 takes one at a time */
    for (size_t first = 0; first < CLIENTS; first += together) {
        for (size_t i = first; i < first + together; i++)
            fds[i] = connect_client();
        for (int round = 0; round < 3; round++) {
            for (size_t i = first; i < first + together; i++)
                ck_assert(client_send(fds[i], pattern(9000) + i * 3, 1 + i * 5));
            for (size_t i = first + together; i-- > first;) { /* the other way round */
                ck_assert(client_receive(fds[i], back, 1 + i * 5));
                ck_assert_msg(memcmp(back, pattern(9000) + i * 3, 1 + i * 5) == 0,
                              "client %zu got other bytes than its own", i);
            }
        }
        for (size_t i = first; i < first + together; i++)
            close(fds[i]);
    }
}
END_TEST

START_TEST(bulk_clients_at_once)
{
    int clients = subject.chapter == 1 ? 2 : 8;
    for (int i = 0; i < clients; i++)
        if (fork() == 0) {
            size_t length = (size_t)(i + 1) * MIB;
            int fd = client_connect(server.port);
            srand((unsigned)i);
            _exit(fd >= 0 && client_exchange(fd, pattern(length), length, 100000) ? 0 : 1);
        }
    for (int i = 0; i < clients; i++) {
        int status;
        ck_assert(wait(&status) > 0);
        ck_assert_msg(status == 0, "a client did not get its bytes back");
    }
}
END_TEST

/* True once the server has that many descriptors open; waits for it. */
static bool descriptors_become(int count)
{
    for (double end = now() + patience(); now() < end; sleep_for(0.01))
        if (process_descriptors(server.pid) == count)
            return true;
    return false;
}

START_TEST(nothing_is_left_of_those_who_leave)
{
    int fd = connect_client();
    ck_assert(client_echo(fd, "first"));
    close(fd);
    sleep_for(0.1);
    int before = process_descriptors(server.pid);
    long memory = process_memory_kib(server.pid);
    for (int i = 0; i < 5000; i++) {
        fd = connect_client();
        if (i % 50 == 0)
            ck_assert(client_echo(fd, "hello"));
        else if (i % 50 == 1)
            send_until_stuck(fd, pattern(MIB), 100000);
        client_reset(fd);
    }
    ck_assert_msg(descriptors_become(before), "%d descriptors open before, %d after", before,
                  process_descriptors(server.pid));
    long grown = process_memory_kib(server.pid) - memory;
    ck_assert_msg(subject.sanitized || grown < 1024, "%ld KiB left after 5,000 clients", grown);
}
END_TEST

enum { KNOCKING = 100, FEW = 32 };

/* Of the clients that knock, how many have been echoed to? Those are marked in served. */
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

START_TEST(out_of_descriptors)
{
    int fds[KNOCKING], left = KNOCKING;
    bool served[KNOCKING];
    char byte;
    server = server_start(subject.server, subject.args, FEW);
    for (int i = 0; i < KNOCKING; i++) {
        fds[i] = connect_client();
        ck_assert(client_send(fds[i], "x", 1));
    }
    int count = count_served(fds, served, 1);
    ck_assert_msg(subject.chapter == 1 ? count == 1 : count > FEW / 2 && count < FEW,
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
                ck_assert(client_receive(fds[i], &byte, 1) && byte == 'x');
                ck_assert_msg(client_echo(fds[i], "more"), "a client that was in is not served");
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
    server = server_start(subject.server, subject.args, 12);
#ifdef __linux__
    int fds[12];
    for (int i = 0; i < 12; i++) {
        fds[i] = connect_client();
        ck_assert(client_send(fds[i], "x", 1));
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

Suite *echo_suite(void)
{
    Suite *suite = suite_create("echo");
    TCase *bytes = tcase_create("bytes");
    tcase_set_timeout(bytes, PLENTY);
    tcase_add_checked_fixture(bytes, start_server, stop_server);
    tcase_add_loop_test(bytes, bytes_come_back_exactly, 0, sizeof lengths / sizeof *lengths);
    tcase_add_test(bytes, byte_by_byte);
    tcase_add_loop_test(bytes, half_close_gets_all_that_is_owed, 0, 4);
    suite_add_tcase(suite, bytes);

    TCase *clients = tcase_create("clients");
    tcase_set_timeout(clients, PLENTY);
    tcase_add_checked_fixture(clients, start_server, stop_server);
    tcase_add_test(clients, rude_clients_end_alone);
    tcase_add_test(clients, gone_before_it_was_accepted);
    tcase_add_test(clients, back_pressure);
    tcase_add_test(clients, buffers_are_given_back);
    tcase_add_test(clients, clients_interleaved);
    tcase_add_test(clients, bulk_clients_at_once);
    tcase_add_test(clients, nothing_is_left_of_those_who_leave);
    suite_add_tcase(suite, clients);

    TCase *descriptors = tcase_create("descriptors");
    tcase_set_timeout(descriptors, PLENTY);
    tcase_add_checked_fixture(descriptors, NULL, stop_server);
    tcase_add_test(descriptors, out_of_descriptors);
    if (subject.chapter > 1)
        tcase_add_test(descriptors, more_descriptors_while_it_runs);
    suite_add_tcase(suite, descriptors);
    return suite;
}
