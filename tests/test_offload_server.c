/* What chapter 09 adds, on the running server: work in processes, tasks, events; and that nothing
 * is left over, whoever is killed. */
#include "suite.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

enum { PLENTY = 120 }; /* seconds a test may take on a slow, busy machine */
enum { WORKERS_MAX = 256 };

/* Long enough for anything that a test does meanwhile; and what is killed anyway. */
static const char compute_long[] = "/compute?n=2000000000";
static const char long_result[] = "{\"result\":2666666664666666667000000000}";
static const char compute_for_ever[] = "/compute?n=10000000000";

__extension__ typedef unsigned __int128 wide;

/* What a server has to answer for n, as a string. */
static const char *sum_of_squares(unsigned long long n)
{
    static char text[40];
    wide sum = n == 0 ? 0 : (wide)(n - 1) * n / 2 * (2 * n - 1) / 3;
    char *digit = text + sizeof text - 1;
    do
        *--digit = (char)('0' + (int)(sum % 10));
    while ((sum /= 10) > 0);
    return digit;
}

/* --- a server with these options, and its processes --- */

static void start(const char *options)
{
    char args[256];
#ifdef __linux__
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* who loses its parent becomes our child */
#endif
    snprintf(args, sizeof args, "%s %s", subject.args, options);
    server = server_start(subject.server, args, 0);
}

static bool nobody_is_left(void)
{
    for (double end = now() + patience(); now() < end; sleep_for(0.002)) {
        pid_t pid;
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            ;
        if (pid < 0 && errno == ECHILD)
            return true;
    }
    return false;
}

static void stop(void)
{
    stop_server();
    ck_assert_msg(nobody_is_left(), "the server has ended, its processes have not");
}

static bool are_gone(const pid_t pids[], int count)
{
    /* a helper that waits hears SIGCHLD late, and collects nobody till then */
    int gone = thread_sanitizer() ? count : 0;
    for (double end = now() + patience(); gone < count && now() < end; sleep_for(0.002)) {
        gone = 0;
        for (int i = 0; i < count; i++)
            gone += kill(pids[i], 0) < 0 && errno == ESRCH;
    }
    return gone == count;
}

/* The parent of a process, and its state as a letter: see proc(5). -1 if there is none. */
static pid_t parent_of(const char *name, char *state)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%.20s/stat", name);
    FILE *file = isdigit((unsigned char)name[0]) ? fopen(path, "r") : NULL;
    if (!file)
        return -1;
    const char *name_end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    fclose(file);
    if (!name_end)
        return -1;
    *state = name_end[2];
    return (pid_t)strtol(name_end + 3, NULL, 10);
}

/* The children of a process. Returns how many, those included that are dead and not collected. */
static int children_of(pid_t parent, pid_t pids[WORKERS_MAX], int *dead)
{
    int count = 0;
    char state = '?';
    DIR *folder = opendir("/proc");
    *dead = 0;
    for (struct dirent *entry; folder && (entry = readdir(folder)) && count < WORKERS_MAX;)
        if (parent_of(entry->d_name, &state) == parent) {
            pids[count++] = (pid_t)strtol(entry->d_name, NULL, 10);
            *dead += state == 'Z';
        }
    if (folder)
        closedir(folder);
    return count;
}

/* The helper's process id; 0 where the system does not tell. */
static pid_t helper_of_server(void)
{
    pid_t pids[WORKERS_MAX];
    int dead;
    if (access("/proc/self/stat", R_OK) < 0)
        return 0;
    ck_assert_int_eq(children_of(server.pid, pids, &dead), 1);
    return pids[0];
}

/* The helper that has come in that one's place, and with it that many workers. Waits for them. */
static pid_t await_helper(pid_t old, int workers)
{
    pid_t pids[WORKERS_MAX], its[WORKERS_MAX];
    int dead;
    for (double end = now() + patience(); now() < end; sleep_for(0.005))
        if (children_of(server.pid, pids, &dead) == 1 && pids[0] != old &&
            children_of(pids[0], its, &dead) == workers)
            return pids[0];
    ck_abort_msg("no helper with %d workers in the place of %ld", workers, (long)old);
}

/* True once the server has one helper with that many workers, and nobody is dead. Waits for it. */
static bool processes_become(int workers)
{
    pid_t pids[WORKERS_MAX], helper = helper_of_server();
    int dead;
    for (double end = now() + patience(); helper && !thread_sanitizer() && now() < end;
         sleep_for(0.01))
        if (children_of(helper, pids, &dead) == workers && dead == 0)
            return true;
    return helper == 0 || thread_sanitizer();
}

/* --- events --- */

struct listener {
    int fd;
    size_t length;
    char text[64 * 1024];
};

static bool receive_some(struct listener *listener)
{
    size_t room = sizeof listener->text - 1 - listener->length;
    ssize_t n = recv(listener->fd, listener->text + listener->length, room, 0);
    listener->length += n > 0 ? (size_t)n : 0;
    listener->text[listener->length] = '\0';
    return n > 0;
}

/* Forgets what comes before that place. */
static void skip_to(struct listener *listener, const char *place)
{
    listener->length -= (size_t)(place - listener->text);
    memmove(listener->text, place, listener->length + 1);
}

/* The caller closes listener->fd. */
static void listen_to_events(struct listener *listener)
{
    const char *head_end;
    *listener = (struct listener){.fd = connect_client()};
    const char request[] = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    ck_assert(client_send(listener->fd, request, strlen(request)));
    while (!(head_end = strstr(listener->text, "\r\n\r\n")))
        ck_assert(receive_some(listener));
    ck_assert_msg(strncmp(listener->text, "HTTP/1.1 200 ", 13) == 0, "%s", listener->text);
    ck_assert_ptr_nonnull(strstr(listener->text, "Content-Type: text/event-stream\r\n"));
    ck_assert_ptr_nonnull(strstr(listener->text, "Cache-Control: no-store\r\n"));
    ck_assert_ptr_nonnull(strstr(listener->text, "Connection: close\r\n"));
    ck_assert_ptr_null(strstr(listener->text, "Content-Length"));
    skip_to(listener, head_end + 4);
}

/* Waits for the next event, and puts its JSON into data. Returns its id. */
static long long next_event(struct listener *listener, char data[8192])
{
    const char *end;
    while (!(end = strstr(listener->text, "\n\n")))
        ck_assert_msg(receive_some(listener), "no event, but: %s", listener->text);
    const char *id = strstr(listener->text, "id: "), *json = strstr(listener->text, "data: ");
    ck_assert_msg(id && json && id < json && json < end, "no event: %s", listener->text);
    snprintf(data, 8192, "%.*s", (int)(end - json - 6), json + 6);
    ck_assert_msg(json_valid(data), "no JSON: %s", data);
    long long number = strtoll(id + 4, NULL, 10);
    skip_to(listener, end + 2);
    return number;
}

/* The workers' process ids, as the events have them; only those that are busy, or all. */
static int workers(pid_t pids[WORKERS_MAX], bool busy_only)
{
    static struct listener listener;
    char data[8192];
    int count = 0;
    listen_to_events(&listener);
    next_event(&listener, data);
    client_reset(listener.fd);
    const char *at = strstr(data, "\"pids\":[");
    while (at && (at = strstr(at, "{\"pid\":")) && count < WORKERS_MAX) {
        bool busy = strncmp(strchr(at, ','), ",\"busy\":true", 12) == 0;
        if (busy || !busy_only)
            pids[count++] = (pid_t)strtol(at + 7, NULL, 10);
        at++;
    }
    return count;
}

/* Waits until that many workers are there, or are busy. */
static void await_workers(pid_t pids[WORKERS_MAX], bool busy_only, int number)
{
    int count = -1;
    for (double end = now() + patience(); now() < end; sleep_for(0.01))
        if ((count = workers(pids, busy_only)) == number)
            return;
    ck_abort_msg("%d workers where %d were to come", count, number);
}

/* One of the figures of /stats: that name within that part. */
static double figure(const char *part, const char *name)
{
    char quoted[64];
    struct http_client client = connect_http();
    assert_status(&client, http_get(&client, "/stats"), 200);
    snprintf(quoted, sizeof quoted, "\"%s\":", part);
    const char *at = strstr(client.body, quoted);
    ck_assert_msg(at != NULL, "no %s in %s", part, client.body);
    double number = json_number(at, name);
    http_close(&client);
    return number;
}

