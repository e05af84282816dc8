/*
 * What http_server.h promises to a handler, called directly: above all, what holds for a client
 * that is lost in the middle of something, and when there is no memory. A program of its own that
 * has http_server.c in it, so that its memory can be used up.
 */
#include <stdbool.h>
#include <stdlib.h>

static bool no_memory;

static void *limited_calloc(size_t count, size_t size)
{
    return no_memory ? NULL : calloc(count, size);
}

static void *limited_malloc(size_t size)
{
    return no_memory ? NULL : malloc(size);
}

static void *limited_realloc(void *block, size_t size)
{
    return no_memory ? NULL : realloc(block, size);
}

#define calloc limited_calloc
#define malloc limited_malloc
#define realloc limited_realloc
#include "../07-event-loop/http_server.c" /* NOLINT(bugprone-suspicious-include) */
#undef calloc
#undef malloc
#undef realloc

#include "../07-event-loop/backend.h" /* to have calls of the back end fail */
#include <arpa/inet.h>
#include <check.h>
#include <signal.h>

enum { PLENTY = 120 /* seconds a test may take on a slow, busy machine */ };

static struct loop *loop;
static struct http_server *server;
static int listener, port;
static char received[8192];

/* --- a server, whose handler is the test's, and a client --- */

static void (*test_handler)(struct client *client, const struct http_parser *request);
static struct client *asking; /* whose request came last */
static int gone_calls, ended_calls;
static bool gives_up, handling, told_within_handler;

static void handle_request(struct client *client, const struct http_parser *request)
{
    asking = client;
    handling = true;
    test_handler(client, request);
    handling = false;
}

static void count_gone(void *arg)
{
    (void)arg;
    gone_calls++;
    told_within_handler = told_within_handler || handling;
}

static bool count_ended(void *arg)
{
    (void)arg;
    ended_calls++;
    return gives_up;
}

static const struct waiter counting = {.gone = count_gone, .ended = count_ended};

static void note_port(void)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    port = ntohs(address.sin_port);
}

static void setup(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    signal(SIGPIPE, SIG_IGN);
    loop = loop_new(NULL);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(listener, 16), 0);
    ck_assert_int_eq(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
    note_port();
    server = http_server_new(loop, listener, handle_request);
    ck_assert_ptr_nonnull(server);
    gone_calls = ended_calls = 0;
    gives_up = told_within_handler = no_memory = false;
}

static void teardown(void)
{
    no_memory = false;
    http_server_free(server);
    loop_free(loop);
}

static void stop_loop(struct loop *running, void *arg)
{
    (void)arg;
    loop_stop(running);
}

static void run_ms(int64_t ms)
{
    struct timer end = {.callback = stop_loop};
    ck_assert(timer_start(loop, &end, ms));
    ck_assert_int_eq(loop_run(loop), 0);
    timer_stop(loop, &end);
}

