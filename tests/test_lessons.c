/* Each chapter's own lesson: what it adds, and what it still gets wrong. */
#include "suite.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PLENTY = 120 /* seconds a test may take on a slow, busy machine */ };

/* Connects count clients and echoes something with each, so that all are known to be in. The
 * caller frees the array of descriptors. */
static int *connect_many(int count)
{
    int *fds = calloc((size_t)count, sizeof *fds);
    ck_assert_ptr_nonnull(fds);
    for (int i = 0; i < count; i++) {
        fds[i] = connect_client();
        ck_assert_msg(client_echo(fds[i], "in"), "client %d of %d is not served", i + 1, count);
    }
    return fds;
}

static void reset_all(int *fds, int count)
{
    for (int i = 0; i < count; i++)
        client_reset(fds[i]);
    free(fds);
}

/* --- 01: one at a time --- */

START_TEST(second_client_waits_for_the_first)
{
    int first = connect_client(), second = connect_client(), third = connect_client();
    ck_assert(client_echo(first, "me"));
    ck_assert(client_send(third, "x", 1));
    ck_assert(client_send(second, "x", 1));
    ck_assert_msg(!client_has_input(second, 0.5), "served beside the first: not chapter 01");
    ck_assert(client_echo(first, "still me"));
    close(first);
    ck_assert_msg(client_has_input(second, patience()),
                  "the first has left, the second is not served");
    ck_assert_msg(!client_has_input(third, 0.2), "the third overtook the second");
    close(second);
    ck_assert(client_has_input(third, patience()));
    close(third);
}
END_TEST

/* All descriptors are taken before the first client comes, and none will ever be free. The listener
 * gets the last one: the lowest that a program we start does not inherit. */
START_TEST(no_descriptor_for_anybody)
{
    int listener = 0, flags;
    while ((flags = fcntl(listener, F_GETFD)) >= 0 && !(flags & FD_CLOEXEC))
        listener++;
    struct process poor = server_start(subject.server, subject.args, listener + 1);
    int fd = client_connect(poor.port);
    double share = process_cpu_share(poor.pid, 1);
    ck_assert_msg(share < 0.2, "%.0f %% CPU for nothing", share * 100);
    close(fd);
    ck_assert_int_eq(process_end(&poor, SIGTERM), 0);
}
END_TEST

/* --- what the wait costs --- */

START_TEST(idle_cpu)
{
    int count = subject.chapter == 1 ? 1 : 100;
    int *fds = connect_many(count);
    double share = process_cpu_share(server.pid, 1);
    if (subject.chapter == 2) { /* a whole CPU, if nobody else wants it */
        double runnable = process_runnable_share(server.pid, 1);
        ck_assert_msg(share > 0.05 && (runnable < 0 || runnable > 0.8),
                      "%.0f %% CPU: who asks without end takes all that there is", share * 100);
    } else
        ck_assert_msg(share < 0.05, "%.0f %% CPU for silent clients", share * 100);
    reset_all(fds, count);
}
END_TEST

START_TEST(silent_client_holds_up_nobody)
{
    int silent = connect_client(), talks = connect_client();
    for (int i = 0; i < 100; i++)
        ck_assert(client_echo(talks, "hello"));
    close(silent);
    close(talks);
}
END_TEST

/* What count idle clients take of the server's own memory, at most 256 bytes each. */
static void check_idle_memory(int count)
{
    if (subject.sanitized)
        return;
    reset_all(connect_many(10), 10); /* first use of heap and stack */
    long before = process_memory_kib(server.pid);
    int *fds = connect_many(count);
    long grown = process_memory_kib(server.pid) - before;
    ck_assert_msg(before < 0 || grown * 1024 <= 256L * count, "%ld KiB for %d idle clients", grown,
                  count);
    reset_all(fds, count);
}

START_TEST(idle_client_is_cheap)
{
    check_idle_memory(900);
}
END_TEST

/* --- 03: the limit of a set --- */