static void await_figure(const char *part, const char *name, double number)
{
    double there = -1;
    for (double end = now() + patience(); now() < end; sleep_for(0.01))
        if ((there = figure(part, name)) >= number && there <= number)
            return;
    ck_abort_msg("%s %s is %g, not %g", part, name, there, number);
}

/* How many descriptors the server has when it has that many clients: those that have left may take
 * a moment to be noticed. */
static int descriptors_with_clients(int clients)
{
    struct http_client client = connect_http();
    double there = -1;
    for (double end = now() + patience(); now() < end; sleep_for(0.01)) {
        assert_status(&client, http_get(&client, "/stats"), 200);
        there = json_number(client.body, "clients");
        if (there <= clients + 1) /* and this one */
            break;
    }
    ck_assert_int_eq((int)there, clients + 1);
    int count = process_descriptors(server.pid) - 1;
    http_close(&client);
    return count;
}

/* Waits until that many workers compute: each has its job, and has begun with it. */
static void await_computing(pid_t pids[WORKERS_MAX], int number)
{
    await_workers(pids, true, number);
    for (double end = now() + patience(); now() < end; sleep_for(0.01)) {
        int begun = 0;
        for (int i = 0; i < number; i++) {
            double used = process_cpu(pids[i]);
            begun += used < 0 || used > 0.02;
        }
        if (begun == number)
            return;
    }
    ck_abort_msg("the workers have jobs, and do nothing");
}

/* --- /compute --- */

static const struct {
    const char *target;
    unsigned long long n;
} sums[] = {
    {"/compute?n=0", 0},
    {"/compute?n=1", 1},
    {"/compute?n=2", 2},
    {"/compute?n=1000", 1000},
    {"/compute?n=0&on=thread", 0},
    {"/compute?n=1&on=thread", 1},
    {"/compute?n=2&on=thread", 2},
    {"/compute?on=thread&n=1000", 1000},
    {"/compute?n=16777215&on=thread", 16777215}, /* around one piece, in which it is done there */
    {"/compute?n=16777216&on=thread", 16777216},
    {"/compute?n=16777217&on=thread", 16777217},
    {"/compute?n=0&on=loop", 0},
    {"/compute?n=1&on=loop", 1},
    {"/compute?n=1000000&on=loop", 1000000},
    {"/compute?n=1000000&on=process", 1000000},
    {"/compute?n=%34000000&on=pr%6fcess", 4000000}, /* more than 2^64 */
    {"/compute?n=4000000&on=thread", 4000000},
    {"/compute?n=4000000&on=loop", 4000000},
    {"/compute?n=100000000", 100000000},
    {"/compute?n=100000000&on=thread", 100000000},
};

START_TEST(a_sum)
{
    char body[80];
    start("--job-timeout 60");
    struct http_client client = connect_http();
    assert_status(&client, http_get(&client, sums[_i].target), 200);
    snprintf(body, sizeof body, "{\"result\":%s}", sum_of_squares(sums[_i].n));
    ck_assert_msg(http_body_is(&client, body), "not %s, but: %s", body, http_describe(&client));
    http_close(&client);
    stop();
}
END_TEST

/* What the tests compare with is right: the articles' figure. */
START_TEST(the_formula)
{
    ck_assert_str_eq(sum_of_squares(100000000), "333333328333333350000000");
    ck_assert_str_eq(sum_of_squares(2), "1");
    ck_assert_str_eq(sum_of_squares(0), "0");
}
END_TEST

START_TEST(wrong_parameters_of_compute)
{
    static const char *const targets[] = {
        "/compute",
        "/compute?",
        "/compute?on=process",
        "/compute?n=",
        "/compute?n=x",
        "/compute?n=-1",
        "/compute?n=1.5",
        "/compute?n=1e3",
        "/compute?n=0x10",
        "/compute?n=10000000001",
        "/compute?n=18446744073709551616",
        "/compute?n=1%00",
        "/compute?n=%zz",
        "/compute?n=1&on=",
        "/compute?n=1&on=fork",
        "/compute?n=1&on=Process",
        "/compute?n=1&on=processes",
        "/compute?n=1&on=thread%00",
        "/compute?n=1&on=%",
        "/compute?n=1&on=loop%22",
    };
    start("");
    struct http_client client = connect_http();
    for (int i = 0; i < COUNT(targets); i++) {
        int status = http_get(&client, targets[i]);
        ck_assert_msg(status == 400, "%s: %s", targets[i], http_describe(&client));
    }
    assert_status(&client, http_get(&client, "/compute?n=2"), 200);
    http_close(&client);
    stop();
}
END_TEST

START_TEST(each_client_gets_its_own_sum)
{
    enum { CLIENTS = 60 };
    static const char *const places[] = {"process", "thread"};
    struct http_client clients[CLIENTS];
    char target[80], body[80];
    start("");
    for (int i = 0; i < CLIENTS; i++) {
        snprintf(target, sizeof target, "/compute?n=%d&on=%s", (CLIENTS - i) * 10007,
                 places[i % 2]);
        clients[i] = connect_asking(target);
    }
    for (int i = 0; i < CLIENTS; i++) {
        unsigned long long n = (unsigned long long)(CLIENTS - i) * 10007;
        assert_status(&clients[i], http_receive(&clients[i]), 200);
        snprintf(body, sizeof body, "{\"result\":%s}", sum_of_squares(n));
        ck_assert_msg(http_body_is(&clients[i], body), "not %s, but: %s", body,
                      http_describe(&clients[i]));
        http_close(&clients[i]);
    }
    stop();
}
END_TEST

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double values[], int count)
{
    qsort(values, (size_t)count, sizeof values[0], by_size);
    return values[count / 2];
}

START_TEST(health_answers_while_all_workers_compute)
{
    enum { CLIENTS = 10, TIMES = 101 };
    struct http_client clients[CLIENTS], prober;
    double times[TIMES];
    pid_t pids[WORKERS_MAX];
    start("--workers 2 --job-timeout 60");
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_asking(compute_for_ever);
    await_workers(pids, true, 2);
    prober = connect_http();
    for (int i = 0; i < TIMES; i++) {
        double began = now();
        assert_status(&prober, http_get(&prober, "/health"), 200);
        times[i] = now() - began;
    }
    double middle = median(times, TIMES);
    ck_assert_msg(middle < 0.05, "median %.1f ms", middle * 1000);
    ck_assert(figure("workers", "busy") >= 2);
    ck_assert(figure("workers", "queued") >= CLIENTS - 2);
    for (int i = 0; i < CLIENTS; i++)
        http_close(&clients[i]);
    http_close(&prober);
    stop();
}
END_TEST

/* How long it takes until that server has answered all of these. */
static double time_for(int port, int requests)
{
    struct http_client clients[16];
    double began = now();
    for (int i = 0; i < requests; i++) {
        clients[i] = http_connect(port);
        ck_assert(http_ask(&clients[i], "/compute?n=50000000"));
    }
    for (int i = 0; i < requests; i++) {
        assert_status(&clients[i], http_receive(&clients[i]), 200);
        http_close(&clients[i]);
    }
    return now() - began;
}

/* How long the workers have been waiting for a CPU to run on, in seconds: see proc(5), schedstat.
 */
static double waited(const pid_t pids[], int count)
{
    char path[64], line[128], *rest;
    double seconds = 0;
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "/proc/%ld/schedstat", (long)pids[i]);
        FILE *file = fopen(path, "r");
        if (file && fgets(line, sizeof line, file)) {
            strtod(line, &rest);
            seconds += strtod(rest, NULL) / 1e9;
        }
        if (file)
            fclose(file);
    }
    return seconds;
}

/* Pairs of measurements that follow each other; only those count in which nobody else wanted the
 * CPUs. Where that is never so, there is nothing to be learned. */
START_TEST(two_workers_do_more_than_one)
{
    enum { PAIRS = 3, TRIES = 40 };
    double ratios[PAIRS], best = 0;
    pid_t pids[WORKERS_MAX];
    int count = 0;
    if (subject.sanitized || sysconf(_SC_NPROCESSORS_ONLN) < 2)
        return;
    start("--workers 1 --job-timeout 60");
    struct process one = server;
    await_workers(pids, false, 1);
    pid_t alone = pids[0];
    start("--workers 2 --job-timeout 60");
    await_workers(pids, false, 2);
    pids[2] = alone;
    for (int i = 0; i < TRIES && best < 1.7; i++) {
        double before = waited(pids, 3);
        double slow = time_for(one.port, 4), fast = time_for(server.port, 4);
        if (waited(pids, 3) - before > 0.02 * (slow + fast))
            continue;
        ratios[count++] = slow / fast;
        if (count == PAIRS) {
            best = median(ratios, PAIRS) > best ? median(ratios, PAIRS) : best;
            count = 0;
        }
    }
    if (best > 0)
        ck_assert_msg(best >= 1.7, "two workers do %.2f times as much as one", best);
    ck_assert_int_eq(process_end(&one, SIGTERM), 0);
    stop();
}
END_TEST

