/*
 * What the event loop is for: waiting, for clients, for clocks and for other servers, holds up
 * nobody; but work on the loop does. And the limits to the waiting.
 */
#include "suite.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PLENTY = 150 }; /* seconds a test may take on a slow, busy machine */

/* --- who holds up whom --- */

/* While one client waits for target, another asks for /health again and again. Returns how many
 * answers it got before the first one had its own. When it begins, the request for target is there
 * already; so if that keeps the loop busy, there is at most one answer before, and one after. */
static int answers_meanwhile(const char *target)
{
    struct http_client client = connect_http(), other = connect_http();
    assert_status(&client, http_get(&client, "/health"), 200); /* both are known to the loop */
    assert_status(&other, http_get(&other, "/health"), 200);
    ck_assert(http_ask(&client, target));
    int answers = 0;
    for (double end = now() + patience(); !client_has_input(client.fd, 0) && now() < end; answers++)
        assert_status(&other, http_get(&other, "/health"), 200);
    assert_status(&client, http_receive(&client), 200);
    http_close(&client);
    http_close(&other);
    return answers;
}

START_TEST(terrible_ping_holds_up_everybody)
{
    int answers = answers_meanwhile("/terrible-ping?ms=500");
    ck_assert_msg(answers <= 2, "%d others were served during a sleep on the loop", answers);
}
END_TEST

START_TEST(perfect_ping_holds_up_nobody)
{
    int answers = answers_meanwhile("/perfect-ping?ms=400");
    ck_assert_msg(answers >= 10, "only %d others were served", answers);
}
END_TEST

START_TEST(sum_without_yield_holds_up_everybody)
{
    int answers = answers_meanwhile("/sum?n=200000000&yield=0");
    ck_assert_msg(answers <= 2, "%d others were served during work on the loop", answers);
}
END_TEST

START_TEST(sum_that_yields_holds_up_nobody)
{
    int answers = answers_meanwhile("/sum?n=200000000&yield=10000");
    ck_assert_msg(answers >= 10, "only %d others were served", answers);
}
END_TEST

/* Ten sums at once, and each client gets its own. */
START_TEST(sums_take_turns)
{
    struct http_client clients[10];
    char target[64], expected[64];
    for (int i = 0; i < 10; i++) {
        snprintf(target, sizeof target, "/sum?n=%d&yield=10", 300000 + i);
        clients[i] = connect_asking(target);
    }
    for (int i = 9; i >= 0; i--) {
        long n = 300000 + i;
        snprintf(expected, sizeof expected, "{\"result\":%ld}", (n - 1) * n / 2 * (2 * n - 1) / 3);
        assert_status(&clients[i], http_receive(&clients[i]), 200);
        ck_assert_msg(http_body_is(&clients[i], expected), "not %s, but %s", expected,
                      clients[i].body);
        http_close(&clients[i]);
    }
}
END_TEST

/* --- /stats --- */

static double stat_now(const char *name)
{
    struct http_client client = connect_http();
    assert_status(&client, http_get(&client, "/stats"), 200);
    double value = json_number(client.body, name);
    ck_assert_msg(value >= 0, "no \"%s\" in %s", name, client.body);
    http_close(&client);
    return value;
}

START_TEST(stats_count)
{
    struct http_client clients[20];
    for (int i = 0; i < 20; i++) {
        clients[i] = connect_http();
        assert_status(&clients[i], http_get(&clients[i], "/health"), 200);
    }
    double many = stat_now("clients"), requests = stat_now("requests");
    ck_assert_msg(many >= 21 && many <= 22, "%.0f clients", many); /* and who asks */
    for (int i = 0; i < 20; i++) {
        assert_status(&clients[i], http_get(&clients[i], "/health"), 200);
        http_close(&clients[i]);
    }
    double more = stat_now("requests");
    ck_assert_msg(more >= requests + 20 && more <= requests + 22, "%.0f requests after %.0f", more,
                  requests);
    for (double end = now() + patience(); stat_now("clients") > 2 && now() < end;)
        sleep_for(0.01);
    ck_assert(stat_now("clients") <= 2);
}
END_TEST

/* The lag is how long the loop was away from its wait: work counts, waiting does not. */
START_TEST(lag_is_measured)
{
    struct http_client client = connect_http();
    assert_status(&client, http_get(&client, "/terrible-ping?ms=300"), 200);
    double lag = stat_now("max");
    ck_assert_msg(lag >= 300, "%.1f ms of lag after 300 ms on the loop", lag);
    assert_status(&client, http_get(&client, "/perfect-ping?ms=1000"), 200);
    assert_status(&client, http_get(&client, "/health"), 200);
    ck_assert_msg(stat_now("last") < 300, "the lag of the last round is the worst one's");
    ck_assert_msg(stat_now("max") < 1000, "a timer counts as lag");
    http_close(&client);
}
END_TEST