START_TEST(select_ends_at_fd_setsize)
{
    enum { MANY = 1200, LIMIT = 1024 };
    int *fds = calloc(MANY, sizeof *fds), served = 0, room = LIMIT;
    char byte;
    ck_assert_ptr_nonnull(fds);
    if (process_descriptors(server.pid) >= 0)
        room = LIMIT - process_descriptors(server.pid);
    for (int i = 0; i < MANY; i++) {
        fds[i] = connect_client();
        client_send(fds[i], "x", 1);
        if (client_receive(fds[i], &byte, 1))
            ck_assert_msg(served++ == i, "served client %d, but refused one before", i + 1);
    }
    ck_assert_msg(served == room || (room == LIMIT && served > LIMIT - 20 && served < LIMIT),
                  "%d clients served, there is room for %d", served, room);
    process_read_output(&server);
    const char *line_end = strchr(server.errors, '\n');
    ck_assert_msg(line_end && !line_end[1] && strstr(server.errors, "1024"),
                  "one line about the limit expected, not '%s'", server.errors);

    ck_assert_msg(client_echo(fds[served - 1], "last"), "the last one that fits is not served");
    close(fds[0]);
    sleep_for(0.2);
    fds[0] = connect_client();
    ck_assert_msg(client_echo(fds[0], "next"), "room again, but the next one is not served");
    reset_all(fds, MANY);
}
END_TEST

/* Whoever starts the server may leave it many open descriptors: the listener does not fit, either.
 */
START_TEST(listener_beyond_the_set)
{
    const char *argv[] = {subject.server, "0", NULL};
    for (int fd = 0; fd >= 0 && fd < 1100;)
        fd = dup(STDERR_FILENO);
    for (int fd = 0; fd < 1100; fd++)
        fcntl(fd, F_SETFD, 0); /* no FD_CLOEXEC: every number below 1,100 is taken there, too */
    struct process process = process_start(argv, 0);
    process_listening(&process);
    ck_assert_int_eq(process_end(&process, SIGTERM), 1);
    ck_assert_str_ne(process.errors, "");
}
END_TEST

/* --- 04: no such limit --- */

START_TEST(two_thousand_at_once)
{
    int *fds = connect_many(2000);
    for (int i = 0; i < 2000; i += 7)
        ck_assert(client_echo(fds[i], "all of us"));
    reset_all(fds, 2000);
}
END_TEST

/* --- 03 to 06: a wait that fails --- */

/* Has every wait of the server fail as without memory, and writes each to a file: until
 * process_end() of what is returned. */
static struct process fail_waits(const char *log)
{
    static const char *const calls[] = {[3] = "select,?pselect6",
                                        [4] = "?poll,?ppoll",
                                        [5] = "?epoll_wait,?epoll_pwait",
                                        [6] = "?epoll_wait,?epoll_pwait"};
    const char *call = calls[subject.chapter];
    char options[256];
    snprintf(options, sizeof options, "-o %s -e trace=%s --inject=%s:error=ENOMEM", log, call,
             call);
    return strace_attach(server.pid, options);
}

/* Nobody is lost, and it does not spin. 03 and 04 go on with asking all; 05 and 06 know nobody to
 * ask, and serve when they can wait again. */
START_TEST(failing_wait)
{
    enum { CLIENTS = 5, MOST_A_SECOND = 50 };
    char path[] = "/tmp/trace-XXXXXX";
    int *fds = connect_many(CLIENTS), file = mkstemp(path);
    ck_assert(file >= 0);
    close(file);
    double start = now();
    struct process strace = fail_waits(path);
    if (strace.status != -1)
        fprintf(stderr, "failing_wait: skipped, strace does not work here\n");
    else {
        for (int i = 0; i < CLIENTS; i++)
            ck_assert(client_asks(fds[i]));
        int next = connect_client();
        ck_assert(client_asks(next));
        for (int i = 0; i < CLIENTS && subject.chapter <= 4; i++)
            ck_assert_msg(client_is_answered(fds[i]), "client %d is not served", i);
        sleep_for(1);
        process_end(&strace, SIGTERM);
        int failed = lines_of_file(path);
        ck_assert_msg(failed > 0 && failed < (now() - start) * MOST_A_SECOND,
                      "%d waits have failed in %.1f s", failed, now() - start);
        for (int i = 0; i < CLIENTS && subject.chapter > 4; i++)
            ck_assert_msg(client_is_answered(fds[i]), "client %d is lost", i);
        ck_assert_msg(client_is_answered(next), "the next one is not served");
        close(next);
    }
    unlink(path);
    reset_all(fds, CLIENTS);
}
END_TEST