START_TEST(what_does_not_fit_the_queue_is_told_so)
{
    start("--workers 1 --queue 1 --job-timeout 60");
    pid_t pids[WORKERS_MAX];
    struct http_client running = connect_asking(compute_for_ever);
    await_workers(pids, true, 1);
    struct http_client waiting = connect_asking(compute_for_ever);
    await_figure("workers", "queued", 1);
    struct http_client refused = connect_asking("/compute?n=1");
    assert_status(&refused, http_receive(&refused), 503);
    ck_assert_str_eq(http_field(&refused, "Retry-After"), "1");
    assert_status(&refused, http_get(&refused, "/compute?n=2&on=thread"), 200);
    ck_assert(http_send(&refused, "POST /tasks HTTP/1.1\r\nHost: localhost\r\n"
                                  "Content-Length: 8\r\n\r\n{\"n\": 1}"));
    assert_status(&refused, http_receive(&refused), 503);
    ck_assert_str_eq(http_field(&refused, "Retry-After"), "1");
    http_close(&waiting); /* who leaves gives up its place */
    await_figure("workers", "queued", 0);
    struct http_client next = connect_asking("/compute?n=2");
    await_figure("workers", "queued", 1);
    for (int i = 1; i <= 2; i++) { /* then the worker is free */
        await_computing(pids, 1);
        kill(pids[0], SIGKILL);
        await_figure("workers", "lost", i);
    }
    assert_status(&running, http_receive(&running), 500);
    assert_status(&next, http_receive(&next), 200);
    http_close(&running);
    http_close(&refused);
    http_close(&next);
    stop();
}
END_TEST

/* Who leaves while a worker computes for it is forgotten, and the worker goes on. */
START_TEST(clients_that_leave)
{
    enum { CLIENTS = 20 };
    pid_t pids[WORKERS_MAX];
    start("--workers 2 --job-timeout 60");
    await_workers(pids, false, 2);
    int before = descriptors_with_clients(0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < CLIENTS; i++) {
            struct http_client client =
                connect_asking(i % 2 ? "/compute?n=20000000" : "/compute?n=20000000&on=thread");
            if (i % 4 < 2)
                sleep_for(0.01);
            client_reset(client.fd);
            client.fd = -1;
        }
        ck_assert(descriptors_become(before));
    }
    await_figure("workers", "busy", 0);
    await_figure("threads", "busy", 0);
    struct http_client client = connect_asking("/compute?n=2");
    assert_status(&client, http_receive(&client), 200);
    http_close(&client);
    stop();
}
END_TEST

/* --- workers that die --- */

START_TEST(a_killed_worker_costs_its_client_nothing)
{
    pid_t pids[WORKERS_MAX], again[WORKERS_MAX];
    start("--workers 2 --job-timeout 60");
    await_workers(pids, false, 2);
    struct http_client client = connect_asking(compute_long);
    await_computing(pids, 1);
    kill(pids[0], SIGKILL);
    await_figure("workers", "lost", 1);
    await_workers(again, true, 1);
    ck_assert_int_ne(again[0], pids[0]);
    ck_assert(are_gone(pids, 1));
    assert_status(&client, http_receive(&client), 200);
    ck_assert_msg(http_body_is(&client, long_result), "%s", http_describe(&client));
    http_close(&client);
    await_workers(pids, false, 2);
    ck_assert(processes_become(2));
    stop();
}
END_TEST

START_TEST(killed_twice_is_an_error_and_costs_nobody_else)
{
    pid_t pids[WORKERS_MAX], others[WORKERS_MAX];
    start("--workers 2 --job-timeout 60");
    await_workers(pids, false, 2);
    struct http_client victim = connect_asking(compute_for_ever);
    await_workers(pids, true, 1);
    struct http_client other = connect_asking(compute_long);
    await_workers(others, true, 2);
    pid_t spared = others[0] == pids[0] ? others[1] : others[0];
    for (int i = 1; i <= 2; i++) {
        await_computing(pids, 2);
        kill(pids[0] == spared ? pids[1] : pids[0], SIGKILL);
        await_figure("workers", "lost", i);
    }
    assert_status(&victim, http_receive(&victim), 500);
    assert_status(&victim, http_get(&victim, "/compute?n=1000"), 200); /* on the same connection */
    assert_status(&other, http_receive(&other), 200);
    ck_assert_msg(http_body_is(&other, long_result), "%s", http_describe(&other));
    http_close(&victim);
    http_close(&other);
    stop();
}
END_TEST

/* Every request is answered, by its sum or by an error; and the other way of work goes on. */
START_TEST(all_workers_killed_twenty_times_under_load)
{
    enum { ROUNDS = 20, CLIENTS = 12 };
    static const char target[] = "/compute?n=20000000";
    struct http_client clients[CLIENTS];
    pid_t pids[WORKERS_MAX];
    char body[80];
    int answered = 0, failed = 0;
    snprintf(body, sizeof body, "{\"result\":%s}", sum_of_squares(20000000));
    start("--workers 3");
    await_workers(pids, false, 3);
    int before = descriptors_with_clients(0);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_http();
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CLIENTS; i++)
            ck_assert(http_ask(&clients[i], i % 6 ? target : "/compute?n=2&on=thread"));
        int count = workers(pids, false);
        for (int i = 0; i < count; i++)
            kill(pids[i], SIGKILL);
        for (int i = 0; i < CLIENTS; i++) {
            int status = http_receive(&clients[i]);
            ck_assert_msg(status == 200 || (status == 500 && i % 6), "%s",
                          http_describe(&clients[i]));
            ck_assert(status != 200 || http_body_is(&clients[i], i % 6 ? body : "{\"result\":1}"));
            answered++;
            failed += status == 500;
        }
    }
    ck_assert(answered == ROUNDS * CLIENTS);
    /* one kill a round is no reason for a job to fail: it takes two */
    ck_assert_msg(failed <= ROUNDS, "%d of %d failed", failed, answered);
    for (int i = 0; i < CLIENTS; i++)
        http_close(&clients[i]);
    await_workers(pids, false, 3);
    await_figure("workers", "busy", 0);
    ck_assert(figure("workers", "lost") >= ROUNDS);
    ck_assert(figure("workers", "done") + failed >= ROUNDS * (CLIENTS - 2) - 0.5);
    ck_assert(descriptors_become(before));
    ck_assert(processes_become(3));
    stop();
}
END_TEST

START_TEST(over_its_time)
{
    pid_t before[WORKERS_MAX], after[WORKERS_MAX];
    start("--workers 2 --job-timeout 1");
    await_workers(before, false, 2);
    struct http_client slow = connect_asking(compute_for_ever), quick = connect_http();
    await_workers(before, true, 1);
    while (!client_has_input(slow.fd, 0.01)) /* the others go on */
        assert_status(&quick, http_get(&quick, "/compute?n=1000"), 200);
    assert_status(&slow, http_receive(&slow), 504);
    ck_assert(are_gone(before, 1));
    await_workers(after, false, 2);
    ck_assert(after[0] != before[0] && after[1] != before[0]);
    await_figure("workers", "lost", 1);
    assert_status(&slow, http_get(&slow, "/compute?n=1000"), 200);
    http_close(&slow);
    http_close(&quick);
    ck_assert(processes_become(2));
    stop();
}
END_TEST

START_TEST(after_max_jobs_another_worker)
{
    pid_t pids[WORKERS_MAX], last = 0;
    start("--workers 1 --max-jobs 1");
    struct http_client client = connect_http();
    for (int i = 0; i < 5; i++) {
        await_workers(pids, false, 1);
        ck_assert_int_ne(pids[0], last);
        last = pids[0];
        assert_status(&client, http_get(&client, "/compute?n=1000"), 200);
        ck_assert(are_gone(&last, 1));
    }
    http_close(&client);
    stop();
}
END_TEST

