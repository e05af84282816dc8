/* What every HTTP server owes its clients, whatever is inside: endpoints, connections, many
 * clients. */
#include "suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PLENTY = 120 }; /* seconds a test may take on a slow, busy machine */
static const char health[] = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

/* --- endpoints --- */

static const struct {
    const char *target, *body;
} answers[] = {
    {"/health", "{\"status\":\"ok\"}"},
    {"/health?unknown=parameter&ms=nonsense", "{\"status\":\"ok\"}"},
    {"/perfect-ping?ms=0", "{\"pong\":true}"},
    {"/perfect-ping?x=y&ms=1&ms=60000", "{\"pong\":true}"},
    {"/perfect-ping?ms=%31", "{\"pong\":true}"},
    {"/terrible-ping?ms=0", "{\"pong\":true}"},
    {"/sum?n=0", "{\"result\":0}"},
    {"/sum?n=1", "{\"result\":0}"},
    {"/sum?n=2", "{\"result\":1}"},
    {"/sum?n=10", "{\"result\":285}"},
    {"/sum?n=10&yield=1", "{\"result\":285}"},
    {"/sum?n=10&yield=0", "{\"result\":285}"},
    {"/sum?n=10000&yield=9999", "{\"result\":333283335000}"},
    {"/sum?n=10000&yield=10000", "{\"result\":333283335000}"},
    {"/sum?n=10001&yield=10000", "{\"result\":333383335000}"},
    {"/sum?n=1000000&yield=10000000000", "{\"result\":333332833333500000}"},
    {"/sum?n=4000000", "{\"result\":21333325333334000000}"}, /* more than 2^64 */
};

START_TEST(answer)
{
    struct http_client client = connect_http();
    assert_status(&client, http_get(&client, answers[_i].target), 200);
    ck_assert_msg(http_body_is(&client, answers[_i].body), "not %s, but: %s", answers[_i].body,
                  http_describe(&client));
    ck_assert_str_eq(http_field(&client, "Content-Type"), "application/json");
    http_close(&client);
}
END_TEST

START_TEST(page_names_the_endpoints)
{
    static const char *const paths[] = {"/health", "/terrible-ping", "/perfect-ping",
                                        "/fetch",  "/sum",           "/stats"};
    struct http_client client = connect_http();
    assert_status(&client, http_get(&client, "/"), 200);
    ck_assert_ptr_nonnull(strstr(http_field(&client, "Content-Type"), "text/html"));
    for (int i = 0; i < COUNT(paths); i++)
        ck_assert_msg(strstr(client.body, paths[i]) != NULL, "%s is missing", paths[i]);
    http_close(&client);
}
END_TEST

static const char *const wrong_parameters[] = {
    "/perfect-ping?ms=",
    "/perfect-ping?ms=x",
    "/perfect-ping?ms=-1",
    "/perfect-ping?ms=%2b1",
    "/perfect-ping?ms=1.5",
    "/perfect-ping?ms=60001",
    "/perfect-ping?ms=1e3",
    "/perfect-ping?ms=0x10",
    "/perfect-ping?ms=4294967296",
    "/perfect-ping?ms=10%00",
    "/perfect-ping?ms=%",
    "/perfect-ping?ms=%zz",
    "/perfect-ping?ms=+1",
    "/terrible-ping?ms=x",
    "/terrible-ping?ms=60001",
    "/terrible-ping?ms=1%201",
    "/sum",
    "/sum?n=",
    "/sum?n=ten",
    "/sum?n=-1",
    "/sum?n=10000000001",
    "/sum?n=1&yield=-1",
    "/sum?n=1&yield=x",
    "/sum?n=1&yield=10000000001",
    "/sum?yield=1",
    "/sum?n=99999999999999999999999999",
};

START_TEST(wrong_parameter)
{
    struct http_client client = connect_http();
    assert_status(&client, http_get(&client, wrong_parameters[_i]), 400);
    http_close(&client);
}
END_TEST

