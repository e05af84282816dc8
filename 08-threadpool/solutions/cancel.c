/*
 * Exercise cancel: too late is no answer. Whose client has waited too long for a thread is taken
 * back out of the queue by a timer, and told so at that moment: no thread is spent on an answer
 * that nobody waits for any more. What runs is left alone, however long.
 */
#include "setup.h"
#include "threadpool.h"

#include <time.h>

static struct {
    struct loop *loop;
    struct threadpool *pool;
    int max_wait;         /* for a thread, in milliseconds */
    atomic_bool stopping; /* also read by the pool's threads */
} server;

/* --- /good-ping --- */

struct nap {
    struct job job;
    struct timer timer;    /* runs from the request to max_wait, unless the nap ends before */
    struct client *client; /* NULL: gone */
    long long ms;
};

/* The timer is a part of the nap: it has to be stopped, or it would ring in freed memory. */
static void nap_free(struct nap *nap)
{
    timer_stop(server.loop, &nap->timer);
    free(nap);
}

/* In a thread of the pool. Sleeps in pieces, so that the program can end meanwhile. */
static void nap_work(void *arg)
{
    const struct nap *nap = arg;
    const int64_t piece = 100 * 1000000L, end = loop_clock() + nap->ms * 1000000;
    for (int64_t left; (left = end - loop_clock()) > 0 && !server.stopping;)
        nanosleep(&(struct timespec){.tv_nsec = (long)(left < piece ? left : piece)}, NULL);
}

static void nap_done(void *arg, bool ran)
{
    (void)ran;
    struct nap *nap = arg;
    struct client *client = nap->client;
    nap_free(nap);
    if (client)
        client_answer_json(client, 200, "{\"pong\":true}");
}

/* Only the pool knows whether a thread has started it, and only under its lock: so this does not
 * ask first, but tries. If that fails, the job runs or has run, and nap_done() is still to come. */
static void nap_late(struct loop *loop, void *arg)
{
    (void)loop;
    struct nap *nap = arg;
    struct client *client = nap->client;
    if (!threadpool_cancel(server.pool, &nap->job))
        return;
    nap_free(nap);
    client_answer_error(client, 503, "Retry-After: 1\r\n", "no thread was free in time");
}

static void nap_gone(void *arg)
{
    struct nap *nap = arg;
    nap->client = NULL;
    timer_stop(server.loop, &nap->timer); /* nobody is left to be told */
    if (threadpool_cancel(server.pool, &nap->job))
        nap_free(nap); /* else nap_done() does */
}

/* Who closes its side while its job has to wait for others has probably left: it gives up its
 * place. */
static bool nap_ended(void *arg)
{
    struct nap *nap = arg;
    bool waited = threadpool_give_up(server.pool, &nap->job);
    if (waited)
        nap_free(nap);
    return waited;
}

static void good_ping(struct client *client, const struct http_parser *request)
{
    static const struct waiter waiter = {.gone = nap_gone, .ended = nap_ended};
    long long ms;
    if (!setup_number(client, request, "ms", 0, 60000, 1000, &ms))
        return;
    struct nap *nap = calloc(1, sizeof *nap);
    if (!nap) {
        client_answer_error(client, 500, NULL, "out of memory");
        return;
    }
    nap->job = (struct job){.work = nap_work, .done = nap_done, .arg = nap};
    nap->client = client;
    nap->ms = ms;
    nap->timer = (struct timer){.callback = nap_late, .arg = nap};
    if (timer_start(server.loop, &nap->timer, server.max_wait) &&
        threadpool_submit(server.pool, &nap->job)) {
        client_wait(client, &waiter, nap);
    } else {
        nap_free(nap);
        client_answer_error(client, 503, "Retry-After: 1\r\n", "the thread pool is full");
    }
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
    int threads = 4, queue = 64, max_wait = 2000;
    const struct number numbers[] = {{"--threads", &threads, 1, 1000},
                                     {"--queue", &queue, 1, 1000000},
                                     {"--max-wait", &max_wait, 1, 60000}};
    setup_arguments(argc, argv, numbers, sizeof numbers / sizeof numbers[0]);
    server.max_wait = max_wait;
    server.loop = setup_loop();
    server.pool = threadpool_new(server.loop, threads, queue);
    if (!server.pool) {
        fprintf(stderr, "server: cannot start %d threads: %s\n", threads, strerror(errno));
        return 1;
    }
    setup_serve(server.loop, handle);
    server.stopping = true; /* who sleeps in a thread: enough */
    if (!threadpool_free(server.pool, false))
        _exit(0); /* a job still runs, and uses what would be freed */
    loop_free(server.loop);
    return 0;
}