/* A process that was forked while a client was connected would keep its connection open. */
START_TEST(connections_close_on_time_while_workers_work)
{
    enum { CLIENTS = 3 };
    struct http_client jobs[2], clients[CLIENTS];
    pid_t pids[WORKERS_MAX];
    start("--workers 2 --job-timeout 60");
    await_workers(pids, false, 2);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_http();
    for (int i = 0; i < 2; i++)
        kill(pids[i], SIGKILL); /* those that come next come after the clients */
    await_figure("workers", "lost", 2);
    for (int i = 0; i < 2; i++)
        jobs[i] = connect_asking(compute_for_ever);
    await_workers(pids, true, 2);
    for (int i = 0; i < CLIENTS; i++) {
        ck_assert(http_send(&clients[i], "GET /health HTTP/1.1\r\nHost: localhost\r\n"
                                         "Connection: close\r\n\r\n"));
        assert_status(&clients[i], http_receive(&clients[i]), 200);
        ck_assert(http_at_end(&clients[i]));
        http_close(&clients[i]);
    }
    ck_assert_int_eq((int)figure("workers", "busy"), 2);
    for (int i = 0; i < 2; i++)
        http_close(&jobs[i]);
    stop();
}
END_TEST

#ifdef __linux__
/* What the descriptors of a process are: how many links begin like that. */
static int descriptors_of_kind(pid_t pid, const char *kind)
{
    char path[64], link[128];
    int count = 0;
    for (int fd = 0; fd < 1024; fd++) {
        snprintf(path, sizeof path, "/proc/%ld/fd/%d", (long)pid, fd);
        ssize_t n = readlink(path, link, sizeof link - 1);
        link[n > 0 ? n : 0] = '\0';
        count += strncmp(link, kind, strlen(kind)) == 0;
    }
    return count;
}

/* A worker that has just been forked still has what the helper has. */
static bool sockets_become(pid_t pid, int count)
{
    for (double end = now() + patience(); now() < end; sleep_for(0.005))
        if (descriptors_of_kind(pid, "socket:") == count)
            return true;
    return false;
}

START_TEST(workers_have_one_socket_each)
{
    enum { CLIENTS = 10 };
    struct http_client clients[CLIENTS];
    pid_t pids[WORKERS_MAX];
    start("--workers 3");
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_http();
    for (int round = 0; round < 3; round++) {
        await_workers(pids, false, 3);
        for (int i = 0; i < 3; i++) {
            ck_assert(sockets_become(pids[i], 1));
            ck_assert_int_eq(descriptors_of_kind(pids[i], "anon_inode:"), 0); /* epoll */
        }
        kill(pids[round], SIGKILL);
        await_figure("workers", "lost", round + 1);
    }
    ck_assert_int_eq(descriptors_of_kind(helper_of_server(), "socket:"), 1);
    for (int i = 0; i < CLIENTS; i++)
        http_close(&clients[i]);
    stop();
}
END_TEST
#endif

static const int limits[] = {20, 28, 64};

/* More clients than it has descriptors for take every one that is free, and stay. */
START_TEST(workers_come_back_while_clients_have_all_descriptors)
{
    enum { CLIENTS = 200, ROUNDS = 5 };
    int clients[CLIENTS], dead;
    pid_t pids[WORKERS_MAX];
    char args[256];
    snprintf(args, sizeof args, "%s --workers 2 --threads 2", subject.args);
    server = server_start(subject.server, args, limits[_i]);
    pid_t helper = helper_of_server();
    if (helper) {
        await_helper(0, 2);
        struct http_client first = connect_http();
        assert_status(&first, http_get(&first, "/compute?n=1000"), 200);
        for (int i = 0; i < CLIENTS; i++)
            clients[i] = connect_client();
        for (int round = 0; round < ROUNDS; round++) {
            int count = children_of(helper, pids, &dead);
            for (int i = 0; i < count; i++)
                kill(pids[i], SIGKILL);
            assert_status(&first, http_get(&first, "/compute?n=1000"), 200);
            await_helper(0, 2);
            kill(helper, SIGKILL);
            helper = await_helper(helper, 2);
            assert_status(&first, http_get(&first, "/compute?n=1000"), 200);
        }
        http_close(&first);
        for (int i = 0; i < CLIENTS; i++)
            close(clients[i]);
    }
    stop();
}
END_TEST

/* --- /tasks --- */

static bool post(struct http_client *client, const char *body, size_t length)
{
    char head[160];
    snprintf(head, sizeof head,
             "POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n", length);
    return http_send(client, head) && client_send(client->fd, body, length);
}

/* Posts a task for n, to be answered by http_receive(). */
static void post_number(struct http_client *client, unsigned long long n)
{
    char body[64];
    snprintf(body, sizeof body, "{\"n\": %llu}", n);
    ck_assert(post(client, body, strlen(body)));
}

enum { ID_LENGTH = 32 };

/* Receives the answer to that: the task's id. */
static void receive_id(struct http_client *client, char id[ID_LENGTH + 1])
{
    char location[64];
    size_t length = 0;
    assert_status(client, http_receive(client), 202);
    char *text = json_string(client->body, "task_id", &length);
    ck_assert_msg(text && length == ID_LENGTH && strspn(text, "0123456789abcdef") == ID_LENGTH,
                  "%s", http_describe(client));
    snprintf(id, ID_LENGTH + 1, "%s", text);
    free(text);
    snprintf(location, sizeof location, "/tasks/%s", id);
    ck_assert_str_eq(http_field(client, "Location"), location);
}

/* Asks for the task until it is no longer processed. */
static void await_task(struct http_client *client, const char *id)
{
    char target[64];
    snprintf(target, sizeof target, "/tasks/%s", id);
    for (double end = now() + PLENTY; now() < end; sleep_for(0.005)) {
        assert_status(client, http_get(client, target), 200);
        if (!http_body_is(client, "{\"status\":\"processing\"}"))
            return;
    }
    ck_abort_msg("task %s is processed for ever", id);
}

static void assert_task_done(struct http_client *client, const char *id, unsigned long long n)
{
    char body[96];
    await_task(client, id);
    snprintf(body, sizeof body, "{\"status\":\"done\",\"result\":%s}", sum_of_squares(n));
    ck_assert_msg(http_body_is(client, body), "not %s, but: %s", body, http_describe(client));
}

START_TEST(a_task_from_post_to_done)
{
    char id[ID_LENGTH + 1], target[64];
    pid_t pids[WORKERS_MAX];
    start("--workers 1 --job-timeout 60");
    struct http_client client = connect_http();
    struct http_client first = connect_asking(compute_long); /* the task has to wait for it */
    await_workers(pids, true, 1);
    post_number(&client, 100000000);
    receive_id(&client, id);
    snprintf(target, sizeof target, "/tasks/%s", id);
    assert_status(&client, http_get(&client, target), 200);
    ck_assert_msg(http_body_is(&client, "{\"status\":\"processing\"}"), "%s",
                  http_describe(&client));
    ck_assert_int_eq((int)figure("tasks", "processing"), 1);
    assert_task_done(&client, id, 100000000);
    assert_task_done(&client, id, 100000000); /* it is kept */
    ck_assert_int_eq((int)figure("tasks", "processing"), 0);
    ck_assert_int_eq((int)figure("tasks", "kept"), 1);
    assert_status(&first, http_receive(&first), 200);
    http_close(&first);
    http_close(&client);
    stop();
}
END_TEST

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int different_digits(char ids[][ID_LENGTH + 1], int count, int place)
{
    bool seen[256] = {false};
    int different = 0;
    for (int i = 0; i < count; i++) {
        unsigned char digit = (unsigned char)ids[i][place];
        different += !seen[digit];
        seen[digit] = true;
    }
    return different;
}

START_TEST(a_thousand_tasks_at_once)
{
    enum { TASKS = 1000, CLIENTS = 10, EACH = TASKS / CLIENTS };
    static char ids[TASKS][ID_LENGTH + 1];
    struct http_client clients[CLIENTS];
    start("");
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = connect_http();
        for (int j = 0; j < EACH; j++)
            post_number(&clients[i], (unsigned long long)(i * EACH + j) * 31);
    }
    for (int i = 0; i < CLIENTS; i++) {
        for (int j = 0; j < EACH; j++)
            receive_id(&clients[i], ids[i * EACH + j]);
        if (i > 0)
            http_close(&clients[i]);
    }
    for (int i = 0; i < TASKS; i++) /* whoever asks */
        assert_task_done(&clients[0], ids[i], (unsigned long long)i * 31);
    http_close(&clients[0]);
    ck_assert_int_eq((int)figure("tasks", "kept"), TASKS);
    qsort(ids, TASKS, sizeof ids[0], by_text);
    for (int i = 1; i < TASKS; i++)
        ck_assert_str_ne(ids[i - 1], ids[i]);
    for (int place = 0; place < ID_LENGTH; place++) /* no digit of an id can be guessed */
        ck_assert_msg(different_digits(ids, TASKS, place) == 16, "digit %d", place + 1);
    stop();
}
END_TEST