/* --- 05, 06 --- */

START_TEST(ten_thousand_at_once)
{
    int count = raise_descriptor_limit() - 100;
    if (count > 10000)
        count = 10000;
    else
        fprintf(stderr, "only %d clients: the descriptor limit allows no more\n", count);
    reset_all(connect_many(10), 10);
    long before = process_memory_kib(server.pid);
    int *fds = connect_many(count);
    long grown = process_memory_kib(server.pid) - before;
    for (int i = count - 1; i >= 0; i--)
        ck_assert_msg(client_echo(fds[i], "all of us"), "client %d of %d", i + 1, count);
    double share = process_cpu_share(server.pid, 0.5);
    ck_assert_msg(share < 0.05, "%.0f %% CPU for silent clients", share * 100);
    ck_assert_msg(before < 0 || subject.sanitized || grown * 1024 <= 256L * count,
                  "%ld KiB for %d idle clients", grown, count);
    reset_all(fds, count);
}
END_TEST

/* Sends and receives as fast as it can until it is killed: one process for each direction. */
static void run_greedy_client(void)
{
    static char bytes[1 << 20];
    int fd = client_connect(server.port);
    if (fork() == 0)
        while (recv(fd, bytes, sizeof bytes, 0) > 0)
            ;
    else
        while (send(fd, bytes, sizeof bytes, 0) > 0)
            ;
    _exit(0);
}

START_TEST(greedy_client_starves_nobody)
{
    int before = connect_client();
    ck_assert(client_echo(before, "before"));
    for (int i = 0; i < 2; i++)
        if (fork() == 0)
            run_greedy_client(); /* ends with the server */
    sleep_for(0.2);
    int after = connect_client(); /* with a higher descriptor than the greedy ones */
    for (int i = 0; i < 50; i++)
        ck_assert_msg(client_echo(before, "me, too") && client_echo(after, "me, too"),
                      "starved after %d answers", i);
    close(before);
    close(after);
}
END_TEST

/* Counts system calls in what strace wrote: how often in all, and the longest row of recvfrom()
 * without a return to the wait. In 05, clients have to be registered as edge-triggered throughout.
 */
static void count_calls(const char *path, int *receives, int *longest)
{
    char line[512];
    int row = 0;
    FILE *trace = fopen(path, "r");
    ck_assert_ptr_nonnull(trace);
    while (fgets(line, sizeof line, trace)) {
        row = strncmp(line, "recvfrom", 8) == 0 ? row + 1 : 0;
        if (strncmp(line, "epoll_ctl", 9) == 0 && *receives > 0 && subject.chapter == 5)
            ck_assert_msg(strstr(line, "EPOLLET") != NULL, "not edge-triggered: %s", line);
        *receives += row > 0;
        *longest = row > *longest ? row : *longest;
    }
    fclose(trace);
}

/* Slowed down by strace, the server always finds the greedy client's next bytes there. It has to
 * leave off all the same. */
START_TEST(edge_triggered_reads_in_shares)
{
    char trace[] = "/tmp/trace-XXXXXX", bytes[64];
    int receives = 0, longest = 0, file = mkstemp(trace);
    ck_assert(file >= 0);
    close(file);
    snprintf(bytes, sizeof bytes, "-o%s", trace);
    const char *argv[] = {"/usr/bin/strace", bytes,    "-s0", "-etrace=recvfrom,/epoll_",
                          subject.server,    "--edge", "0",   NULL};
    if (access(argv[0], X_OK) == 0) {
        struct process traced = process_start(argv, 0);
        if ((server.port = process_listening(&traced)) > 0) {
            if (fork() == 0)
                run_greedy_client();
            sleep_for(1.5);
            count_calls(trace, &receives, &longest);
        }
        process_end(&traced, SIGKILL);
    }
    unlink(trace);
    if (receives < 100)
        fprintf(stderr, "edge_triggered_reads_in_shares: skipped, strace does not work here\n");
    else
        ck_assert_msg(longest <= 64, "%d reads of one client in a row", longest);
}
END_TEST

/* --- 06: timers are events, too --- */

