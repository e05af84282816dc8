/*
 * Exercise cheap: cheap work does not belong in the pool. /sum adds up n squares: 100 of them in
 * less time than it takes to call a thread, a thousand million of them in a second. Here all of
 * them go to a thread. Have the loop answer the small sums itself, and only them.
 */
#include "setup.h"
#include "threadpool.h"

#include <time.h>

static struct {
    struct loop *loop;
    struct threadpool *pool;
    atomic_bool stopping; /* also read by the pool's threads */
} server;

/* --- what a thread does for a client --- */

struct task {
    struct job job;
    struct client *client; /* NULL: gone */
    long long number;      /* ms, or n */
    char result[40];       /* of a sum, in decimal */
};

static void task_gone(void *arg)
{
    struct task *task = arg;
    task->client = NULL;
    if (threadpool_cancel(server.pool, &task->job))
        free(task); /* else the job's done() does */
}

static bool task_ended(void *arg)
{
    struct task *task = arg;
    bool waited = threadpool_give_up(server.pool, &task->job);
    if (waited)
        free(task);
    return waited;
}

/* Hands the work to a thread, and returns. The number is what the work is about. */
static void hand_over(struct client *client, long long number, void (*work)(void *arg),
                      void (*done)(void *arg, bool ran))
{
    static const struct waiter waiter = {.gone = task_gone, .ended = task_ended};
    struct task *task = calloc(1, sizeof *task);
    if (!task) {
        client_answer_error(client, 500, NULL, "out of memory");
        return;
    }
    task->job = (struct job){.work = work, .done = done, .arg = task};
    task->client = client;
    task->number = number;
    if (threadpool_submit(server.pool, &task->job)) {
        client_wait(client, &waiter, task);
    } else {
        free(task);
        client_answer_error(client, 503, "Retry-After: 1\r\n", "the thread pool is full");
    }
}

/* --- /good-ping --- */

/* In a thread of the pool. Sleeps in pieces, so that the program can end meanwhile. */
static void ping_work(void *arg)
{
    const struct task *task = arg;
    const int64_t piece = 100 * 1000000L, end = loop_clock() + task->number * 1000000;
    for (int64_t left; (left = end - loop_clock()) > 0 && !server.stopping;)
        nanosleep(&(struct timespec){.tv_nsec = (long)(left < piece ? left : piece)}, NULL);
}

static void ping_done(void *arg, bool ran)
{
    (void)ran;
    struct task *task = arg;
    struct client *client = task->client;
    free(task);
    if (client)
        client_answer_json(client, 200, "{\"pong\":true}");
}

static void good_ping(struct client *client, const struct http_parser *request)
{
    long long ms;
    if (setup_number(client, request, "ms", 0, 60000, 1000, &ms))
        hand_over(client, ms, ping_work, ping_done);
}

/* --- /sum --- */

/* Sums of squares do not fit 64 bits from n = 3,810,778 on. */
__extension__ typedef unsigned __int128 wide;

/* The sum of i * i for i < n, in decimal. */
static void write_sum(long long n, char text[40])
{
    wide total = 0;
    for (long long i = 0; i < n && (i % (1 << 24) || !server.stopping); i++) {
        __asm__ volatile("" : "+r"(i)); /* compilers know a formula for this: make them work */
        total += (wide)i * (wide)i;
    }
    char *digit = text + 39, *end = digit;
    do
        *digit-- = (char)('0' + (int)(total % 10));
    while ((total /= 10) > 0);
    memmove(text, digit + 1, (size_t)(end - digit));
    text[end - digit] = '\0';
}

static void answer_sum(struct client *client, const char *result)
{
    client_answer_json(client, 200, "{\"result\":%s}", result);
}

/* In a thread of the pool. */
static void sum_work(void *arg)
{
    struct task *task = arg;
    write_sum(task->number, task->result);
}

static void sum_done(void *arg, bool ran)
{
    (void)ran;
    struct task *task = arg;
    if (task->client)
        answer_sum(task->client, task->result);
    free(task);
}

static void sum_squares(struct client *client, const struct http_parser *request)
{
    long long n;
    if (!setup_number(client, request, "n", 0, 1000000000, -1, &n))
        return;
    /* Your work: up to which n is that too much trouble? Measure, and answer those here. */
    hand_over(client, n, sum_work, sum_done);
}

/* --- which path is whose --- */

static void health(struct client *client, const struct http_parser *request)
{
    (void)request;
    client_answer_json(client, 200, "{\"status\":\"ok\"}");
}

static void stats(struct client *client, const struct http_parser *request)
{
    (void)request;
    struct threadpool_counts pool = threadpool_counts(server.pool);
    client_answer_json(client, 200,
                       "{\"threads\":{\"size\":%d,\"busy\":%d,\"queued\":%d,\"done\":%llu}}",
                       pool.size, pool.busy, pool.queued, pool.done);
}

static const struct {
    const char *path;
    http_handler *handler;
} endpoints[] = {
    {"/health", health},
    {"/good-ping", good_ping},
    {"/sum", sum_squares},
    {"/stats", stats},
};
enum { ENDPOINTS = sizeof endpoints / sizeof endpoints[0] };

static void handle(struct client *client, const struct http_parser *request)
{
    int i = 0;
    while (i < ENDPOINTS && strcmp(request->path, endpoints[i].path) != 0)
        i++;
    if (i == ENDPOINTS)
        client_answer_error(client, 404, NULL, "no such path");
    else if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0)
        client_answer_error(client, 405, "Allow: GET, HEAD\r\n", "GET and HEAD are accepted");
    else
        endpoints[i].handler(client, request);
}

int main(int argc, char **argv)
{
    int threads = 4, queue = 64;
    const struct number numbers[] = {{"--threads", &threads, 1, 1000},
                                     {"--queue", &queue, 1, 1000000}};
    setup_arguments(argc, argv, numbers, sizeof numbers / sizeof numbers[0]);
    server.loop = setup_loop();
    server.pool = threadpool_new(server.loop, threads, queue);
    if (!server.pool) {
        fprintf(stderr, "server: cannot start %d threads: %s\n", threads, strerror(errno));
        return 1;
    }
    setup_serve(server.loop, handle);
    server.stopping = true; /* who sleeps or adds up in a thread: enough */
    if (!threadpool_free(server.pool, false))
        _exit(0); /* a job still runs, and uses what would be freed */
    loop_free(server.loop);
    return 0;
}