/* A batch after the other, so that the queue never fills. */
START_TEST(the_newest_ten_thousand_results_are_kept)
{
    enum { KEPT = 10000, MORE = 100, BATCH = 100 };
    static char ids[KEPT + MORE][ID_LENGTH + 1];
    char target[64];
    start("");
    struct http_client client = connect_http();
    for (int i = 0; i < KEPT + MORE; i += BATCH) {
        for (int j = 0; j < BATCH; j++)
            post_number(&client, (unsigned long long)i + (unsigned long long)j);
        for (int j = 0; j < BATCH; j++)
            receive_id(&client, ids[i + j]);
        assert_task_done(&client, ids[i + BATCH - 1], (unsigned long long)(i + BATCH - 1));
    }
    /* workers need not end in the order of the posts: some leeway on either side */
    for (double end = now() + patience(); figure("tasks", "processing") > 0; sleep_for(0.01))
        ck_assert(now() < end);
    ck_assert_int_eq((int)figure("tasks", "kept"), KEPT);
    snprintf(target, sizeof target, "/tasks/%s", ids[MORE / 2]);
    assert_status(&client, http_get(&client, target), 404);
    assert_task_done(&client, ids[MORE + BATCH], MORE + BATCH);
    http_close(&client);
    stop();
}
END_TEST

START_TEST(right_bodies)
{
    static const struct {
        const char *text;
        unsigned long long n;
    } bodies[] = {{"{\"n\":0}", 0},
                  {"{\"n\":1}", 1},
                  {"  {  \"n\"  :  1000  }  ", 1000},
                  {"\r\n\t{\r\n\t\"n\"\r\n\t:\r\n\t77\r\n\t}\r\n\t", 77}};
    char id[ID_LENGTH + 1];
    start("");
    struct http_client client = connect_http();
    for (int i = 0; i < COUNT(bodies); i++) {
        ck_assert(post(&client, bodies[i].text, strlen(bodies[i].text)));
        receive_id(&client, id);
        assert_task_done(&client, id, bodies[i].n);
    }
    ck_assert(http_send(&client, "POST /tasks HTTP/1.1\r\nHost: localhost\r\n"
                                 "Transfer-Encoding: chunked\r\n\r\n"
                                 "3\r\n{\"n\r\n6\r\n\": 100\r\n1\r\n}\r\n0\r\n\r\n"));
    receive_id(&client, id);
    assert_task_done(&client, id, 100);
    http_close(&client);
    stop();
}
END_TEST

static const struct {
    const char *text;
    size_t length;
} malformed[] = {{BYTES("")},
                 {BYTES(" ")},
                 {BYTES("n")},
                 {BYTES("n=5")},
                 {BYTES("5")},
                 {BYTES("null")},
                 {BYTES("[]")},
                 {BYTES("[5]")},
                 {BYTES("{}")},
                 {BYTES("{")},
                 {BYTES("{\"n\"")},
                 {BYTES("{\"n\":")},
                 {BYTES("{\"n\":}")},
                 {BYTES("{\"n\":5")},
                 {BYTES("{n:5}")},
                 {BYTES("{'n':5}")},
                 {BYTES("{\"N\":5}")},
                 {BYTES("{\"m\":5}")},
                 {BYTES("{\"nn\":5}")},
                 {BYTES("{\"\":5}")},
                 {BYTES("{\"n\" 5}")},
                 {BYTES("{\"n\":-5}")},
                 {BYTES("{\"n\":-0}")},
                 {BYTES("{\"n\":+5}")},
                 {BYTES("{\"n\":05}")},
                 {BYTES("{\"n\":5.0}")},
                 {BYTES("{\"n\":5e1}")},
                 {BYTES("{\"n\":0x5}")},
                 {BYTES("{\"n\":\"5\"}")},
                 {BYTES("{\"n\":true}")},
                 {BYTES("{\"n\":null}")},
                 {BYTES("{\"n\":[5]}")},
                 {BYTES("{\"n\":{}}")},
                 {BYTES("{\"n\":5 5}")},
                 {BYTES("{\"n\":5,}")},
                 {BYTES("{\"n\":5}}")},
                 {BYTES("{\"n\":5} x")},
                 {BYTES("{\"n\":5}{\"n\":6}")},
                 {BYTES("{\"n\":5,\"n\":6}")},
                 {BYTES("{\"n\":5,\"m\":6}")},
                 {BYTES("{\"n\":10000000001}")},
                 {BYTES("{\"n\":99999999999}")},
                 {BYTES("{\"n\":18446744073709551617}")},
                 {BYTES("{\"n\":5}\0")},
                 {BYTES("{\"n\":5\0}")},
                 {BYTES("\0{\"n\":5}")},
                 {BYTES("\v{\"n\":5}")},
                 {BYTES("\xef\xbb\xbf{\"n\":5}")}, /* with a byte order mark */
                 {BYTES("{\"\xef\xbc\xae\":5}")}};

