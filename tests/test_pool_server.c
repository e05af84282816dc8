/*
 * What 08 adds to the server: /good-ping and /files in a pool of threads, and who waits for whom.
 * Where the pool has to be full, a minute of /good-ping fills it: no test waits for its end.
 */
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { PLENTY = 120 /* seconds a test may take on a slow, busy machine */ };
static const size_t MIB = 1 << 20;

/* --- asking --- */

/* Starts the server with these options besides those that all tests are run with. */
static void start_with(const char *options)
{
    char args[256];
    const char *usual = subject.args;
    snprintf(args, sizeof args, "%s %s", usual, options);
    subject.args = args;
    start_server();
    subject.args = usual;
}

/* Sends a request with these further fields, each with its CRLF. */
static void send_request(struct http_client *client, const char *method, const char *target,
                         const char *fields)
{
    char request[8192];
    snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", method, target,
             fields);
    ck_assert(http_send(client, request));
}

static void assert_get(struct http_client *client, const char *target, int wanted)
{
    int status = http_get(client, target);
    assert_status(client, status, wanted);
}

static void assert_answer(struct http_client *client, int wanted)
{
    int status = http_receive(client);
    assert_status(client, status, wanted);
}

static void reset(struct http_client *client)
{
    client_reset(client->fd);
    client->fd = -1;
    http_close(client);
}

static void half_close(const struct http_client *client)
{
    ck_assert_int_eq(shutdown(client->fd, SHUT_WR), 0);
}

static void close_all(struct http_client *clients, int count)
{
    for (int i = 0; i < count; i++)
        http_close(&clients[i]);
}

/* A number of /stats: of the pool's, or of those before them. */
static int stat_of(bool pool, const char *name)
{
    struct http_client client = connect_http();
    assert_get(&client, "/stats", 200);
    const char *from = pool ? strstr(client.body, "\"threads\":") : client.body;
    double number = json_number(from, name);
    ck_assert_msg(number >= 0, "no %s in %s", name, client.body);
    http_close(&client);
    return (int)number;
}

static void await_stat(bool pool, const char *name, int number)
{
    int is = stat_of(pool, name);
    for (double end = now() + patience(); is != number; is = stat_of(pool, name)) {
        ck_assert_msg(now() < end, "%s is %d and does not become %d", name, is, number);
        sleep_for(0.005);
    }
}

static int pool_stat(const char *name)
{
    return stat_of(true, name);
}

static void await_pool(const char *name, int number)
{
    await_stat(true, name, number);
}

/* Fills that many threads with pings of a minute. */
static void occupy(int threads, struct http_client *clients)
{
    for (int i = 0; i < threads; i++)
        clients[i] = connect_asking("/good-ping?ms=60000");
    await_pool("busy", threads);
}

/* --- /good-ping --- */

enum { PINGS = 100, THREADS = 40 };

