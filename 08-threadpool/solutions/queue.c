/*
 * Exercise queue: back-pressure instead of refusal. A bounded queue that is full says "not now".
 * Who asks then is not sent away: the request waits its turn outside the pool, in order of arrival,
 * and goes in as soon as there is a place. It is the loop that lets it in, so nothing blocks.
 */
#include "setup.h"
#include "threadpool.h"

#include <time.h>

static struct {
    struct loop *loop;
    struct threadpool *pool;
    struct nap *first, **end; /* those that wait for a place in the pool, the longest one first */
    int waiting, waiting_max;
    atomic_bool stopping; /* also read by the pool's threads */
} server;

/* --- /good-ping --- */

/* It waits outside, in the line, or its job is with the pool. */
struct nap {
    struct job job;
    struct client *client; /* NULL: gone */
    long long ms;
    struct nap *next, **link; /* link: what points at this one in the line; NULL: not in it */
};

static void join_line(struct nap *nap)
{
    nap->link = server.end;
    *server.end = nap;
    server.end = &nap->next;
    server.waiting++;
}

static void leave_line(struct nap *nap)
{
    *nap->link = nap->next;
    if (nap->next)
        nap->next->link = nap->link;
    else
        server.end = nap->link;
    nap->next = NULL;
    nap->link = NULL;
    server.waiting--;
}

/* To be called whenever the pool may have a place again: a job is done, or was taken back. Fills
 * all that are free. */
static void let_in(void)
{
    while (server.first && threadpool_submit(server.pool, &server.first->job))
        leave_line(server.first);
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
    free(nap);
    let_in(); /* before the answer: the client's next request may have come already */
    if (client)
        client_answer_json(client, 200, "{\"pong\":true}");
}

static void nap_gone(void *arg)
{
    struct nap *nap = arg;
    nap->client = NULL;
    if (nap->link)
        leave_line(nap);
    else if (!threadpool_cancel(server.pool, &nap->job))
        return; /* it runs: nap_done() will be called */
    free(nap);
    let_in();
}

/* Who closes its side while it has to wait for others has probably left: it gives up its place. */
static bool nap_ended(void *arg)
{
    struct nap *nap = arg;
    if (nap->link)
        leave_line(nap);
    else if (!threadpool_give_up(server.pool, &nap->job))
        return false;
    free(nap);
    let_in();
    return true;
}

/* Into the pool, or else into the line. Who is in the line already goes first, even if there is a
 * place: a job may have ended that nap_done() has not been told of yet. False: no room. */
static bool find_place(struct nap *nap)
{
    if (!server.first && threadpool_submit(server.pool, &nap->job))
        return true;
    if (server.waiting == server.waiting_max)
        return false;
    join_line(nap);
    return true;
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
    if (find_place(nap)) {
        client_wait(client, &waiter, nap);
    } else {
        free(nap);
        client_answer_error(client, 503, "Retry-After: 1\r\n", "too many are waiting");
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
                       "{\"threads\":{\"size\":%d,\"busy\":%d,\"queued\":%d,\"done\":%llu},"
                       "\"waiting\":%d}",
                       pool.size, pool.busy, pool.queued, pool.done, server.waiting);
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
    int threads = 4, queue = 64, waiting = 100;
    const struct number numbers[] = {{"--threads", &threads, 1, 1000},
                                     {"--queue", &queue, 1, 1000000},
                                     {"--waiting", &waiting, 0, 100000}};
    setup_arguments(argc, argv, numbers, sizeof numbers / sizeof numbers[0]);
    server.end = &server.first;
    server.waiting_max = waiting;
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