START_TEST(wrong_bodies)
{
    start("");
    struct http_client client = connect_http();
    for (int i = 0; i < COUNT(malformed); i++) {
        ck_assert(post(&client, malformed[i].text, malformed[i].length));
        int status = http_receive(&client);
        ck_assert_msg(status == 400, "%s: %s", malformed[i].text, http_describe(&client));
    }
    ck_assert(http_send(&client, "POST /tasks HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert_status(&client, http_receive(&client), 400); /* no body at all */
    ck_assert_int_eq((int)(figure("tasks", "processing") + figure("tasks", "kept")), 0);
    http_close(&client);
    stop();
}
END_TEST

START_TEST(unknown_tasks)
{
    char id[ID_LENGTH + 1], targets[8][80];
    start("");
    struct http_client client = connect_http();
    post_number(&client, 5);
    receive_id(&client, id);
    await_task(&client, id);
    int count = 0;
    snprintf(targets[count++], 80, "/tasks/");
    snprintf(targets[count++], 80, "/tasks/x");
    snprintf(targets[count++], 80, "/tasks/%032d", 0);
    snprintf(targets[count++], 80, "/tasks/%.31s", id);
    snprintf(targets[count++], 80, "/tasks/%s0", id);
    snprintf(targets[count++], 80, "/tasks/%s/", id);
    snprintf(targets[count++], 80, "/tasks//%s", id);
    snprintf(targets[count++], 80, "/tasks/%%20%s", id);
    for (int i = 0; i < count; i++) {
        int status = http_get(&client, targets[i]);
        ck_assert_msg(status == 404, "%s: %s", targets[i], http_describe(&client));
    }
    http_close(&client);
    stop();
}
END_TEST

START_TEST(wrong_methods_of_tasks)
{
    static const struct {
        const char *request, *allow;
    } wrong[] = {{"GET /tasks", "POST"},
                 {"HEAD /tasks", "POST"},
                 {"DELETE /tasks", "POST"},
                 {"POST /tasks/%s", "GET, HEAD"},
                 {"DELETE /tasks/%s", "GET, HEAD"},
                 {"POST /compute?n=5", "GET, HEAD"},
                 {"POST /events", "GET, HEAD"},
                 {"POST /", "GET, HEAD"}};
    char id[ID_LENGTH + 1], line[80], request[160];
    start("");
    struct http_client client = connect_http();
    post_number(&client, 5);
    receive_id(&client, id);
    for (int i = 0; i < COUNT(wrong); i++) {
        size_t length = strcspn(wrong[i].request, "%");
        snprintf(line, sizeof line, "%.*s%s", (int)length, wrong[i].request,
                 wrong[i].request[length] ? id : "");
        snprintf(request, sizeof request, "%s HTTP/1.1\r\nHost: localhost\r\n\r\n", line);
        ck_assert(http_send(&client, request));
        bool head = strncmp(request, "HEAD", 4) == 0;
        int status = head ? http_receive_head(&client) : http_receive(&client);
        ck_assert_msg(status == 405, "%s: %s", request, http_describe(&client));
        ck_assert_str_eq(http_field(&client, "Allow"), wrong[i].allow);
    }
    snprintf(request, sizeof request, "HEAD /tasks/%s HTTP/1.1\r\nHost: localhost\r\n\r\n", id);
    ck_assert(http_send(&client, request));
    assert_status(&client, http_receive_head(&client), 200);
    assert_task_done(&client, id, 5);
    http_close(&client);
    stop();
}
END_TEST

START_TEST(tasks_survive_their_workers)
{
    enum { TASKS = 6 };
    char ids[TASKS][ID_LENGTH + 1];
    pid_t pids[WORKERS_MAX];
    start("--workers 2 --job-timeout 60");
    await_workers(pids, false, 2);
    struct http_client client = connect_http();
    for (int i = 0; i < TASKS; i++) {
        post_number(&client, 300000000 + (unsigned long long)i);
        receive_id(&client, ids[i]);
    }
    http_close(&client); /* nobody waits for them */
    await_computing(pids, 2);
    for (int i = 0; i < 2; i++)
        kill(pids[i], SIGKILL);
    await_figure("workers", "lost", 2);
    client = connect_http();
    for (int i = 0; i < TASKS; i++)
        assert_task_done(&client, ids[i], 300000000 + (unsigned long long)i);
    http_close(&client);
    stop();
}
END_TEST

START_TEST(tasks_that_fail_say_why)
{
    char killed[ID_LENGTH + 1], late[ID_LENGTH + 1];
    pid_t pids[WORKERS_MAX];
    start("--workers 1 --job-timeout 5");
    await_workers(pids, false, 1);
    struct http_client client = connect_http();
    post_number(&client, 10000000000);
    receive_id(&client, killed);
    for (int i = 1; i <= 2; i++) {
        await_computing(pids, 1);
        kill(pids[0], SIGKILL);
        await_figure("workers", "lost", i);
    }
    post_number(&client, 10000000000);
    receive_id(&client, late);
    await_task(&client, killed);
    ck_assert_msg(strstr(client.body, "\"status\":\"failed\"") && strstr(client.body, "died"), "%s",
                  http_describe(&client));
    await_task(&client, late);
    ck_assert_msg(strstr(client.body, "\"status\":\"failed\"") && strstr(client.body, "too long"),
                  "%s", http_describe(&client));
    ck_assert_int_eq((int)figure("tasks", "kept"), 2);
    http_close(&client);
    stop();
}
END_TEST

/* --- the helper --- */

START_TEST(a_killed_helper_costs_its_clients_nothing)
{
    pid_t pids[WORKERS_MAX];
    start("--workers 2 --job-timeout 60");
    pid_t helper = helper_of_server();
    if (helper) {
        await_workers(pids, false, 2);
        struct http_client running = connect_asking(compute_long), client = connect_http();
        await_computing(pids, 1);
        kill(helper, SIGKILL);
        await_figure("workers", "lost", 2);
        assert_status(&client, http_get(&client, "/compute?n=1000&on=thread"), 200);
        assert_status(&client, http_get(&client, "/compute?n=1000"), 200);
        assert_status(&client, http_get(&client, "/health"), 200);
        assert_status(&running, http_receive(&running), 200);
        ck_assert_msg(http_body_is(&running, long_result), "%s", http_describe(&running));
        await_helper(helper, 2);
        http_close(&running);
        http_close(&client);
    }
    stop();
}
END_TEST

/* Every request is answered. Afterwards all is as before, and none of its processes has a client's
 * socket. */
START_TEST(fifty_helpers_killed_under_load)
{
    enum { ROUNDS = 50, CLIENTS = 12 };
    struct http_client clients[CLIENTS];
    pid_t pids[WORKERS_MAX];
    int dead, done = 0;
    start("--workers 2 --threads 2");
    pid_t helper = helper_of_server();
    int before = descriptors_with_clients(0);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_http();
    for (int round = 0; helper && round < ROUNDS; round++) {
        for (int i = 0; i < CLIENTS; i++)
            ck_assert(http_ask(&clients[i], i % 4 ? "/compute?n=1000000" : "/compute?n=2"));
        sleep_for((double)(round % 5) / 1000);
        kill(helper, SIGKILL);
        for (int i = 0; i < CLIENTS; i++) {
            int status = http_receive(&clients[i]);
            ck_assert_msg(status == 200 || status == 500 || status == 503 || status == 504, "%s",
                          http_describe(&clients[i]));
            done += status == 200;
        }
        helper = await_helper(helper, 2);
    }
    ck_assert_int_ge(done, helper ? ROUNDS * CLIENTS / 2 : 0);
#ifdef __linux__
    ck_assert_int_eq(descriptors_of_kind(helper, "socket:"), 1);
    for (int count = children_of(helper, pids, &dead); count > 0; count--)
        ck_assert(sockets_become(pids[count - 1], 1));
#else
    (void)dead;
#endif
    for (int i = 0; i < CLIENTS; i++)
        http_close(&clients[i]);
    await_workers(pids, false, 2);
    struct http_client client = connect_asking("/compute?n=1000");
    assert_status(&client, http_receive(&client), 200);
    http_close(&client);
    ck_assert(descriptors_become(before));
    stop();
}
END_TEST

/* A helper that is stopped makes no new workers, so that what waits has to wait. */
START_TEST(the_time_in_the_queue_is_limited)
{
    pid_t pids[WORKERS_MAX];
    char id[ID_LENGTH + 1];
    start("--workers 1 --job-timeout 2");
    pid_t helper = helper_of_server();
    if (helper) {
        await_workers(pids, false, 1);
        kill(helper, SIGSTOP);
        struct http_client running = connect_asking(compute_for_ever);
        await_workers(pids, true, 1);
        struct http_client waiting = connect_asking("/compute?n=1000"), client = connect_http();
        post_number(&client, 1000);
        receive_id(&client, id);
        assert_status(&running, http_receive(&running), 504);
        ck_assert_msg(strstr(running.body, "killed") != NULL, "%s", running.body);
        assert_status(&waiting, http_receive(&waiting), 504);
        ck_assert_msg(strstr(waiting.body, "no worker") != NULL, "%s", waiting.body);
        await_task(&client, id);
        ck_assert_msg(strstr(client.body, "failed") && strstr(client.body, "no worker"), "%s",
                      client.body);
        kill(helper, SIGCONT);
        assert_status(&client, http_get(&client, "/compute?n=1000"), 200);
        http_close(&running);
        http_close(&waiting);
        http_close(&client);
    }
    stop();
}
END_TEST

START_TEST(a_stopped_helper_does_not_hold_up_the_end)
{
    pid_t pids[WORKERS_MAX];
    start("--workers 2 --job-timeout 60");
    pid_t helper = helper_of_server();
    struct http_client client = connect_asking(compute_for_ever);
    await_workers(pids, true, 1);
    await_workers(pids, false, 2);
    if (helper)
        kill(helper, SIGSTOP);
    double began = now();
    stop();
    ck_assert_double_lt(now() - began, 1 + patience() * 0.1);
    ck_assert(are_gone(pids, 2));
    http_close(&client);
}
END_TEST

#ifdef __linux__
static uid_t nobody; /* a user who has no processes but those of a test */
enum { OTHERS = 2 };

/* Its threads count, too: the server's own, and one of its pool. The helper is the third, and then
 * there are the others. */
static void be_nobody(void)
{
    const struct rlimit limit = {3 + OTHERS, 100};
    if (setrlimit(RLIMIT_NPROC, &limit) < 0 || setuid(nobody) < 0)
        _exit(126);
}

static pid_t start_other(void)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    if (setuid(nobody) == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
        pause();
}

/* Root may do without permission what nobody may not. */
static bool nobody_may_run_it(void)
{
    int status = -1;
    pid_t pid = geteuid() == 0 ? fork() : -1;
    if (pid == 0)
        _exit(setuid(nobody) < 0 || access(subject.server, X_OK) < 0);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static int count_of(const char *text, const char *part)
{
    int count = 0;
    for (; (text = strstr(text, part)); text++)
        count++;
    return count;
}

START_TEST(no_worker_can_be_forked_for_a_while)
{
    pid_t pids[WORKERS_MAX], others[OTHERS];
    nobody = 61000 + (uid_t)getpid() % 4000;
    if (!nobody_may_run_it() || thread_sanitizer()) /* whose threads are more */
        return;
    for (int i = 0; i < OTHERS; i++)
        others[i] = start_other();
    sleep_for(0.2); /* until they are somebody else's */
    process_prepare = be_nobody;
    start("--workers 2 --threads 1");
    process_prepare = NULL;
    struct http_client client = connect_http();
    for (double end = now() + patience(); http_get(&client, "/health") == 200 && now() < end;)
        sleep_for(0.005);
    assert_status(&client, client.status, 503);
    ck_assert_msg(strstr(client.body, strerror(EAGAIN)) != NULL, "%s", client.body);
    assert_status(&client, http_get(&client, "/compute?n=1000"), 503);
    ck_assert_str_eq(http_field(&client, "Retry-After"), "1");
    ck_assert_msg(strstr(client.body, strerror(EAGAIN)) != NULL, "%s", client.body);
    post_number(&client, 5);
    assert_status(&client, http_receive(&client), 503);
    assert_status(&client, http_get(&client, "/compute?n=1000&on=thread"), 200);
    sleep_for(0.5); /* it is tried again, and told once */
    for (int i = 0; i < OTHERS; i++) {
        kill(others[i], SIGKILL);
        waitpid(others[i], NULL, 0);
    }
    await_workers(pids, false, 2);
    assert_status(&client, http_get(&client, "/health"), 200);
    assert_status(&client, http_get(&client, "/compute?n=1000"), 200);
    http_close(&client);
    stop();
    ck_assert_msg(count_of(server.errors, "no worker can be had") == 1 &&
                      count_of(server.errors, "\n") == 1,
                  "%s", server.errors);
}
END_TEST

enum { INHERITED = 1100 };

static void open_many(void)
{
    for (int i = 0; i < INHERITED; i++)
        if (dup(STDERR_FILENO) < 0)
            _exit(126);
}

/* What it waits for may have numbers that do not fit a set of select()'s. */
START_TEST(started_with_a_thousand_descriptors)
{
    if (strstr(subject.args, "select") || raise_descriptor_limit() < INHERITED + 100)
        return;
    process_prepare = open_many;
    start("--workers 2");
    process_prepare = NULL;
    struct http_client client = connect_asking("/compute?n=1000");
    assert_status(&client, http_receive(&client), 200);
    pid_t helper = helper_of_server();
    kill(helper, SIGKILL);
    await_helper(helper, 2);
    assert_status(&client, http_get(&client, "/compute?n=1000"), 200);
    http_close(&client);
    stop();
}
END_TEST
#endif

/* --- /events and /stats --- */

START_TEST(events_about_ten_a_second)
{
    enum { EVENTS = 20 };
    static struct listener listener;
    char data[8192];
    start("--workers 2");
    listen_to_events(&listener);
    long long id = next_event(&listener, data);
    double began = now(), ms = json_number(data, "ms");
    ck_assert(ms >= 0);
    for (int i = 0; i < EVENTS; i++) {
        long long next = next_event(&listener, data);
        ck_assert_int_eq(next, ++id);
        ck_assert_double_gt(json_number(data, "ms"), ms);
        ms = json_number(data, "ms");
    }
    double took = now() - began; /* two seconds, from the first to the last */
    ck_assert_msg(took > 1.5 && took < 10, "%d events in %.1f s", EVENTS, took);
    ck_assert_ptr_nonnull(strstr(data, "\"pids\":["));
    close(listener.fd);
    stop();
}
END_TEST

START_TEST(events_begin_with_how_to_come_back)
{
    static struct listener listener;
    start("");
    listen_to_events(&listener);
    while (!strstr(listener.text, "\n\n"))
        ck_assert(receive_some(&listener));
    ck_assert_msg(strncmp(listener.text, "retry: 1000\nid: ", 16) == 0, "%s", listener.text);
    close(listener.fd);
    stop();
}
END_TEST

START_TEST(listeners_come_and_go)
{
    enum { LISTENERS = 10, ROUNDS = 3 };
    static struct listener listeners[LISTENERS];
    char data[8192];
    pid_t pids[WORKERS_MAX];
    start("--workers 2");
    await_workers(pids, false, 2);
    int before = descriptors_with_clients(0);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < LISTENERS; i++)
            listen_to_events(&listeners[i]);
        for (int i = 0; i < LISTENERS; i++)
            for (int event = 0; event < 3; event++)
                next_event(&listeners[i], data);
        ck_assert_double_ge(json_number(data, "clients"), LISTENERS);
        for (int i = 0; i < LISTENERS; i++) {
            if (i % 3 == 0)
                client_reset(listeners[i].fd);
            else if (i % 3 == 1)
                close(listeners[i].fd);
            else /* who closes its side may listen all the same */
                shutdown(listeners[i].fd, SHUT_WR);
        }
        for (int i = 2; i < LISTENERS; i += 3) {
            for (int event = 0; event < 3; event++)
                next_event(&listeners[i], data);
            close(listeners[i].fd);
        }
        if (before > 0)
            ck_assert(descriptors_become(before));
    }
    stop();
}
END_TEST

START_TEST(events_head)
{
    static struct listener listener;
    start("");
    listener = (struct listener){.fd = connect_client()};
    const char request[] = "HEAD /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    ck_assert(client_send(listener.fd, request, strlen(request)));
    while (receive_some(&listener))
        ;
    ck_assert(client_at_eof(listener.fd)); /* and not a time-out */
    ck_assert_msg(strncmp(listener.text, "HTTP/1.1 200 ", 13) == 0, "%s", listener.text);
    ck_assert_ptr_nonnull(strstr(listener.text, "Content-Type: text/event-stream\r\n"));
    ck_assert_str_eq(strstr(listener.text, "\r\n\r\n"), "\r\n\r\n"); /* and no body */
    close(listener.fd);
    stop();
}
END_TEST

/* A client for whom the kernels on both sides keep little (by how long its segments are the
 * server's reckons how much), which asks for events and reads nothing. */
static int connect_and_never_read(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)server.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int room = 2048, segment = 500, fd = socket(AF_INET, SOCK_STREAM, 0);
    const char request[] = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert(client_send(fd, request, strlen(request)));
    return fd;
}