/* --- back ends --- */

static const char *const backends[] = {"epoll", "kqueue", "poll", "select"};

/* Every back end that the system has serves clients, and says so. */
START_TEST(backend_can_be_chosen)
{
    const char *argv[] = {subject.server, "--backend", backends[_i], "0", NULL};
    struct process process = process_start(argv, 0);
    if (process_listening(&process) < 0) {
        ck_assert_int_eq(process_end(&process, 0), 2); /* not on this system */
        ck_assert_ptr_nonnull(strstr(process.errors, backends[_i]));
        ck_assert_msg(strcmp(backends[_i], "poll") != 0 && strcmp(backends[_i], "select") != 0,
                      "%s is everywhere", backends[_i]);
        return;
    }
    struct http_client client = http_connect(process.port);
    assert_status(&client, http_get(&client, "/stats"), 200);
    char expected[64];
    snprintf(expected, sizeof expected, "\"backend\":\"%s\"", backends[_i]);
    ck_assert_msg(strstr(client.body, expected) != NULL, "%s", client.body);
    http_close(&client);
    ck_assert_int_eq(process_end(&process, SIGTERM), 0);
}
END_TEST

/* Beyond the 1,024 descriptors of a set, select's server refuses; the others go on. */
START_TEST(beyond_the_set)
{
    enum { MANY = 1200 };
    bool select = strstr(subject.args, "select");
    int *fds = calloc(MANY, sizeof *fds), served = 0;
    ck_assert_ptr_nonnull(fds);
    for (int i = 0; i < MANY; i++) {
        fds[i] = connect_client();
        if (is_served(fds[i]))
            ck_assert_msg(served++ == i, "served client %d, but refused one before", i + 1);
    }
    ck_assert_msg(select ? served > 900 && served < 1024 : served == MANY, "%d clients served",
                  served);
    for (int i = 0; i < served; i += 50)
        ck_assert_msg(is_served(fds[i]), "client %d of those who are in is not served", i + 1);
    for (int i = 0; i < MANY; i++)
        client_reset(fds[i]);
    free(fds);
}
END_TEST

/* --- timers --- */

START_TEST(a_hundred_pings_at_once)
{
    struct http_client clients[100];
    double start = now();
    for (int i = 0; i < 100; i++)
        clients[i] = connect_asking(i % 2 ? "/perfect-ping" : "/perfect-ping?ms=1000");
    for (int i = 0; i < 100; i++) {
        assert_status(&clients[i], http_receive(&clients[i]), 200);
        ck_assert_msg(now() - start >= 1, "answered after %.3f s", now() - start);
        http_close(&clients[i]);
    }
    ck_assert_msg(now() - start < 10, "one after the other"); /* that would be 100 s */
}
END_TEST

/* Ten pings of 500, 450, ... 50 ms: whenever a longer one has been answered, so has each that is
 * shorter. poll() looks at the longer ones first. */