static const char *const unknown_paths[] = {
    "/nothing",  "/healthy",      "/heal",         "/health/",  "/Health",
    "/health/x", "/fetch/",       "/%2fhealth",    "//",        "/stats%20",
    "/%22%5c",   "/%0d%0aX:%20y", "/%01%7f%ff%fe", "/health%00"};

/* The path may turn up in the error's text, and must not break the JSON there. */
START_TEST(unknown_path)
{
    struct http_client client = connect_http();
    assert_status(&client, http_get(&client, unknown_paths[_i]), 404);
    ck_assert(http_keeps_its_word(&client));
    http_close(&client);
}
END_TEST

static const char *const wrong_methods[] = {"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"};

START_TEST(wrong_method)
{
    char request[256];
    struct http_client client = connect_http();
    snprintf(request, sizeof request,
             "%s /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
             wrong_methods[_i]);
    ck_assert(http_send(&client, request));
    assert_status(&client, http_receive(&client), 405);
    const char *allow = http_field(&client, "Allow"); /* RFC 9110, 15.5.6 */
    ck_assert_str_eq(allow ? allow : "", "GET, HEAD");
    ck_assert(http_keeps_its_word(&client));
    http_close(&client);
}
END_TEST

/* What the server can do at all (RFC 9110, 9.3.7). */
START_TEST(options_of_the_server)
{
    struct http_client client = connect_http();
    ck_assert(http_send(&client, "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert_status(&client, http_receive(&client), 200);
    const char *allow = http_field(&client, "Allow");
    ck_assert_str_eq(allow ? allow : "", subject.chapter < 9 ? "GET, HEAD" : "GET, HEAD, POST");
    ck_assert(http_keeps_its_word(&client));
    http_close(&client);
}
END_TEST

/* Targets that name no path: what the answer is does not matter, that there is one does. */
START_TEST(targets_without_a_path)
{
    static const char *const requests[] = {
        "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
        "GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET http://localhost?x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET ftp://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET http:///health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    };
    for (int i = 0; i < COUNT(requests); i++) {
        struct http_client client = connect_http();
        ck_assert(http_send(&client, requests[i]));
        ck_assert_msg(http_receive(&client) >= 200, "%s%s", requests[i], http_describe(&client));
        ck_assert(http_keeps_its_word(&client));
        http_close(&client);
    }
}
END_TEST

/* HEAD says what GET would, and sends no body: the next answer follows at once (RFC 9110, 9.3.2).
 */
START_TEST(head_is_get_without_the_body)
{
    static const char *const targets[] = {"/health",  "/",   "/sum?n=10", "/perfect-ping?ms=1",
                                          "/nothing", "/sum"};
    char request[256], length[32];
    for (int i = 0; i < COUNT(targets); i++) {
        struct http_client client = connect_http();
        int status = http_get(&client, targets[i]);
        snprintf(length, sizeof length, "%s", http_field(&client, "Content-Length"));
        http_close(&client);

        client = connect_http();
        snprintf(request, sizeof request, "HEAD %s HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 targets[i]);
        ck_assert(http_send(&client, request));
        assert_status(&client, http_receive_head(&client), status);
        ck_assert_str_eq(http_field(&client, "Content-Length"), length);
        ck_assert(http_keeps_its_word(&client));
        http_close(&client);
    }
}
END_TEST

/* --- one connection, many requests --- */

/* Receives the answer to GET /sum?n=N, which no two n have in common. */
static void assert_sum(struct http_client *client, long n)
{
    char expected[64];
    snprintf(expected, sizeof expected, "{\"result\":%ld}", (n - 1) * n * (2 * n - 1) / 6);
    assert_status(client, http_receive(client), 200);
    ck_assert_msg(http_body_is(client, expected), "not %s, but %s", expected, client->body);
}

START_TEST(one_after_the_other)
{
    struct http_client client = connect_http();
    for (int i = 0; i < 1000; i++)
        assert_status(&client, http_get(&client, "/health"), 200);
    http_close(&client);
}
END_TEST

/* 100 different requests in one go. Some take long: what is behind them has to wait (RFC 9112,
 * 9.3.2). */
START_TEST(pipelined_answers_come_in_order)
{
    enum { REQUESTS = 100 };
    char text[REQUESTS * 64] = "";
    for (int i = 0; i < REQUESTS; i++) {
        size_t length = strlen(text);
        const char *format = i % 25 == 10  ? "GET /perfect-ping?ms=100 HTTP/1.1\r\nHost: x\r\n\r\n"
                             : i % 10 == 9 ? "HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n"
                                           : "GET /sum?n=%d HTTP/1.1\r\nHost: x\r\n\r\n";
        snprintf(text + length, sizeof text - length, format, i);
    }
    struct http_client client = connect_http();
    ck_assert(http_send(&client, text));
    for (int i = 0; i < REQUESTS; i++)
        if (i % 25 == 10) {
            assert_status(&client, http_receive(&client), 200);
            ck_assert(http_body_is(&client, "{\"pong\":true}"));
        } else if (i % 10 == 9)
            assert_status(&client, http_receive_head(&client), 200);
        else
            assert_sum(&client, i);
    ck_assert(!client_has_input(client.fd, 0.05));
    http_close(&client);
}
END_TEST

/* A refusal ends the connection, but first come the answers to what was in order before it. */
START_TEST(answers_before_a_refusal_arrive)
{
    struct http_client client = connect_http();
    ck_assert(http_send(&client, "GET /perfect-ping?ms=200 HTTP/1.1\r\nHost: x\r\n\r\n"
                                 "GET /sum?n=7 HTTP/1.1\r\nHost: x\r\n\r\n"
                                 "nonsense\r\n\r\n"
                                 "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_status(&client, http_receive(&client), 200);
    assert_sum(&client, 7);
    assert_status(&client, http_receive(&client), 400);
    ck_assert(client.closes && http_at_end(&client));
    http_close(&client);
}
END_TEST

START_TEST(nothing_is_answered_behind_close)
{
    struct http_client client = connect_http();
    ck_assert(http_send(&client, "GET /sum?n=7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    http_send(&client, health);
    assert_sum(&client, 7);
    ck_assert(client.closes && http_at_end(&client));
    http_close(&client);
}
END_TEST

static const struct {
    const char *target;
    size_t count;
} last_requests[] = {{"/health", 1}, {"/health", 100}, {"/perfect-ping?ms=200", 2}, {"/", 3000}};

/* A client that says "that was all" gets all the answers, then the end. */
START_TEST(half_close_gets_all_answers)
{
    struct http_client client = connect_http();
    char *requests = http_pipeline(last_requests[_i].target, last_requests[_i].count);
    ck_assert(http_send(&client, requests));
    shutdown(client.fd, SHUT_WR);
    sleep_for(0.1); /* let the end arrive before the first byte is taken */
    for (size_t i = 0; i < last_requests[_i].count; i++)
        assert_status(&client, http_receive(&client), 200);
    free(requests);
    ck_assert(http_at_end(&client));
    http_close(&client);
}
END_TEST

/* The rest of these requests will never come: a 400 and the end. Nothing asked: just the end. */
START_TEST(half_close_within_a_request)
{
    static const char *const starts[] = {
        "", "GET", "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel",
        "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"};
    for (int i = 0; i < COUNT(starts); i++) {
        struct http_client client = connect_http();
        ck_assert(http_send(&client, starts[i]));
        shutdown(client.fd, SHUT_WR);
        int status = http_receive(&client);
        ck_assert_msg(status == (i > 0 ? 400 : 0), "after '%s': %s", starts[i],
                      http_describe(&client));
        ck_assert(http_at_end(&client));
        http_close(&client);
    }
}
END_TEST

/* --- back-pressure --- */

static void assert_not_grown(long before, const char *why)
{
    long grown = process_memory_kib(server.pid) - before;
    if (before >= 0 && !subject.sanitized)
        ck_assert_msg(grown < 1024, "%ld KiB grown for %s", grown, why);
}

/* Sends 10,000 requests before it reads the first answer: the server must not collect the answers,
 * nor spin, nor forget others. */
START_TEST(client_that_does_not_read)
{
    enum { REQUESTS = 10000 };
    struct http_client client = connect_http();
    assert_status(&client, http_get(&client, "/"), 200); /* first use of the heap */
    long before = process_memory_kib(server.pid);
    char *requests = http_pipeline("/", REQUESTS);
    pid_t sender = fork();
    if (sender == 0)
        _exit(http_send(&client, requests) ? 0 : 1);
    free(requests);
    sleep_for(1);
    assert_not_grown(before, "a client that does not read");
    double share = process_cpu_share(server.pid, 0.5);
    ck_assert_msg(share < 0.2, "%.0f %% CPU while nobody reads", share * 100);
    int other = connect_client();
    ck_assert_msg(is_served(other), "held up by a client that does not read");
    close(other);
    for (int i = 0; i < REQUESTS; i++)
        assert_status(&client, http_receive(&client), 200);
    int status = -1;
    ck_assert(waitpid(sender, &status, 0) == sender && status == 0);
    assert_status(&client, http_get(&client, "/health"), 200);
    http_close(&client);
}
END_TEST

/* Nor may it collect the requests that have to wait for the answer to an earlier one. */
START_TEST(requests_behind_a_slow_one)
{
    struct http_client client = connect_http();
    assert_status(&client, http_get(&client, "/health"), 200);
    long before = process_memory_kib(server.pid);
    char *requests = http_pipeline("/health", 500000);
    ck_assert(http_send(&client, "GET /perfect-ping?ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n"));
    send_until_stuck(client.fd, requests, strlen(requests));
    assert_not_grown(before, "requests that have to wait");
    double share = process_cpu_share(server.pid, 0.5);
    ck_assert_msg(share < 0.2, "%.0f %% CPU while requests wait", share * 100);
    free(requests);
    http_close(&client);
}
END_TEST

/* Sends requests and receives answers as fast as it can until the server ends. */
static void run_greedy_client(void)
{
    static char answer_bytes[1 << 20];
    char *requests = http_pipeline("/health", 5000);
    int fd = client_connect(server.port);
    if (fork() == 0)
        while (recv(fd, answer_bytes, sizeof answer_bytes, 0) > 0)
            ;
    else
        while (client_send(fd, requests, strlen(requests)))
            ;
    _exit(0);
}

START_TEST(greedy_client_starves_nobody)
{
    int before = connect_client();
    ck_assert(is_served(before));
    for (int i = 0; i < 2; i++)
        if (fork() == 0)
            run_greedy_client();
    sleep_for(0.2);
    int after = connect_client(); /* with a higher descriptor than the greedy ones */
    for (int i = 0; i < 50; i++)
        ck_assert_msg(is_served(before) && is_served(after), "starved after %d answers", i);
    close(before);
    close(after);
}
END_TEST

/* --- clients that leave --- */

/* Ways to leave in the middle of something. */
static const char *const last_words[] = {
    "",
    "GET /hea",
    "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nhello",
    "GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT",
    "GET /perfect-ping?ms=300 HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /perfect-ping?ms=5 HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /sum?n=1000000&yield=100 HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /fetch?port=%d&path=/perfect-ping?ms=300 HTTP/1.1\r\nHost: x\r\n\r\n",
    "nonsense\r\n\r\n",
};

static void leave(int i)
{
    char words[256];
    int fd = connect_client();
    snprintf(words, sizeof words, last_words[i % COUNT(last_words)], server.port);
    client_send(fd, words, strlen(words));
    if (i % 3 == 0)
        sleep_for(0.002); /* or it may be gone before it was looked at */
    if (i / COUNT(last_words) % 2)
        client_reset(fd);
    else
        close(fd);
}

START_TEST(rude_clients_end_alone)
{
    for (int i = 0; i < 6 * COUNT(last_words); i++) {
        leave(i);
        int polite = connect_client();
        ck_assert_msg(is_served(polite), "after rude client %d", i);
        close(polite);
    }
}
END_TEST

/* What the chapter does not have yet is answered 404, and may be left as well. */
static const char *const work[] = {
    "/health",          "/perfect-ping?ms=20", "/terrible-ping?ms=20",
    "/sum?n=1000000",   "/fetch?port=1",       "/good-ping?ms=20",
    "/files/hello.txt", "/compute?n=100000",   "/events",
};

/* The second request is worked on although its client has left while the first one was. */
START_TEST(left_between_two_requests)
{
    static const char format[] =
        "GET %s HTTP/1.1\r\nHost: x\r\n\r\nGET %s HTTP/1.1\r\nHost: x\r\n\r\n";
    char words[256];
    for (int i = 0; i < 2 * COUNT(work); i++) {
        int fd = connect_client();
        snprintf(words, sizeof words, format, work[i / 2], work[_i]);
        client_send(fd, words, strlen(words));
        sleep_for(0.002);
        if (i % 2)
            client_reset(fd);
        else
            close(fd);
        sleep_for(0.03);
        int polite = connect_client();
        ck_assert_msg(is_served(polite), "after %s", words);
        close(polite);
    }
}
END_TEST

START_TEST(nothing_is_left_of_those_who_leave)
{
    for (int i = 0; i < 200; i++)
        leave(i); /* first use of the heap */
    int other = connect_client(), before = 1 << 20;
    ck_assert(is_served(other));
    for (int i = 0; i < 10; i++) { /* until all of those are gone */
        sleep_for(0.1);
        int open = process_descriptors(server.pid);
        before = open < before ? open : before;
    }
    long memory = process_memory_kib(server.pid);
    for (int i = 0; i < 2000; i++)
        leave(i);
    ck_assert_msg(descriptors_become(before), "%d descriptors open before, %d after", before,
                  process_descriptors(server.pid));
    assert_not_grown(memory, "2,000 clients that have left");
    ck_assert(is_served(other));
    close(other);
}
END_TEST

/* --- many clients --- */

START_TEST(clients_interleaved)
{
    enum { CLIENTS = 500 };
    struct http_client clients[CLIENTS];
    char request[128];
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_http();
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < CLIENTS; i++) {
            snprintf(request, sizeof request, "GET /sum?n=%d HTTP/1.1\r\nHost: x\r\n\r\n",
                     i + round);
            ck_assert(http_send(&clients[i], request));
        }
        for (int i = CLIENTS - 1; i >= 0; i--) /* the other way round */
            assert_sum(&clients[i], i + round);
    }
    for (int i = 0; i < CLIENTS; i++)
        http_close(&clients[i]);
}
END_TEST

/* select cannot watch descriptors from 1,024 on, and poll() gets slow with many. */
static int as_many_as(int wanted)
{
    int most = raise_descriptor_limit() - 100;
    if (strstr(subject.args, "select"))
        most = 900;
    if (strstr(subject.args, "poll") && !strstr(subject.args, "epoll"))
        most = 2000;
    return wanted < most ? wanted : most;
}

static int by_size(const void *left, const void *right)
{
    double difference = *(const double *)left - *(const double *)right;
    return difference < 0 ? -1 : difference > 0;
}

/* How long a new client waits for GET /health: the median of 31. */
static double median_wait(void)
{
    double waits[31];
    for (int i = 0; i < 31; i++) {
        double start = now();
        int fd = connect_client();
        ck_assert(is_served(fd));
        waits[i] = now() - start;
        client_reset(fd);
    }
    qsort(waits, 31, sizeof *waits, by_size);
    return waits[15];
}

/* "Slowloris": 1,000 clients that send their requests as slowly as they can. */
START_TEST(slow_clients_hold_up_nobody)
{
    static const char request[] = "GET /health HTTP/1.1\r\n";
    int count = as_many_as(1000), *fds = calloc((size_t)count, sizeof *fds);
    ck_assert_ptr_nonnull(fds);
    for (int i = 0; i < count; i++)
        fds[i] = connect_client();
    for (int second = 0; second < 3; second++) {
        sleep_for(second ? 1 : 0);
        for (int i = 0; i < count; i++)
            ck_assert(client_send(fds[i], &request[second], 1));
        double wait = median_wait();
        ck_assert_msg(wait < 0.05 || subject.sanitized, "%.0f ms for /health", wait * 1000);
    }
    for (int i = 0; i < count; i++)
        client_reset(fds[i]);
    free(fds);
}
END_TEST

/* An idle connection needs no buffers. */
START_TEST(idle_clients_are_cheap)
{
    int count = as_many_as(10000), *fds = calloc((size_t)count, sizeof *fds);
    ck_assert_ptr_nonnull(fds);
    for (int i = 0; i < 10; i++) {
        int fd = connect_client();
        ck_assert(is_served(fd)); /* first use of the heap */
        close(fd);
    }
    long before = process_memory_kib(server.pid);
    for (int i = 0; i < count; i++) {
        fds[i] = connect_client();
        ck_assert_msg(is_served(fds[i]), "client %d of %d", i + 1, count);
    }
    long grown = process_memory_kib(server.pid) - before;
    ck_assert_msg(before < 0 || subject.sanitized || grown * 1024 <= 512L * count,
                  "%ld KiB for %d idle clients", grown, count);
    double share = process_cpu_share(server.pid, 0.5);
    ck_assert_msg(share < 0.05, "%.0f %% CPU for silent clients", share * 100);
    for (int i = count - 1; i >= 0; i--) {
        ck_assert_msg(is_served(fds[i]), "client %d of %d, again", i + 1, count);
        client_reset(fds[i]);
    }
    free(fds);
}
END_TEST

Suite *http_suite(void)
{
    Suite *suite = suite_create("HTTP");
    TCase *endpoints = tcase_create("endpoints");
    tcase_set_timeout(endpoints, PLENTY);
    tcase_add_checked_fixture(endpoints, start_server, stop_server);
    tcase_add_loop_test(endpoints, answer, 0, COUNT(answers));
    tcase_add_test(endpoints, page_names_the_endpoints);
    tcase_add_loop_test(endpoints, wrong_parameter, 0, COUNT(wrong_parameters));
    tcase_add_loop_test(endpoints, unknown_path, 0, COUNT(unknown_paths));
    tcase_add_loop_test(endpoints, wrong_method, 0, COUNT(wrong_methods));
    tcase_add_test(endpoints, options_of_the_server);
    tcase_add_test(endpoints, targets_without_a_path);
    tcase_add_test(endpoints, head_is_get_without_the_body);
    suite_add_tcase(suite, endpoints);

    TCase *connection = tcase_create("connection");
    tcase_set_timeout(connection, PLENTY);
    tcase_add_checked_fixture(connection, start_server, stop_server);
    tcase_add_test(connection, one_after_the_other);
    tcase_add_test(connection, pipelined_answers_come_in_order);
    tcase_add_test(connection, answers_before_a_refusal_arrive);
    tcase_add_test(connection, nothing_is_answered_behind_close);
    tcase_add_loop_test(connection, half_close_gets_all_answers, 0, COUNT(last_requests));
    tcase_add_test(connection, half_close_within_a_request);
    tcase_add_test(connection, client_that_does_not_read);
    tcase_add_test(connection, requests_behind_a_slow_one);
    suite_add_tcase(suite, connection);

    TCase *clients = tcase_create("clients");
    tcase_set_timeout(clients, PLENTY);
    tcase_add_checked_fixture(clients, start_server, stop_server);
    tcase_add_test(clients, greedy_client_starves_nobody);
    tcase_add_test(clients, rude_clients_end_alone);
    tcase_add_loop_test(clients, left_between_two_requests, 0, COUNT(work));
    tcase_add_test(clients, nothing_is_left_of_those_who_leave);
    tcase_add_test(clients, clients_interleaved);
    tcase_add_test(clients, slow_clients_hold_up_nobody);
    tcase_add_test(clients, idle_clients_are_cheap);
    suite_add_tcase(suite, clients);
    return suite;
}