START_TEST(slow_listeners_are_dropped)
{
    enum { SLOW = 5, WORKERS = 128 }; /* many, so that an event is long */
    static struct listener listener;
    int slow[SLOW];
    char data[8192];
    pid_t pids[WORKERS_MAX];
    start("--workers 128 --threads 1");
    await_workers(pids, false, WORKERS);
    listen_to_events(&listener);
    int before = descriptors_with_clients(1);
    long memory = process_memory_kib(server.pid);
    for (int i = 0; i < SLOW; i++)
        slow[i] = connect_and_never_read();
    bool came = false, gone = false;
    for (double end = now() + PLENTY * 0.75; !gone && now() < end;) {
        next_event(&listener, data); /* who reads goes on */
        double clients = json_number(data, "clients");
        came = came || clients > SLOW;
        gone = came && clients < 2;
        if (memory > 0 && !subject.sanitized)
            ck_assert_int_le(process_memory_kib(server.pid) - memory, 2048);
    }
    ck_assert_msg(gone, "they are still there");
    if (before > 0)
        ck_assert(descriptors_become(before));
    for (int i = 0; i < SLOW; i++)
        close(slow[i]);
    close(listener.fd);
    stop();
}
END_TEST

/* The live page asks by other names of this machine. Browsers give it the answers only if they
 * allow its origin; they must allow no other. */
static const struct {
    const char *format; /* of its port */
    bool own;
} origins[] = {{"http://127.0.0.1:%d", true},       {"http://localhost:%d", true},
               {"http://127.0.0.1:%d0", false},     {"http://127.0.0.1", false},
               {"https://localhost:%d", false},     {"http://good0.localhost:%d", false},
               {"http://localhost:%d.test", false}, {"http://elsewhere.test:%d", false},
               {"http://LOCALHOST:%d", false},      {"null", false}};

START_TEST(only_its_own_page_may_read_answers)
{
    const char *const targets[] = {"/health",      "/good-ping?ms=1",  "/perfect-ping?ms=1",
                                   "/compute?n=1", "/sum?n=9&yield=1", "/no-such-path"};
    char origin[64] = "", request[256];
    start("--workers 1");
    snprintf(origin, sizeof origin, origins[_i].format, server.port);
    struct http_client client = http_connect(server.port);
    for (int i = 0; i < (int)COUNT(targets); i++) {
        snprintf(request, sizeof request,
                 "GET %s HTTP/1.1\r\nHost: good0.localhost\r\nOrigin: %s\r\n\r\n", targets[i],
                 origin);
        ck_assert(http_send(&client, request));
        ck_assert_msg(http_receive(&client) > 0, "%s", http_describe(&client));
        const char *allowed = http_field(&client, "Access-Control-Allow-Origin");
        if (origins[_i].own)
            ck_assert_pstr_eq(allowed, origin);
        else
            ck_assert_pstr_eq(allowed, NULL);
        ck_assert_pstr_eq(http_field(&client, "Vary"), "Origin");
        ck_assert_int_eq(http_get(&client, "/health"), 200); /* which has no Origin */
        ck_assert_ptr_null(http_field(&client, "Access-Control-Allow-Origin"));
    }
    http_close(&client);
    stop();
}
END_TEST

