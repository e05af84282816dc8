/* The client programs of chapters 01 to 03: what they print is true, and waiting costs what the
 * chapter says. */
#include "suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PLENTY = 120, DELAY_MS = 400 };
static const double delay = DELAY_MS / 1000.0;

/* Runs the client to its end: up to two options before the port. */
static struct process run_client(const char *option, const char *value, int port)
{
    char number[16];
    snprintf(number, sizeof number, "%d", port);
    const char *argv[] = {subject.client, option ? option : number, value, number, NULL};
    if (!option)
        argv[2] = NULL;
    struct process process = process_start(argv, 0);
    process_end(&process, 0);
    return process;
}

/* The figures of the line "5 echoes in 1.00 s, 0.001 s of CPU". */
static void read_totals(const struct process *process, int *echoes, double *seconds, double *cpu)
{
    const char *line = strstr(process->output, " echoes in ");
    ck_assert_msg(line != NULL, "no totals in '%s' (stderr '%s')", process->output,
                  process->errors);
    while (line > process->output && line[-1] != '\n')
        line--;
    ck_assert_int_eq(sscanf(line, "%d echoes in %lf s, %lf s of CPU", echoes, seconds, cpu), 3);
}

START_TEST(echoes_from_the_chapters_server)
{
    struct process process = run_client("--count", subject.chapter == 1 ? "3" : "50", server.port);
    int echoes;
    double seconds, cpu;
    ck_assert_msg(process.status == 0, "%s", process.errors);
    read_totals(&process, &echoes, &seconds, &cpu);
    ck_assert_int_eq(echoes, subject.chapter == 1 ? 3 : 50);
}
END_TEST

START_TEST(long_message_comes_back)
{
    enum { LENGTH = 120000 }; /* one argument holds up to 128 KiB on Linux */
    char *message = malloc(LENGTH + 1);
    ck_assert_ptr_nonnull(message);
    for (int i = 0; i < LENGTH; i++)
        message[i] = (char)('a' + i % 26);
    message[LENGTH] = '\0';
    struct process process = run_client("--message", message, server.port);
    ck_assert_msg(process.status == 0, "%s", process.errors);
    ck_assert_ptr_nonnull(strstr(process.output, "120000"));
    free(message);
}
END_TEST

/* Article A1's claim: five answers that take a while each, one after the other or all at once; and
 * asking without end costs a CPU, while waiting costs none. */
START_TEST(waits_as_the_chapter_says)
{
    char option[32];
    int echoes;
    double seconds, cpu;
    snprintf(option, sizeof option, "--delay %d", DELAY_MS);
    struct process peer = server_start(subject.slow_peer, option, 0);
    struct process process = run_client(NULL, NULL, peer.port);
    ck_assert_int_eq(process_end(&peer, SIGTERM), 0);
    ck_assert_msg(process.status == 0, "%s", process.errors);
    read_totals(&process, &echoes, &seconds, &cpu);
    ck_assert_int_eq(echoes, 5);
    if (subject.chapter == 1)
        ck_assert_msg(seconds >= 5 * delay, "%.2f s: not one after the other", seconds);
    else
        ck_assert_msg(seconds >= delay && seconds < 4 * delay, "%.2f s: not at once", seconds);
    if (subject.chapter == 2) {
        long in_vain = 0;
        const char *line = strstr(process.output, "asked in vain");
        ck_assert(line && sscanf(line, "asked in vain %ld", &in_vain) == 1);
        ck_assert_msg(in_vain > 1000, "asked in vain %ld times only", in_vain);
    } else if (!subject.sanitized)
        ck_assert_msg(cpu < 0.2 * delay, "%.3f s of CPU for waiting", cpu);
}
END_TEST

START_TEST(refused_connection_is_reported)
{
    int port = server.port; /* nobody listens there any more */
    stop_server();
    struct process process = run_client(NULL, NULL, port);
    ck_assert_int_eq(process.status, 1);
    ck_assert_ptr_nonnull(strstr(process.errors, "refused"));
    start_server();
}
END_TEST

START_TEST(lost_echo_is_reported)
{
    const char *argv[] = {subject.client, NULL, NULL};
    char port[16];
    snprintf(port, sizeof port, "%d", server.port);
    argv[1] = port;
    kill(server.pid, SIGSTOP); /* connects, and waits for an echo that will not come */
    struct process process = process_start(argv, 0);
    sleep_for(0.3);
    kill(server.pid, SIGKILL);
    ck_assert_int_eq(process_end(&process, 0), 1);
    ck_assert_str_ne(process.errors, "");
    process_end(&server, 0);
    start_server();
}
END_TEST

static const struct {
    const char *first, *second, *named;
} bad_arguments[] = {
    {"--count", "0", "'0'"},          {"--count", "1001", "'1001'"},
    {"--count", "x", "'x'"},          {"--host", "here", "'here'"},
    {"--message", "", "'--message'"}, {"--nonsense", NULL, "'--nonsense'"},
    {"port", NULL, "'port'"},         {"0", NULL, "'0'"},
    {"65536", NULL, "'65536'"},       {NULL, NULL, "PORT"},
};

START_TEST(bad_argument_is_named)
{
    const char *first = bad_arguments[_i].first, *second = bad_arguments[_i].second;
    /* whatever may be left out is left out, but for the port after an option's value */
    const char *argv[] = {subject.client, first, second, second ? "8000" : NULL, NULL};
    struct process process = process_start(argv, 0);
    process_end(&process, 0);
    ck_assert_int_eq(process.status, 2);
    ck_assert_str_eq(process.output, "");
    ck_assert_msg(strstr(process.errors, bad_arguments[_i].named) != NULL, "%s", process.errors);
    ck_assert_ptr_nonnull(strstr(process.errors, "--count N")); /* what is accepted */
}
END_TEST

Suite *client_suite(void)
{
    Suite *suite = suite_create("client");
    TCase *client = tcase_create("client");
    tcase_set_timeout(client, PLENTY);
    tcase_add_checked_fixture(client, start_server, stop_server);
    tcase_add_test(client, echoes_from_the_chapters_server);
    tcase_add_test(client, long_message_comes_back);
    tcase_add_test(client, waits_as_the_chapter_says);
    tcase_add_test(client, refused_connection_is_reported);
    tcase_add_test(client, lost_echo_is_reported);
    tcase_add_loop_test(client, bad_argument_is_named, 0,
                        sizeof bad_arguments / sizeof *bad_arguments);
    suite_add_tcase(suite, client);
    return suite;
}