/* Receives the answers of all, and when each of them came, in order. */
static void collect(struct http_client *clients, double *times)
{
    struct pollfd waits[PINGS];
    int left = PINGS;
    for (int i = 0; i < PINGS; i++)
        waits[i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
    while (left > 0) {
        ck_assert_int_gt(poll(waits, PINGS, patience() * 1000), 0);
        double came = now();
        for (int i = 0; i < PINGS; i++) {
            if (!waits[i].revents)
                continue;
            assert_answer(&clients[i], 200);
            waits[i].fd = -1;
            times[PINGS - left--] = came;
        }
    }
}

/* C08: 100 on 40 threads are three rounds, no less (the threads are no more) and, with a margin for
 * a busy machine, no more. */
START_TEST(hundred_pings_take_three_rounds)
{
    const double round = 0.5;
    double times[PINGS];
    struct http_client clients[PINGS];
    for (int i = 0; i < PINGS; i++)
        clients[i] = connect_http();
    double start = now();
    for (int i = 0; i < PINGS; i++)
        ck_assert(http_ask(&clients[i], "/good-ping?ms=500"));
    collect(clients, times);
    ck_assert_msg(times[0] - start >= round, "the first after %.2f s", times[0] - start);
    ck_assert_msg(times[THREADS] - start >= 2 * round, "the 41st did not wait for a thread");
    ck_assert_msg(times[THREADS + THREADS] - start >= 3 * round, "the 81st did not wait for two");
    ck_assert_msg(times[PINGS - 1] - start < 5 * round, "%.1f rounds",
                  (times[PINGS - 1] - start) / round);
    close_all(clients, PINGS);
}
END_TEST

/* C09, scaled down: the pool is taken, and who comes then waits for the first to be free. */
START_TEST(fifth_of_four_threads_starts_when_the_first_ends)
{
    struct http_client others[3];
    stop_server();
    start_with("--threads 4");
    occupy(3, others);
    struct http_client first = connect_asking("/good-ping?ms=1000");
    await_pool("busy", 4);
    struct http_client fifth = connect_asking("/good-ping?ms=0"), health = connect_http();
    for (int i = 0; i < 20; i++)
        assert_get(&health, "/health", 200); /* nothing waits but pings */
    assert_answer(&fifth, 200);
    ck_assert_msg(client_has_input(first.fd, 0), "the fifth overtook the first");
    for (int i = 0; i < 3; i++)
        ck_assert(!client_has_input(others[i].fd, 0));
    close_all(others, 3);
    http_close(&first);
    http_close(&fifth);
    http_close(&health);
}
END_TEST

START_TEST(full_is_503_and_the_connection_lives)
{
    static const char *const targets[] = {"/good-ping", "/files/hello.txt", "/good-ping?ms=0"};
    struct http_client running, client;
    stop_server();
    start_with("--threads 1 --queue 1");
    occupy(1, &running);
    struct http_client waiting = connect_asking("/good-ping?ms=0");
    await_pool("queued", 1);
    client = connect_http();
    for (int i = 0; i < COUNT(targets); i++) {
        assert_get(&client, targets[i], 503);
        const char *later = http_field(&client, "Retry-After");
        ck_assert(later && strtol(later, NULL, 10) > 0);
        assert_get(&client, "/health", 200);
    }
    http_close(&waiting); /* a place is free again */
    await_pool("queued", 0);
    ck_assert(http_ask(&client, "/good-ping?ms=0"));
    await_pool("queued", 1);
    http_close(&running);
    http_close(&client);
}
END_TEST

START_TEST(stats_add_up)
{
    struct http_client clients[3], client;
    stop_server();
    start_with("--threads 3");
    ck_assert_int_eq(pool_stat("size"), 3);
    ck_assert_int_eq(pool_stat("busy") + pool_stat("queued") + pool_stat("done"), 0);
    client = connect_http();
    for (int i = 1; i <= 5; i++) {
        assert_get(&client, "/good-ping?ms=1", 200);
        ck_assert_int_eq(pool_stat("done"), i);
        ck_assert_int_eq(pool_stat("busy"), 0);
    }
    occupy(3, clients);
    ck_assert(http_ask(&client, "/good-ping?ms=1"));
    await_pool("queued", 1);
    ck_assert_int_eq(pool_stat("busy"), 3);
    ck_assert_int_eq(pool_stat("done"), 5);
    ck_assert_int_eq(pool_stat("size"), 3);
    close_all(clients, 3);
    http_close(&client);
}
END_TEST

static const char *const bad_ms[] = {"-1", "60001", "x", "", "1.5", "99999999999999999999"};

START_TEST(bad_ms_is_400)
{
    char target[64];
    struct http_client client = connect_http();
    snprintf(target, sizeof target, "/good-ping?ms=%s", bad_ms[_i]);
    assert_get(&client, target, 400);
    assert_get(&client, "/good-ping?ms=0", 200);
    http_close(&client);
}
END_TEST

START_TEST(answers_come_in_order)
{
    struct http_client client = connect_asking("/good-ping?ms=200");
    send_request(&client, "HEAD", "/good-ping?ms=0", "");
    ck_assert(http_ask(&client, "/nothing"));
    assert_answer(&client, 200);
    int status = http_receive_head(&client);
    assert_status(&client, status, 200);
    assert_answer(&client, 404);
    http_close(&client);
}
END_TEST

START_TEST(terrible_ping_still_blocks)
{
    struct http_client health = connect_http();
    struct http_client terrible = connect_asking("/terrible-ping?ms=1500");
    sleep_for(0.2);
    ck_assert(http_ask(&health, "/health"));
    ck_assert(!client_has_input(health.fd, 0.5));
    assert_answer(&health, 200);
    assert_answer(&terrible, 200);
    http_close(&health);
    http_close(&terrible);
}
END_TEST

/* --- clients that leave --- */

START_TEST(who_leaves_the_queue_frees_the_place)
{
    struct http_client running, waiting[3];
    stop_server();
    start_with("--threads 1 --queue 3");
    occupy(1, &running);
    for (int i = 0; i < 3; i++)
        waiting[i] = connect_asking(i < 2 ? "/good-ping?ms=60000" : "/files/hello.txt");
    await_pool("queued", 3);
    http_close(&waiting[1]);
    await_pool("queued", 2);
    reset(&waiting[0]);
    await_pool("queued", 1);
    http_close(&waiting[2]);
    await_pool("queued", 0);
    await_stat(false, "clients", 2); /* the one that runs, and the one that asks for this */
    ck_assert_int_eq(pool_stat("busy"), 1);
    http_close(&running);
}
END_TEST

static const char *const places[] = {"/good-ping?ms=60000", "/files/hello.txt"};

/* Nobody can tell it from one that has left: its place goes to others, and it is told so. */
START_TEST(who_half_closes_in_the_queue_is_told)
{
    struct http_client running, get, head, behind;
    stop_server();
    start_with("--threads 1 --queue 3");
    occupy(1, &running);
    get = connect_asking(places[_i]);
    head = connect_http();
    send_request(&head, "HEAD", places[_i], "");
    behind = connect_asking("/files/nothing");
    await_pool("queued", 3);
    half_close(&get);
    assert_answer(&get, 503);
    ck_assert_str_eq(http_field(&get, "Retry-After"), "1");
    ck_assert(http_keeps_its_word(&get));
    half_close(&head);
    ck_assert_int_eq(http_receive_head(&head), 503);
    ck_assert(http_keeps_its_word(&head));
    await_pool("queued", 1);
    http_close(&running);
    http_close(&get);
    http_close(&head);
    http_close(&behind);
}
END_TEST

/* The same for a request whose turn comes after the half-close. */
START_TEST(who_has_half_closed_is_told_when_its_turn_comes)
{
    struct http_client running, behind, client;
    stop_server();
    start_with("--threads 1 --queue 3");
    occupy(1, &running);
    behind = connect_asking("/files/nothing");
    client = connect_asking("/perfect-ping?ms=300");
    send_request(&client, "GET", "/good-ping", "");
    half_close(&client);
    assert_answer(&client, 200);
    assert_answer(&client, 503);
    ck_assert(http_keeps_its_word(&client));
    http_close(&running);
    http_close(&behind);
    http_close(&client);
}
END_TEST

START_TEST(who_leaves_while_it_runs_leaves_nothing)
{
    int before = process_descriptors(server.pid);
    for (int i = 0; i < 10; i++) {
        struct http_client client = connect_asking("/good-ping?ms=300");
        await_pool("busy", 1);
        if (i % 2)
            reset(&client);
        else
            http_close(&client);
        await_pool("busy", 0);
        ck_assert_int_eq(pool_stat("done"), i + 1); /* it ran to its end */
    }
    await_stat(false, "clients", 1);
    ck_assert(descriptors_become(before));
}
END_TEST

START_TEST(who_half_closes_while_it_runs_is_answered)
{
    struct http_client client = connect_asking("/good-ping?ms=500");
    await_pool("busy", 1);
    half_close(&client);
    assert_answer(&client, 200);
    ck_assert(http_at_end(&client));
    http_close(&client);
}
END_TEST

static const char *const short_work[] = {"/good-ping?ms=0", "/good-ping?ms=20", "/files/nothing"};

/* As `nc -N` does: request and end of file arrive together, and all threads are free. */
START_TEST(who_half_closes_at_once_is_answered)
{
    for (int i = 0; i < 100; i++) {
        struct http_client client = connect_asking(short_work[_i]);
        half_close(&client);
        assert_answer(&client, _i < 2 ? 200 : 404);
        ck_assert(http_at_end(&client));
        http_close(&client);
    }
}
END_TEST

/* --- the end, and the command line --- */

static const int ending_signals[] = {SIGTERM, SIGINT};

/* Everything in flight: pings that run and that wait, and files, which wait, too. */
START_TEST(signal_ends_it_with_work_in_flight)
{
    struct http_client clients[60];
    stop_server();
    start_with("--threads 30");
    for (int i = 0; i < COUNT(clients); i++)
        clients[i] = connect_asking(i >= 30 && i % 2 ? "/files/nothing" : "/good-ping?ms=60000");
    await_pool("busy", 30);
    await_pool("queued", 30);
    double start = now();
    int status = process_end(&server, ending_signals[_i]);
    ck_assert_msg(status == 0, "exit status %d; stderr: %s", status, server.errors);
    ck_assert_msg(now() - start < 15, "%.1f s until the end", now() - start);
    ck_assert_str_eq(server.errors, "");
    ck_assert_ptr_nonnull(strstr(server.output, "\nserved "));
    close_all(clients, COUNT(clients));
}
END_TEST

static const struct {
    const char *option, *value;
    int status;
} bad_options[] = {
    {"--threads", "0", 2},
    {"--threads", "-1", 2},
    {"--threads", "x", 2},
    {"--threads", "4x", 2},
    {"--threads", "", 2},
    {"--threads", "99999999999999999999", 2},
    {"--threads", NULL, 2},
    {"--queue", "0", 2},
    {"--queue", "x", 2},
    {"--queue", "-5", 2},
    {"--queue", "99999999999999999999", 2},
    {"--queue", NULL, 2},
    {"--root", NULL, 2},
    {"--root", "/no/such/folder", 1},
    {"--root", "/dev/null", 1}, /* not a folder */
    {"--root", "", 1},
};

START_TEST(bad_option_is_named)
{
    const char *option = bad_options[_i].option, *value = bad_options[_i].value;
    const char *argv[] = {subject.server, "0", option, value, NULL};
    struct process process = process_start(argv, 0);
    process_end(&process, process_listening(&process) >= 0 ? SIGTERM : 0);
    ck_assert_msg(process.status == bad_options[_i].status, "%s '%s': exit status %d", option,
                  value ? value : "nothing", process.status);
    ck_assert_str_eq(process.output, "");
    ck_assert_ptr_nonnull(strstr(process.errors, option));
    const char *end = strchr(process.errors, '\n');
    ck_assert(end && !end[1]); /* one line */
}
END_TEST

START_TEST(help_names_the_options)
{
    const char *argv[] = {subject.server, "--help", NULL};
    struct process process = process_start(argv, 0);
    ck_assert_int_eq(process_end(&process, 0), 0);
    ck_assert_ptr_nonnull(strstr(process.output, "--threads"));
    ck_assert_ptr_nonnull(strstr(process.output, "--queue"));
    ck_assert_ptr_nonnull(strstr(process.output, "--root"));
}
END_TEST

/* --- /files: a folder of our own --- */

static char outside[32]; /* holds a secret, and the folder served */
static char root[64];
static const char SECRET[] = "secret-of-the-outside";

/* The path of a file in the folder served; "../x": beside it. Overwritten by the next call. */
static const char *path_of(const char *name)
{
    static char path[100]; /* fits into the address of a socket, too */
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static void put_file(const char *name, const char *bytes, size_t length)
{
    FILE *file = fopen(path_of(name), "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, length, file), length);
    ck_assert_int_eq(fclose(file), 0);
}

/* A sparse file: it takes no room on the disk, and reads as zeros. */
static void put_zeros(const char *name, size_t length)
{
    put_file(name, "", 0);
    ck_assert_int_eq(truncate(path_of(name), (off_t)length), 0);
}

static void make_root(void)
{
    snprintf(outside, sizeof outside, "/tmp/pool-server-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(outside));
    snprintf(root, sizeof root, "%s/root", outside);
    ck_assert_int_eq(mkdir(root, 0755), 0);
    ck_assert_int_eq(mkdir(path_of("folder"), 0755), 0);
    put_file("../secret.txt", SECRET, sizeof SECRET - 1);
    put_file("text.txt", "some text", 9);
    put_file("folder/inner.txt", "inner text", 10);
    put_file("thousand.bin", pattern(1000), 1000);
    put_zeros("zeros.bin", 100 * MIB);
}

static void remove_root(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", outside);
    ck_assert_int_eq(system(command), 0);
}

static void start_on_root(void)
{
    char options[96];
    snprintf(options, sizeof options, "--root %s", root);
    start_with(options);
}

static void start_on_root_with_one_thread(void)
{
    char options[96];
    snprintf(options, sizeof options, "--threads 1 --root %s", root);
    start_with(options);
}

/* --- /files: what is there --- */

static const size_t file_sizes[] = {0, 1, 2, 1000, 65535, 65536, 65537, 131072, 3 << 20};

START_TEST(files_come_exactly)
{
    struct http_client client = connect_http();
    for (int i = 0; i < COUNT(file_sizes); i++) {
        char name[32], target[64];
        size_t size = file_sizes[i];
        snprintf(name, sizeof name, "%zu.bin", size);
        snprintf(target, sizeof target, "/files/%s", name);
        put_file(name, pattern(size + 1) + 1, size);
        assert_get(&client, target, 200);
        ck_assert_uint_eq(client.body_length, size);
        ck_assert_msg(memcmp(client.body, pattern(size + 1) + 1, size) == 0, "%zu bytes", size);
    }
    http_close(&client);
}
END_TEST

static void assert_head(struct http_client *client, const char *target, const char *fields,
                        const char *length)
{
    send_request(client, "HEAD", target, fields);
    int status = http_receive_head(client);
    assert_status(client, status, 200);
    ck_assert_str_eq(http_field(client, "Content-Length"), length);
    ck_assert_ptr_null(http_field(client, "Content-Range"));
}

START_TEST(head_is_an_answer_without_its_body)
{
    struct http_client client = connect_http();
    assert_head(&client, "/files/thousand.bin", "", "1000");
    assert_head(&client, "/files/zeros.bin", "", "104857600");
    /* RFC 9110, 14.2: Range is for GET, and has to be ignored otherwise */
    assert_head(&client, "/files/thousand.bin", "Range: bytes=0-4\r\n", "1000");
    assert_head(&client, "/files/thousand.bin", "Range: bytes=1000-\r\n", "1000");
    send_request(&client, "HEAD", "/files/nothing", "");
    int status = http_receive_head(&client);
    assert_status(&client, status, 404);
    assert_get(&client, "/files/text.txt", 200);
    http_close(&client);
}
END_TEST

static const struct {
    const char *name, *type;
} types[] = {
    {"a.html", "text/html; charset=utf-8"},
    {"A.HTML", "text/html; charset=utf-8"},
    {"a.tar.txt", "text/plain; charset=utf-8"},
    {"a.md", "text/plain; charset=utf-8"},
    {"a.css", "text/css; charset=utf-8"},
    {"a.js", "text/javascript"},
    {"a.json", "application/json"},
    {"a.svg", "image/svg+xml"},
    {"a.png", "image/png"},
    {"a.jpg", "image/jpeg"},
    {"a.bin", "application/octet-stream"},
    {"html", "application/octet-stream"},
    {"a.", "application/octet-stream"},
    {"folder/.txt", "text/plain; charset=utf-8"},
    {"a%20b%2etxt", "text/plain; charset=utf-8"},
};

START_TEST(content_type_is_the_names)
{
    char target[64];
    const char *name = types[_i].name;
    put_file(strchr(name, '%') ? "a b.txt" : name, "{}", 2);
    snprintf(target, sizeof target, "/files/%s", name);
    struct http_client client = connect_http();
    assert_get(&client, target, 200);
    ck_assert_str_eq(http_field(&client, "Content-Type"), types[_i].type);
    ck_assert(http_body_is(&client, "{}"));
    http_close(&client);
}
END_TEST

static const struct {
    const char *range;
    int status;
    size_t first, last; /* of thousand.bin */
} ranges[] = {
    {"bytes=0-0", 206, 0, 0},
    {"bytes=0-999", 206, 0, 999},
    {"bytes=10-19", 206, 10, 19},
    {"bytes=999-999", 206, 999, 999},
    {"bytes=500-", 206, 500, 999},
    {"bytes=999-", 206, 999, 999},
    {"bytes=0-", 206, 0, 999},
    {"bytes=-1", 206, 999, 999},
    {"bytes=-300", 206, 700, 999},
    {"bytes=-1000", 206, 0, 999},
    {"bytes=-1001", 206, 0, 999}, /* all there is */
    {"bytes=990-1000", 206, 990, 999},
    {"bytes=0-99999999999999999", 206, 0, 999},
    {"Bytes=5-6", 206, 5, 6}, /* RFC 9110, 14.1: in any case */
    {"bytes=1000-", 416, 0, 0},
    {"bytes=1000-2000", 416, 0, 0},
    {"bytes=99999999999999999-", 416, 0, 0},
    {"bytes=-0", 416, 0, 0},
    {"bytes=", 200, 0, 999},
    {"bytes=-", 200, 0, 999},
    {"bytes=5", 200, 0, 999},
    {"bytes=6-5", 200, 0, 999},
    {"bytes=--5", 200, 0, 999},
    {"bytes=1-2-3", 200, 0, 999},
    {"bytes=0x1-2", 200, 0, 999},
    {"bytes=a-b", 200, 0, 999},
    {"bytes=+1-2", 200, 0, 999},
    {"bytes=0-1,5-6", 200, 0, 999}, /* several: may be ignored, 14.2 */
    {"lines=1-2", 200, 0, 999},
    {"0-4", 200, 0, 999},
    {"", 200, 0, 999},
};

static void assert_part(const struct http_client *client, size_t first, size_t last)
{
    ck_assert_uint_eq(client->body_length, last - first + 1);
    ck_assert_int_eq(memcmp(client->body, pattern(1000) + first, client->body_length), 0);
}

START_TEST(range)
{
    char field[96], expected[64] = "bytes */1000";
    size_t first = ranges[_i].first, last = ranges[_i].last;
    struct http_client client = connect_http();
    snprintf(field, sizeof field, "Range: %s\r\n", ranges[_i].range);
    send_request(&client, "GET", "/files/thousand.bin", field);
    assert_answer(&client, ranges[_i].status);
    if (client.status != 416)
        assert_part(&client, first, last);
    if (client.status == 206)
        snprintf(expected, sizeof expected, "bytes %zu-%zu/1000", first, last);
    const char *content_range = http_field(&client, "Content-Range");
    ck_assert_int_eq(content_range != NULL, client.status != 200);
    ck_assert(!content_range || strcmp(content_range, expected) == 0);
    assert_get(&client, "/files/text.txt", 200);
    http_close(&client);
}
END_TEST

/* There are no validators here, so it cannot match (RFC 9110, 13.1.5). */
START_TEST(if_range_is_whole)
{
    struct http_client client = connect_http();
    send_request(&client, "GET", "/files/thousand.bin",
                 "Range: bytes=0-4\r\nIf-Range: \"some-tag\"\r\n");
    assert_answer(&client, 200);
    assert_part(&client, 0, 999);
    http_close(&client);
}
END_TEST

/* A part of more than one piece, not at its edges. */
START_TEST(part_of_a_large_file)
{
    struct http_client client = connect_http();
    put_file("large.bin", pattern(MIB), MIB);
    send_request(&client, "GET", "/files/large.bin", "Range: bytes=65000-700000\r\n");
    assert_answer(&client, 206);
    ck_assert_uint_eq(client.body_length, 700001 - 65000);
    ck_assert_int_eq(memcmp(client.body, pattern(MIB) + 65000, client.body_length), 0);
    http_close(&client);
}
END_TEST

/* --- /files: large ones, and clients that take their time --- */

/* Receives up to most bytes, head and all. Returns how many came before the end. */
static size_t take(const struct http_client *client, size_t most)
{
    static char bytes[1 << 16];
    size_t got = 0;
    while (got < most) {
        size_t piece = most - got < sizeof bytes ? most - got : sizeof bytes;
        ssize_t n = recv(client->fd, bytes, piece, 0);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    return got;
}

START_TEST(large_file_takes_no_memory)
{
    struct http_client client = connect_http();
    assert_get(&client, "/health", 200);
    long before = process_memory_kib(server.pid), most = before;
    send_request(&client, "GET", "/files/zeros.bin", "Connection: close\r\n");
    size_t got = 0;
    for (size_t n; (n = take(&client, 10 * MIB)) > 0; got += n) {
        long kib = process_memory_kib(server.pid);
        most = kib > most ? kib : most;
    }
    ck_assert_msg(got > 100 * MIB && got < 100 * MIB + 1000, "%zu bytes", got);
    ck_assert_msg(before < 0 || subject.sanitized || most - before < 2048, "%ld KiB more",
                  most - before);
    http_close(&client);
}
END_TEST

/* Ten who do not read, and a pool of one thread: it belongs to those who do. */
START_TEST(slow_readers_hold_up_nobody)
{
    struct http_client slow[10], quick;
    stop_server();
    start_on_root_with_one_thread();
    quick = connect_http();
    assert_get(&quick, "/files/text.txt", 200);
    assert_get(&quick, "/health", 200); /* that file is closed by now */
    long before = process_memory_kib(server.pid);
    int descriptors = process_descriptors(server.pid);
    for (int i = 0; i < COUNT(slow); i++)
        slow[i] = connect_asking("/files/zeros.bin");
    for (int i = 0; i < 100; i++) {
        assert_get(&quick, "/files/text.txt", 200);
        assert_get(&quick, "/good-ping?ms=0", 200);
    }
    await_pool("queued", 0);
    await_pool("busy", 0); /* nothing is read that nobody takes */
    long grown = process_memory_kib(server.pid) - before;
    ck_assert_msg(before < 0 || subject.sanitized || grown < 3000, "%ld KiB more", grown);
    ck_assert_uint_eq(take(&slow[0], 100 * MIB), 100 * MIB); /* they get all of it in the end */
    ck_assert_uint_eq(take(&slow[9], 100 * MIB), 100 * MIB);
    close_all(slow, COUNT(slow)); /* the others leave in the middle */
    ck_assert(descriptors_become(descriptors));
    http_close(&quick);
}
END_TEST

START_TEST(abandoned_downloads_leave_nothing)
{
    int before = process_descriptors(server.pid);
    for (int i = 0; i < 60; i++) {
        struct http_client client = connect_asking("/files/zeros.bin");
        if (i % 3)
            take(&client, (size_t)(i % 3 - 1) * MIB + 1);
        if (i % 2)
            http_close(&client);
        else
            reset(&client);
    }
    await_stat(false, "clients", 1);
    await_pool("busy", 0);
    ck_assert(descriptors_become(before));
}
END_TEST

/* The head has promised more than there is now: only the end of the connection can tell. */
START_TEST(file_that_shrinks_ends_the_connection)
{
    put_zeros("shrinks.bin", 100 * MIB);
    struct http_client client = connect_asking("/files/shrinks.bin");
    ck_assert_uint_eq(take(&client, MIB), MIB);
    ck_assert_int_eq(truncate(path_of("shrinks.bin"), 100), 0);
    ck_assert_uint_lt(take(&client, 100 * MIB), 99 * MIB);
    ck_assert(http_at_end(&client));
    http_close(&client);
    client = connect_http();
    assert_get(&client, "/files/text.txt", 200);
    http_close(&client);
}
END_TEST

START_TEST(file_that_grows_is_sent_as_it_was)
{
    put_zeros("grows.bin", 50 * MIB);
    struct http_client client = connect_asking("/files/grows.bin");
    ck_assert_uint_eq(take(&client, MIB), MIB);
    ck_assert_int_eq(truncate(path_of("grows.bin"), (off_t)(100 * MIB)), 0);
    send_request(&client, "GET", "/health", "Connection: close\r\n");
    size_t rest = take(&client, 100 * MIB);
    ck_assert_msg(rest > 49 * MIB && rest < 49 * MIB + 1000, "%zu bytes", rest);
    http_close(&client);
}
END_TEST

/* --- /files: what is not there --- */

/* Has to be refused, and not a byte of the secret told. */
static void assert_refused(const char *target)
{
    struct http_client client = connect_http();
    send_request(&client, "GET", target, "");
    int status = http_receive(&client);
    ck_assert_msg(status == 404 || status == 400, "%.80s: %s", target, http_describe(&client));
    ck_assert_ptr_null(strstr(client.body, SECRET));
    http_close(&client);
}

static const char *const nowhere[] = {
    "/files",
    "/files/",
    "/files//",
    "/files/nothing.txt",
    "/files/.",
    "/files/..",
    "/files/../secret.txt",
    "/files/../root/text.txt",
    "/files/%2e%2e/secret.txt",
    "/files/%2E%2E%2Fsecret.txt",
    "/files/%2e%2e%2fsecret.txt",
    "/files/..%2fsecret.txt",
    "/files/.%2e/secret.txt",
    "/files/folder/../../secret.txt",
    "/files/folder/../text.txt",
    "/files/folder/%2e%2e/%2e%2e/secret.txt",
    "/files/nothing/../text.txt",
    "/files/./text.txt",
    "/files/folder/./inner.txt",
    "/files/folder//inner.txt",
    "/files//text.txt",
    "/files//etc/passwd",
    "/files/%2fetc/passwd",
    "/files/%2fetc%2fpasswd",
    "/files/text.txt/",
    "/files/text.txt/.",
    "/files/text.txt/..",
    "/files/text.txt/../text.txt",
    "/files/folder",
    "/files/folder/",
    "/files/folder/.",
    "/files/text.txt%00",
    "/files/text.txt%00.html",
    "/files/%00",
    "/files/..%00/secret.txt",
    "/files/..\\secret.txt",
    "/files/..%5csecret.txt",
    "/files/folder%5c..%5c..%5csecret.txt",
    "/files/%252e%252e/secret.txt", /* decoded once, and not twice */
    "/files/%c0%ae%c0%ae/secret.txt",
    "/files/%c0%ae%c0%ae%c0%afsecret.txt",
    "/files/..;/secret.txt",
    "/files/%",
    "/files/%2",
    "/files/%zz",
    "/files/text.txt%20",
    "/files/%20text.txt",
    "/files/~root",
    "/files/$HOME",
};

START_TEST(nothing_but_what_is_below_the_root)
{
    assert_refused(nowhere[_i]);
}
END_TEST

START_TEST(absolute_paths_lead_nowhere)
{
    char target[128];
    snprintf(target, sizeof target, "/files/%s/secret.txt", outside);
    assert_refused(target);
    snprintf(target, sizeof target, "/files/..%s/secret.txt", outside);
    assert_refused(target);
    snprintf(target, sizeof target, "/files/%%2f%s/secret.txt", outside + 1);
    assert_refused(target);
}
END_TEST

START_TEST(very_long_names)
{
    static const int lengths[] = {255, 256, 1023, 4095, 4096, 7000};
    for (int i = 0; i < COUNT(lengths); i++) {
        char target[7100] = "/files/";
        memset(target + 7, 'a', (size_t)lengths[i]);
        assert_refused(target);
        for (char *slash = target + 8; slash < target + lengths[i]; slash += 2)
            *slash = '/'; /* a deep path instead of a long name */
        assert_refused(target);
    }
    struct http_client client = connect_http();
    assert_get(&client, "/files/text.txt", 200);
    http_close(&client);
}
END_TEST

/* Wherever they lead: no symbolic link is followed. */
START_TEST(symbolic_links_are_not_followed)
{
    static const char *const links[][3] = {
        {"../secret.txt", "out.txt", "out.txt"},
        {"/etc/passwd", "absolute", "absolute"},
        {"text.txt", "in.txt", "in.txt"},
        {"folder", "to-folder", "to-folder/inner.txt"},
        {"..", "up", "up/secret.txt"},
        {".", "here", "here/text.txt"},
        {"loop", "loop", "loop"},
        {"nothing", "dangling", "dangling"},
        {"../secret.txt", "folder/out.txt", "folder/out.txt"},
    };
    for (int i = 0; i < COUNT(links); i++) {
        char target[64];
        ck_assert_int_eq(symlink(links[i][0], path_of(links[i][1])), 0);
        snprintf(target, sizeof target, "/files/%s", links[i][2]);
        assert_refused(target);
    }
}
END_TEST

static void put_socket(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path_of(name));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd);
}

/* With one thread: had one of these held it, the last request would not be answered. */
START_TEST(special_files_are_refused_at_once)
{
    stop_server();
    start_on_root_with_one_thread();
    ck_assert_int_eq(mkfifo(path_of("fifo"), 0644), 0);
    assert_refused("/files/fifo");
    assert_refused("/files/fifo/x");
    put_socket("socket");
    assert_refused("/files/socket");
    /* devices, where we may make them: Linux' tty(4), and zero(4), which never ends */
    if (mknod(path_of("tty"), S_IFCHR | 0644, (dev_t)(5 << 8)) == 0)
        assert_refused("/files/tty");
    if (mknod(path_of("zero"), S_IFCHR | 0644, (dev_t)(1 << 8 | 5)) == 0)
        assert_refused("/files/zero");
    put_file("unreadable.txt", SECRET, sizeof SECRET - 1);
    ck_assert_int_eq(chmod(path_of("unreadable.txt"), 0), 0);
    if (geteuid() != 0) /* who may read everything */
        assert_refused("/files/unreadable.txt");
    struct http_client client = connect_http();
    assert_get(&client, "/files/text.txt", 200);
    http_close(&client);
}
END_TEST

START_TEST(only_get_and_head)
{
    struct http_client client = connect_http();
    send_request(&client, "DELETE", "/files/text.txt", "");
    assert_answer(&client, 405);
    ck_assert_str_eq(http_field(&client, "Allow"), "GET, HEAD");
    http_close(&client);
}
END_TEST

/* The file is there: that it cannot be opened now must not pass for its absence. */
START_TEST(out_of_descriptors_is_not_404)
{
    char options[160];
    struct http_client others[80], client;
    stop_server();
    snprintf(options, sizeof options, "%s --root %s", subject.args, root);
    server = server_start(subject.server, options, 70);
    client = connect_http();
    assert_get(&client, "/files/text.txt", 200);
    for (int i = 0; i < COUNT(others); i++)
        others[i] = connect_http();
    int refused = 0;
    for (double end = now() + patience(); refused < 3; sleep_for(0.01)) {
        int status = http_get(&client, "/files/text.txt");
        ck_assert_msg(status == 200 || status == 500 || status == 503, "%s",
                      http_describe(&client));
        refused += status != 200;
        ck_assert_msg(now() < end, "it has descriptors without end");
    }
    close_all(others, COUNT(others));
    for (double end = now() + patience(); http_get(&client, "/files/text.txt") != 200;)
        ck_assert_msg(now() < end, "they are gone, and still: %s", http_describe(&client));
    /* and what is absent is so again, in every thread that has been out of descriptors */
    for (int i = 0; i < 100; i++)
        assert_get(&client, i % 2 ? "/files/.." : "/files/none", 404);
    http_close(&client);
}
END_TEST

/* --- the suite --- */

static TCase *add_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, PLENTY);
    suite_add_tcase(suite, tcase);
    return tcase;
}

static void add_pool_tests(Suite *suite)
{
    TCase *pool = add_case(suite, "pool"), *leaving = add_case(suite, "leaving");
    tcase_add_checked_fixture(pool, start_server, stop_server);
    tcase_add_test(pool, hundred_pings_take_three_rounds);
    tcase_add_test(pool, fifth_of_four_threads_starts_when_the_first_ends);
    tcase_add_test(pool, full_is_503_and_the_connection_lives);
    tcase_add_test(pool, stats_add_up);
    tcase_add_loop_test(pool, bad_ms_is_400, 0, COUNT(bad_ms));
    tcase_add_test(pool, answers_come_in_order);
    tcase_add_test(pool, terrible_ping_still_blocks);

    tcase_add_checked_fixture(leaving, start_server, stop_server);
    tcase_add_test(leaving, who_leaves_the_queue_frees_the_place);
    tcase_add_loop_test(leaving, who_half_closes_in_the_queue_is_told, 0, COUNT(places));
    tcase_add_test(leaving, who_has_half_closed_is_told_when_its_turn_comes);
    tcase_add_test(leaving, who_leaves_while_it_runs_leaves_nothing);
    tcase_add_test(leaving, who_half_closes_while_it_runs_is_answered);
    tcase_add_loop_test(leaving, who_half_closes_at_once_is_answered, 0, COUNT(short_work));
}

static void add_file_tests(Suite *suite)
{
    TCase *files = add_case(suite, "files"), *refused = add_case(suite, "refused");
    tcase_add_unchecked_fixture(files, make_root, remove_root);
    tcase_add_checked_fixture(files, start_on_root, stop_server);
    tcase_add_test(files, files_come_exactly);
    tcase_add_test(files, head_is_an_answer_without_its_body);
    tcase_add_loop_test(files, content_type_is_the_names, 0, COUNT(types));
    tcase_add_loop_test(files, range, 0, COUNT(ranges));
    tcase_add_test(files, if_range_is_whole);
    tcase_add_test(files, part_of_a_large_file);
    tcase_add_test(files, large_file_takes_no_memory);
    tcase_add_test(files, slow_readers_hold_up_nobody);
    tcase_add_test(files, abandoned_downloads_leave_nothing);
    tcase_add_test(files, file_that_shrinks_ends_the_connection);
    tcase_add_test(files, file_that_grows_is_sent_as_it_was);

    tcase_add_unchecked_fixture(refused, make_root, remove_root);
    tcase_add_checked_fixture(refused, start_on_root, stop_server);
    tcase_add_loop_test(refused, nothing_but_what_is_below_the_root, 0, COUNT(nowhere));
    tcase_add_test(refused, absolute_paths_lead_nowhere);
    tcase_add_test(refused, very_long_names);
    tcase_add_test(refused, symbolic_links_are_not_followed);
    tcase_add_test(refused, special_files_are_refused_at_once);
    tcase_add_test(refused, only_get_and_head);
    tcase_add_test(refused, out_of_descriptors_is_not_404);
}

Suite *pool_server_suite(void)
{
    Suite *suite = suite_create("pool server");
    add_pool_tests(suite);
    add_file_tests(suite);
    TCase *ending = add_case(suite, "pool ending"), *alone = add_case(suite, "pool alone");
    tcase_add_checked_fixture(ending, start_server, NULL); /* the tests end it themselves */
    tcase_add_loop_test(ending, signal_ends_it_with_work_in_flight, 0, COUNT(ending_signals));
    tcase_add_loop_test(alone, bad_option_is_named, 0, COUNT(bad_options));
    tcase_add_test(alone, help_names_the_options);
    return suite;
}