START_TEST(stats_have_threads_workers_and_tasks)
{
    start("--workers 2 --threads 3");
    ck_assert_int_eq((int)figure("threads", "size"), 3);
    ck_assert_int_eq((int)figure("threads", "queued"), 0);
    ck_assert_int_eq((int)figure("workers", "size"), 2);
    ck_assert_int_eq((int)figure("workers", "busy"), 0);
    ck_assert_int_eq((int)figure("workers", "queued"), 0);
    ck_assert_int_eq((int)figure("workers", "lost"), 0);
    ck_assert_int_eq((int)figure("tasks", "processing"), 0);
    ck_assert_int_eq((int)figure("tasks", "kept"), 0);
    struct http_client client = connect_http();
    for (int i = 1; i <= 3; i++) {
        assert_status(&client, http_get(&client, "/compute?n=5"), 200);
        ck_assert_int_eq((int)figure("workers", "done"), i);
        assert_status(&client, http_get(&client, "/compute?n=5&on=thread"), 200);
        ck_assert_int_eq((int)figure("threads", "done"), i);
    }
    http_close(&client);
    stop();
}
END_TEST

/* --- the end --- */

/* Something of everything is under way. The connections stay open, for nobody closes them. */
static void keep_busy(pid_t pids[WORKERS_MAX])
{
    static const char *const targets[] = {compute_for_ever,
                                          compute_for_ever,
                                          compute_for_ever,
                                          compute_for_ever,
                                          "/compute?n=10000000000&on=thread",
                                          "/good-ping?ms=60000",
                                          "/perfect-ping?ms=60000",
                                          "/sum?n=10000000000",
                                          "/events",
                                          "/events"};
    static struct http_client client; /* with what belongs to it: else LeakSanitizer complains */
    client = connect_http();
    await_workers(pids, false, 2);
    for (int i = 0; i < COUNT(targets); i++)
        connect_asking(targets[i]);
    for (int i = 0; i < 10; i++) {
        post_number(&client, 10000000000);
        assert_status(&client, http_receive(&client), 202);
    }
    await_workers(pids, true, 2);
}

START_TEST(terminated_with_everything_under_way)
{
    pid_t pids[WORKERS_MAX];
    start("--workers 2 --job-timeout 60");
    keep_busy(pids);
    double began = now();
    stop();
    ck_assert_double_lt(now() - began, patience() * 0.5);
    ck_assert(are_gone(pids, 2));
    ck_assert_msg(strstr(server.output, " requests, 10 tasks left unfinished\n") != NULL, "%s",
                  server.output);
}
END_TEST

START_TEST(nobody_survives_the_killed_server)
{
    pid_t pids[WORKERS_MAX];
    start("--workers 2 --job-timeout 60");
    pid_t helper = helper_of_server();
    keep_busy(pids);
    process_end(&server, SIGKILL);
    ck_assert(nobody_is_left());
    ck_assert(are_gone(pids, 2));
    ck_assert(helper == 0 || are_gone(&helper, 1));
}
END_TEST

START_TEST(terminated_as_soon_as_started)
{
    for (int i = 0; i < 10; i++) {
        start("--workers 8");
        sleep_for(i * 0.001);
        stop();
    }
}
END_TEST

START_TEST(port_in_use_leaves_nobody)
{
    char port[16];
    const char *argv[] = {subject.server, port, NULL};
    start("");
    snprintf(port, sizeof port, "%d", server.port);
    struct process second = process_start(argv, 0);
    ck_assert_int_eq(process_end(&second, 0), 1);
    stop();
}
END_TEST

static const struct {
    const char *name, *value;
} bad_options[] = {{"--workers", "0"},       {"--workers", "257"},    {"--workers", "two"},
                   {"--workers", ""},        {"--workers", NULL},     {"--job-timeout", "x"},
                   {"--job-timeout", "0"},   {"--job-timeout", "-1"}, {"--job-timeout", "3601"},
                   {"--job-timeout", "1.5"}, {"--max-jobs", "-1"},    {"--max-jobs", "1000000001"},
                   {"--max-jobs", "many"},   {"--worker", "1"}};

START_TEST(bad_option)
{
    const char *argv[] = {subject.server, bad_options[_i].name, bad_options[_i].value, NULL};
    struct process process = process_start(argv, 0);
    ck_assert_int_eq(process_end(&process, 0), 2);
    ck_assert_str_eq(process.output, "");
    ck_assert_msg(strstr(process.errors, bad_options[_i].name) != NULL, "%s", process.errors);
    ck_assert_ptr_eq(strchr(process.errors, '\n'),
                     process.errors + strlen(process.errors) - 1); /* one line */
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

static void add_workers(Suite *suite)
{
    TCase *dying = add_case(suite, "workers");
    tcase_add_test(dying, a_killed_worker_costs_its_client_nothing);
    tcase_add_test(dying, killed_twice_is_an_error_and_costs_nobody_else);
    tcase_add_test(dying, all_workers_killed_twenty_times_under_load);
    tcase_add_test(dying, over_its_time);
    tcase_add_test(dying, after_max_jobs_another_worker);
    tcase_add_test(dying, connections_close_on_time_while_workers_work);
#ifdef __linux__
    tcase_add_test(dying, workers_have_one_socket_each);
#endif
    if (!thread_sanitizer()) /* see are_gone() */
        tcase_add_loop_test(dying, workers_come_back_while_clients_have_all_descriptors, 0,
                            COUNT(limits));
}

static void add_helper(Suite *suite)
{
    TCase *helper = add_case(suite, "helper");
    tcase_add_test(helper, a_killed_helper_costs_its_clients_nothing);
    tcase_add_test(helper, fifty_helpers_killed_under_load);
    tcase_add_test(helper, the_time_in_the_queue_is_limited);
    tcase_add_test(helper, a_stopped_helper_does_not_hold_up_the_end);
#ifdef __linux__
    tcase_add_test(helper, no_worker_can_be_forked_for_a_while);
    tcase_add_test(helper, started_with_a_thousand_descriptors);
#endif
}

static void add_tasks(Suite *suite)
{
    TCase *tasks = add_case(suite, "tasks");
    tcase_add_test(tasks, a_task_from_post_to_done);
    tcase_add_test(tasks, a_thousand_tasks_at_once);
    tcase_add_test(tasks, the_newest_ten_thousand_results_are_kept);
    tcase_add_test(tasks, right_bodies);
    tcase_add_test(tasks, wrong_bodies);
    tcase_add_test(tasks, unknown_tasks);
    tcase_add_test(tasks, wrong_methods_of_tasks);
    tcase_add_test(tasks, tasks_survive_their_workers);
    tcase_add_test(tasks, tasks_that_fail_say_why);
}

Suite *offload_server_suite(void)
{
    Suite *suite = suite_create("offload server");
    TCase *compute = add_case(suite, "compute");
    tcase_add_test(compute, the_formula);
    tcase_add_loop_test(compute, a_sum, 0, COUNT(sums));
    tcase_add_test(compute, wrong_parameters_of_compute);
    tcase_add_test(compute, each_client_gets_its_own_sum);
    tcase_add_test(compute, health_answers_while_all_workers_compute);
    tcase_add_test(compute, two_workers_do_more_than_one);
    tcase_add_test(compute, what_does_not_fit_the_queue_is_told_so);
    tcase_add_test(compute, clients_that_leave);
    add_workers(suite);
    add_helper(suite);
    add_tasks(suite);
    TCase *events = add_case(suite, "events"), *ending = add_case(suite, "ending");
    tcase_add_test(events, events_about_ten_a_second);
    tcase_add_test(events, events_begin_with_how_to_come_back);
    tcase_add_test(events, listeners_come_and_go);
    tcase_add_test(events, events_head);
    tcase_add_test(events, slow_listeners_are_dropped);
    tcase_add_loop_test(events, only_its_own_page_may_read_answers, 0, COUNT(origins));
    tcase_add_test(events, stats_have_threads_workers_and_tasks);
    tcase_add_test(ending, terminated_with_everything_under_way);
    tcase_add_test(ending, nobody_survives_the_killed_server);
    tcase_add_test(ending, terminated_as_soon_as_started);
    tcase_add_test(ending, port_in_use_leaves_nobody);
    tcase_add_loop_test(ending, bad_option, 0, COUNT(bad_options));
    return suite;
}