START_TEST(shorter_ones_are_due_first)
{
    struct http_client clients[10];
    struct pollfd waits[10];
    char target[64];
    for (int i = 0; i < 10; i++) {
        snprintf(target, sizeof target, "/perfect-ping?ms=%d", 500 - 50 * i);
        clients[i] = connect_asking(target);
        waits[i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
    }
    for (int ready = 0; ready < 10; sleep_for(0.01)) {
        ready = poll(waits, 10, patience() * 1000);
        ck_assert_msg(ready > 0, "time-out");
        for (int i = 0; i < 10; i++)
            ck_assert_msg((waits[i].revents != 0) == (i >= 10 - ready),
                          "%d are answered, but not the shortest", ready);
    }
    for (int i = 0; i < 10; i++) {
        assert_status(&clients[i], http_receive(&clients[i]), 200);
        http_close(&clients[i]);
    }
}
END_TEST

/* Timers are started, stopped and due in every order: the survivors all ring. */
START_TEST(clients_leave_during_pings)
{
    enum { CLIENTS = 400 };
    struct http_client clients[CLIENTS];
    char target[64];
    srand(1);
    for (int i = 0; i < CLIENTS; i++) {
        snprintf(target, sizeof target, "/perfect-ping?ms=%d", rand() % 700);
        clients[i] = connect_asking(target);
    }
    for (int i = 0; i < CLIENTS; i++)
        if (rand() % 2) {
            client_reset(clients[i].fd);
            clients[i].fd = -1;
        }
    for (int i = 0; i < CLIENTS; i++) {
        if (clients[i].fd >= 0)
            assert_status(&clients[i], http_receive(&clients[i]), 200);
        http_close(&clients[i]);
    }
}
END_TEST

/* What a client that has gone was waiting for goes, too, and at once. */
START_TEST(nobody_waits_for_who_has_gone)
{
    static const char *const targets[] = {"/perfect-ping?ms=60000", "/sum?n=10000000000"};
    struct http_client other = connect_http();
    assert_status(&other, http_get(&other, "/health"), 200);
    int before = process_descriptors(server.pid);
    for (int i = 0; i < 20; i++) {
        struct http_client client = connect_asking(targets[i % 2]);
        if (i % 4 >= 2) /* what is not its turn yet must not hide that the client leaves */
            ck_assert(http_ask(&client, "/health"));
        sleep_for(0.01);
        client_reset(client.fd);
    }
    ck_assert_msg(descriptors_become(before), "%d descriptors before, %d after", before,
                  process_descriptors(server.pid));
    double share = process_cpu_share(server.pid, 0.5); /* the sums are not worked on any more */
    ck_assert_msg(share < 0.2, "%.0f %% CPU for clients that have gone", share * 100);
    assert_status(&other, http_get(&other, "/health"), 200);
    http_close(&other);
}
END_TEST

/* --- the limits to the waiting --- */

/* An unfinished request has 10 s, however it is unfinished and however busily it goes on. */
static const struct {
    const char *start;
    const char *drip; /* comes once a second after that, a part of the same request; or NULL */
} unfinished[] = {
    {"G", NULL},
    {"GET /health HT", NULL},
    {"GET /health HTTP/1.1\r\n", NULL},
    {"GET /health HTTP/1.1\r\nHost: x\r\nX", "y"},
    {"GET /health HTTP/1.1\r\nHost: x\r\n", "X: y\r\n"},
    {"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhello", NULL},
    {"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", "x"},
    {"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"},
    {"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", NULL},
    {"HEAD ", NULL},
};

/* These are not late: nothing was asked, all was answered, or it is the server that takes long. */
static const char *const unhurried[] = {"", "/health", "/perfect-ping?ms=11500"};

static void drip_for(struct http_client *clients, double seconds)
{
    for (double end = now() + seconds; now() < end; sleep_for(1))
        for (int i = 0; i < COUNT(unfinished); i++)
            if (unfinished[i].drip)
                http_send(&clients[i], unfinished[i].drip);
}

START_TEST(unfinished_requests_end_after_10_s)
{
    struct http_client late[COUNT(unfinished)], other[COUNT(unhurried)], second = connect_http();
    assert_status(&second, http_get(&second, "/health"), 200);
    for (int i = 0; i < COUNT(unhurried); i++) {
        other[i] = connect_http();
        if (unhurried[i][0])
            ck_assert(http_ask(&other[i], unhurried[i]));
    }
    for (int i = 0; i < COUNT(unfinished); i++) {
        late[i] = connect_http();
        ck_assert(http_send(&late[i], unfinished[i].start));
    }
    ck_assert(http_send(&second, unfinished[1].start)); /* on a connection that has been used */
    drip_for(late, 8);
    for (int i = 0; i < COUNT(unfinished); i++)
        ck_assert_msg(!client_has_input(late[i].fd, 0), "too early: %s", unfinished[i].start);
    drip_for(late, 3); /* those still there would now have 10 s again, if that counted */
    for (int i = 0; i < COUNT(unfinished); i++) {
        ck_assert_msg(client_has_input(late[i].fd, patience()), "%s", unfinished[i].start);
        bool head = strncmp(unfinished[i].start, "HEAD ", 5) == 0; /* then there is no body */
        assert_status(&late[i], head ? http_receive_head(&late[i]) : http_receive(&late[i]), 408);
        ck_assert(late[i].closes && (!head || http_at_end(&late[i])));
        http_close(&late[i]);
    }
    assert_status(&second, http_receive(&second), 408);
    http_close(&second);
    for (int i = 0; i < COUNT(unhurried); i++) {
        if (unhurried[i][0])
            assert_status(&other[i], http_receive(&other[i]), 200);
        assert_status(&other[i], http_get(&other[i], "/health"), 200);
        http_close(&other[i]);
    }
}
END_TEST

/* Without a word: a client that sends its next request just then would take it for the answer. But
 * who waits for an answer is not idle. */
START_TEST(idle_connections_end_after_60_s)
{
    struct http_client fresh = connect_http(), used = connect_http(), waits = connect_http();
    assert_status(&used, http_get(&used, "/health"), 200);
    sleep_for(0.1); /* so that its answer comes after it would have been idle for too long */
    ck_assert(http_ask(&waits, "/perfect-ping?ms=60000"));
    ck_assert_msg(!client_has_input(fresh.fd, 50) && !client_has_input(used.fd, 0), "too early");
    ck_assert(client_has_input(fresh.fd, 10 + patience()) && http_at_end(&fresh));
    ck_assert(client_has_input(used.fd, 10 + patience()) && http_at_end(&used));
    assert_status(&waits, http_receive(&waits), 200);
    http_close(&fresh);
    http_close(&used);
    http_close(&waits);
}
END_TEST

/* --- the end --- */

/* Whoever is waiting does not keep the server from ending. */
START_TEST(signal_ends_it_in_the_middle_of_things)
{
    char target[128];
    struct http_client clients[40];
    snprintf(target, sizeof target, "/fetch?port=%d&timeout_ms=60000&path=/perfect-ping?ms=60000",
             server.port);
    const char *const targets[] = {"/perfect-ping?ms=60000", "/sum?n=10000000000", target,
                                   "/health"};
    for (int i = 0; i < 40; i++)
        clients[i] = connect_asking(targets[i % 4]);
    sleep_for(0.2);
    double start = now();
    ck_assert_int_eq(process_end(&server, SIGTERM), 0);
    ck_assert_msg(now() - start < 10, "it took %.1f s to end", now() - start);
    ck_assert_str_eq(server.errors, ""); /* no sanitizer's report of leaks */
    ck_assert_ptr_nonnull(strstr(server.output, "\nserved "));
    for (int i = 0; i < 40; i++)
        http_close(&clients[i]);
}
END_TEST

static const char *const sums_without_end[] = {"/sum?n=10000000000&yield=0",
                                               "/sum?n=10000000000&yield=10000000000",
                                               "/sum?n=10000000000&yield=1"};

/* However rarely it yields, it looks whether the program is to end. It would take many seconds. */
START_TEST(sum_does_not_hold_up_the_end)
{
    struct http_client client = connect_asking(sums_without_end[_i]);
    sleep_for(0.1); /* let it begin */
    kill(server.pid, SIGTERM);
    ck_assert_msg(process_ends_within(&server, 3), "%s: still there", sums_without_end[_i]);
    ck_assert_int_eq(process_end(&server, 0), 0);
    http_close(&client);
}
END_TEST

Suite *event_loop_suite(void)
{
    Suite *suite = suite_create("event loop");
    TCase *loop = tcase_create("loop");
    tcase_set_timeout(loop, PLENTY);
    tcase_add_checked_fixture(loop, start_server, stop_server);
    tcase_add_test(loop, terrible_ping_holds_up_everybody);
    tcase_add_test(loop, perfect_ping_holds_up_nobody);
    tcase_add_test(loop, sum_without_yield_holds_up_everybody);
    tcase_add_test(loop, sum_that_yields_holds_up_nobody);
    tcase_add_test(loop, sums_take_turns);
    tcase_add_test(loop, stats_count);
    tcase_add_test(loop, lag_is_measured);
    tcase_add_test(loop, beyond_the_set);
    tcase_add_test(loop, a_hundred_pings_at_once);
    tcase_add_test(loop, shorter_ones_are_due_first);
    tcase_add_test(loop, clients_leave_during_pings);
    tcase_add_test(loop, nobody_waits_for_who_has_gone);
    tcase_add_test(loop, unfinished_requests_end_after_10_s);
    if (!*subject.args) { /* once is enough */
        if (subject.chapter == FIRST_HTTP_CHAPTER)
            tcase_add_test(loop, idle_connections_end_after_60_s);
        tcase_add_loop_test(loop, backend_can_be_chosen, 0, COUNT(backends));
    }
    suite_add_tcase(suite, loop);

    TCase *ending = tcase_create("ending");
    tcase_set_timeout(ending, PLENTY);
    tcase_add_checked_fixture(ending, start_server, NULL);
    tcase_add_test(ending, signal_ends_it_in_the_middle_of_things);
    if (!thread_sanitizer())
        tcase_add_loop_test(ending, sum_does_not_hold_up_the_end, 0, COUNT(sums_without_end));
    suite_add_tcase(suite, ending);
    return suite;
}