/* Waits until the process has printed text, behind `after` in its output. Returns where. */
static const char *wait_for_text(struct process *process, const char *after, const char *text)
{
    for (double end = now() + patience(); !strstr(after, text); sleep_for(0.05)) {
        process_read_output(process);
        ck_assert_msg(now() < end, "no '%s' in '%s'", text, process->output);
    }
    return strstr(after, text);
}

START_TEST(ticks_count_the_clients)
{
    char args[64];
    int fds[3], ticks = 0;
    snprintf(args, sizeof args, "%s --tick", subject.args);
    double start = now();
    struct process ticking = server_start(subject.server, args, 0);
    for (int i = 0; i < 3; i++)
        ck_assert_int_ge(fds[i] = client_connect(ticking.port), 0);
    const char *three = wait_for_text(&ticking, ticking.output, "\n3 clients\n");
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    wait_for_text(&ticking, three, "\n0 clients\n");
    ck_assert_int_eq(process_end(&ticking, SIGTERM), 0);
    for (const char *line = ticking.output; (line = strstr(line, " clients\n")); line++)
        ticks++;
    ck_assert_msg(ticks <= now() - start + 1, "%d ticks in %.1f s: not one a second", ticks,
                  now() - start);
}
END_TEST

START_TEST(no_ticks_unless_asked_for)
{
    sleep_for(1.5);
    process_read_output(&server);
    ck_assert_ptr_null(strstr(server.output, "clients"));
}
END_TEST

/* Puts bytes into the pipe that the server prints to, until it is full. */
static void fill_pipe(int read_end)
{
    char path[64], bytes[512] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", read_end);
    int fd = open(path, O_WRONLY | O_NONBLOCK);
    ck_assert_int_ge(fd, 0);
    while (write(fd, bytes, sizeof bytes) > 0)
        ;
    close(fd);
}

/* Nobody reads the ticks, and the pipe is full: they are dropped, and clients are served. */
START_TEST(ticks_wait_for_nobody)
{
#ifdef __linux__
    char args[64], bytes[4096];
    snprintf(args, sizeof args, "%s --tick", subject.args);
    struct process ticking = server_start(subject.server, args, 0);
    int fd = client_connect(ticking.port);
    ck_assert_int_ge(fd, 0);
    fill_pipe(ticking.output_fd);
    for (double end = now() + 2.5; now() < end; sleep_for(0.1))
        ck_assert_msg(client_echo(fd, "meanwhile"), "the server waits for who reads its ticks");
    while (read(ticking.output_fd, bytes, sizeof bytes) > 0)
        ;
    wait_for_text(&ticking, ticking.output, "\n1 clients\n");
    close(fd);
    ck_assert_int_eq(process_end(&ticking, SIGTERM), 0);
#endif
}
END_TEST

Suite *lesson_suite(void)
{
    Suite *suite = suite_create("lesson");
    TCase *lesson = tcase_create("lesson");
    tcase_set_timeout(lesson, PLENTY);
    tcase_add_checked_fixture(lesson, start_server, stop_server);
    tcase_add_test(lesson, idle_cpu);
    if (subject.chapter == 1) {
        tcase_add_test(lesson, second_client_waits_for_the_first);
        tcase_add_test(lesson, no_descriptor_for_anybody);
    }
    if (subject.chapter > 1) {
        tcase_add_test(lesson, silent_client_holds_up_nobody);
        tcase_add_test(lesson, idle_client_is_cheap);
        tcase_add_test(lesson, greedy_client_starves_nobody);
    }
    if (subject.chapter == 3) {
        tcase_add_test(lesson, select_ends_at_fd_setsize);
        tcase_add_test(lesson, listener_beyond_the_set);
    }
    if (subject.chapter == 4)
        tcase_add_test(lesson, two_thousand_at_once);
    if (subject.chapter >= 3)
        tcase_add_test(lesson, failing_wait);
    if (subject.chapter >= 5)
        tcase_add_test(lesson, ten_thousand_at_once);
    if (subject.chapter == 6) {
        tcase_add_test(lesson, ticks_count_the_clients);
        tcase_add_test(lesson, no_ticks_unless_asked_for);
        tcase_add_test(lesson, ticks_wait_for_nobody);
    }
    if (strstr(subject.args, "--edge"))
        tcase_add_test(lesson, edge_triggered_reads_in_shares);
    suite_add_tcase(suite, lesson);
    return suite;
}