static int connect_socket(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Connects and sends "METHOD /" twice; the second one is for who believes that all is well. */
static int ask(const char *method)
{
    char request[128];
    int fd = connect_socket();
    int length = snprintf(request, sizeof request, "%s / HTTP/1.1\r\nHost: x\r\n\r\n", method);
    ck_assert_int_eq(send(fd, request, (size_t)length, 0), length);
    return fd;
}

static void reset(int fd)
{
    struct linger hard = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
}

/* All that comes within the time; "END" stands for the end of file, "RESET" for a reset. */
static const char *receive(int fd, int64_t ms)
{
    size_t length = 0;
    ssize_t got;
    run_ms(ms);
    while ((got = recv(fd, received + length, sizeof received - 8 - length, MSG_DONTWAIT)) > 0)
        length += (size_t)got;
    const char *how = got == 0 ? "END" : errno != EAGAIN ? "RESET" : "";
    memcpy(received + length, how, strlen(how) + 1);
    return received;
}

static bool ends_in(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* --- a client that is closed --- */

/* Everything that may be called for a client. */
static void do_everything(struct client *client)
{
    static const struct answer endless = {.status = 200, .length = -1};
    client_begin(client, &endless);
    client_write(client, "text", 4);
    ck_assert_int_ge((int)client_owed(client), 0);
    ck_assert_ptr_eq(client_loop(client), loop);
}

static void waits_and_loses_it(struct client *client, const struct http_parser *request)
{
    (void)request;
    client_wait(client, &counting, NULL);
    no_memory = true;
    do_everything(client);
    no_memory = false;
    ck_assert(client->closed);
    do_everything(client);
    do_everything(client);
}

START_TEST(lost_within_the_handler)
{
    test_handler = waits_and_loses_it;
    int fd = ask("GET");
    ck_assert_str_eq(receive(fd, 50), "END");
    ck_assert_int_eq(gone_calls, 1);
    ck_assert(!told_within_handler);
    ck_assert_ptr_null(server->clients); /* it is freed */
    close(fd);
}
END_TEST

static void loses_it_and_waits(struct client *client, const struct http_parser *request)
{
    (void)request;
    no_memory = true;
    do_everything(client);
    no_memory = false;
    client_wait(client, &counting, NULL);
}

START_TEST(lost_before_it_is_waited_for)
{
    test_handler = loses_it_and_waits;
    int fd = ask("GET");
    ck_assert_str_eq(receive(fd, 50), "END");
    ck_assert_int_eq(gone_calls, 1);
    ck_assert_ptr_null(server->clients);
    close(fd);
}
END_TEST

static void loses_it_and_answers(struct client *client, const struct http_parser *request)
{
    waits_and_loses_it(client, request);
    client_answer_json(client, 200, "{}");
    client_end(client);
    client_answer_error(client, 500, NULL, "too late");
}

static void drops_it_twice(struct client *client, const struct http_parser *request)
{
    (void)request;
    client_wait(client, &counting, NULL);
    client_drop(client);
    client_drop(client);
    do_everything(client);
    client_end(client);
}

static http_handler *const finishing[] = {loses_it_and_answers, drops_it_twice};

START_TEST(who_finishes_is_not_told)
{
    test_handler = finishing[_i];
    int fd = ask("GET");
    ck_assert_str_eq(receive(fd, 50), "END");
    ck_assert_int_eq(gone_calls, 0);
    ck_assert_int_eq((int)http_server_counts(server).requests, 0); /* nor is it counted */
    ck_assert_ptr_null(server->clients);
    close(fd);
}
END_TEST

/* The reset comes while the loop is busy, and is only seen when the answer is written: the first
 * bytes go out, the next fail. */
static void busy_while_it_leaves(struct client *client, const struct http_parser *request)
{
    static const struct answer endless = {.status = 200, .length = -1};
    (void)request;
    reset(*(int *)received);
    client_wait(client, &counting, NULL);
    client_begin(client, &endless);
    for (int i = 0; i < 3; i++)
        client_write(client, "text", 4);
    ck_assert_int_eq((int)http_server_counts(server).clients, 0);
    do_everything(client);
}

START_TEST(reset_while_the_handler_runs)
{
    test_handler = busy_while_it_leaves;
    int fd = ask("GET");
    memcpy(received, &fd, sizeof fd);
    run_ms(50);
    ck_assert_int_eq(gone_calls, 1);
    ck_assert(!told_within_handler);
    ck_assert_ptr_null(server->clients);
}
END_TEST

static void just_waits(struct client *client, const struct http_parser *request)
{
    (void)request;
    client_wait(client, &counting, NULL);
}

/* Between the loss and being told of it, a timer may still answer. */
START_TEST(answered_in_the_round_of_its_loss)
{
    test_handler = just_waits;
    int fd = ask("GET");
    run_ms(50);
    client_close(asking); /* as client_ready() does on a reset */
    client_answer_json(asking, 200, "{}");
    run_ms(20);
    ck_assert_int_eq(gone_calls, 0);
    ck_assert_ptr_null(server->clients);
    close(fd);
}
END_TEST

static void loses_it_and_stops(struct client *client, const struct http_parser *request)
{
    waits_and_loses_it(client, request);
    loop_stop(loop);
}

START_TEST(freed_with_the_server)
{
    test_handler = loses_it_and_stops;
    int fd = ask("GET"), waiting = ask("GET");
    run_ms(50);
    ck_assert_int_eq(gone_calls, 0); /* the loop was stopped before */
    ck_assert_ptr_nonnull(server->clients);
    http_server_free(server);
    ck_assert_int_eq(gone_calls, 1);
    close(fd);
    close(waiting);
    server = NULL;
    loop_free(loop);
    setup(); /* for teardown() */
}
END_TEST

/* --- half-close --- */

static const char *const methods[] = {"GET", "HEAD"};

START_TEST(gives_up_its_place)
{
    test_handler = just_waits;
    gives_up = true;
    int fd = ask(methods[_i]);
    run_ms(50);
    ck_assert_int_eq(ended_calls, 0);
    shutdown(fd, SHUT_WR);
    const char *answer = receive(fd, 50);
    ck_assert_msg(strncmp(answer, "HTTP/1.1 503 ", 13) == 0, "%s", answer);
    ck_assert_ptr_nonnull(strstr(answer, "\r\nRetry-After: 1\r\n"));
    ck_assert_ptr_nonnull(strstr(answer, "\r\nConnection: close\r\n"));
    ck_assert(ends_in(answer, _i == 0 ? "\"}END" : "\r\n\r\nEND"));
    ck_assert_int_eq(ended_calls, 1);
    ck_assert_int_eq(gone_calls, 0);
    ck_assert_ptr_null(server->clients);
    close(fd);
}
END_TEST

START_TEST(keeps_its_place)
{
    test_handler = just_waits;
    int fd = ask("GET");
    run_ms(50);
    shutdown(fd, SHUT_WR);
    ck_assert_str_eq(receive(fd, 50), "");
    ck_assert_int_eq(ended_calls, 1);
    client_answer_json(asking, 200, "{}");
    ck_assert(ends_in(receive(fd, 50), "\r\n\r\n{}END"));
    ck_assert_int_eq(ended_calls, 1);
    ck_assert_int_eq(gone_calls, 0);
    close(fd);
}
END_TEST

/* --- answers --- */

static void answers_at_length(struct client *client, const struct http_parser *request)
{
    char text[3000] = "";
    (void)request;
    memset(text, 'x', sizeof text - 1);
    if (client_owed(client) == 0)
        client_answer_json(client, 200, "\"%s\"", text);
    else
        client_answer_error(client, 500, NULL, text);
}

/* Cut off, not read beyond. */
START_TEST(texts_that_do_not_fit)
{
    test_handler = answers_at_length;
    int fd = connect_socket();
    static const char two[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
    ck_assert_int_eq(send(fd, two, sizeof two - 1, 0), sizeof two - 1);
    char *answer = strstr(receive(fd, 50), "\r\nContent-Length: 1023\r\n");
    ck_assert_ptr_nonnull(answer);
    answer = strstr(answer, "\r\n\r\n\"");
    ck_assert_ptr_nonnull(answer);
    ck_assert_uint_eq(strspn(answer + 5, "x"), 1022);
    answer = strstr(answer, "\r\nContent-Length: 511\r\n");
    ck_assert_ptr_nonnull(answer);
    ck_assert(ends_in(answer, "xxx"));
    close(fd);
}
END_TEST

/* --- accepting --- */

static const struct backend *sound;
static int changes_to_fail, failed_changes, waits;

static bool failing_change(struct loop *looping, int fd, unsigned before, unsigned after)
{
    if (fd == listener && changes_to_fail > 0) {
        changes_to_fail--;
        failed_changes++;
        errno = ENOMEM;
        return false;
    }
    return sound->change(looping, fd, before, after);
}

static bool counting_wait(struct loop *looping, int timeout_ms)
{
    waits++;
    return sound->wait(looping, timeout_ms);
}

static void answers_ok(struct client *client, const struct http_parser *request)
{
    (void)request;
    client_answer_json(client, 200, "{}");
}

#ifdef __linux__ /* where a listening socket that is shut down answers EINVAL for ever */
/* i changes fail: pausing is not possible, or resuming, or resuming twice. */
START_TEST(accept_that_fails)
{
    struct backend failing = *(sound = loop->backend);
    int before = _i == 1;
    test_handler = answers_ok;
    failing.change = failing_change;
    failing.wait = counting_wait;
    loop->backend = &failing;
    changes_to_fail = before;
    shutdown(listener, SHUT_RDWR);
    waits = failed_changes = 0;
    run_ms(30);
    if (before == 0)
        changes_to_fail = _i;
    run_ms(420);
    ck_assert_msg(waits < (_i == 1 ? 1000 : 15), "%d waits in 450 ms", waits);
    ck_assert_int_eq(failed_changes, _i);
    ck_assert_int_eq(listen(listener, 16), 0); /* perhaps on another port */
    note_port();
    int fd = ask("GET");
    ck_assert(ends_in(receive(fd, 400), "\r\n\r\n{}"));
    close(fd);
    run_ms(20);
    loop->backend = sound;
}
END_TEST
#endif

static Suite *http_clients_suite(void)
{
    Suite *suite = suite_create("HTTP clients");
    TCase *tcase = tcase_create("clients");
    tcase_set_timeout(tcase, PLENTY);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, lost_within_the_handler);
    tcase_add_test(tcase, lost_before_it_is_waited_for);
    tcase_add_loop_test(tcase, who_finishes_is_not_told, 0, 2);
    tcase_add_test(tcase, reset_while_the_handler_runs);
    tcase_add_test(tcase, answered_in_the_round_of_its_loss);
    tcase_add_test(tcase, freed_with_the_server);
    tcase_add_loop_test(tcase, gives_up_its_place, 0, 2);
    tcase_add_test(tcase, keeps_its_place);
    tcase_add_test(tcase, texts_that_do_not_fit);
#ifdef __linux__
    tcase_add_loop_test(tcase, accept_that_fails, 0, 4);
#endif
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(http_clients_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
