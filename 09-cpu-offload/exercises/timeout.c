/*
 * A time-out for each request. Who asks for an answer within T ms gets one by then: if its job has
 * not been done, 504, whether the job still waits for a worker (then nobody does it) or runs (then
 * the worker goes on, and its result is thrown away). So far timeout_ms is read, and that is all.
 *
 *   /work?ms=MS&timeout_ms=T   a worker sleeps for MS ms, 0..60000; T 1..60000, default 5000
 *   /health, /stats            at once
 */
#include "procpool.h"
#include "setup.h"

#include <time.h>

/* The pool's own limit for a job kills the worker: it must never come before a request's. */
enum { JOB_LIMIT_MS = 120 * 1000 };

static struct {
    struct loop *loop;
    struct procpool *workers;
} server;

/* --- /work --- */

/* In a worker: input is how many ms to sleep, a uint32_t. */
static size_t sleep_in_worker(const void *input, size_t length, void *output)
{
    uint32_t ms;
    if (length != sizeof ms)
        return 0;
    memcpy(&ms, input, sizeof ms);
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
    return (size_t)sprintf(output, "{\"slept_ms\":%u}", (unsigned)ms);
}

/* A request and its job. The client may be the first to go, and the pool calls done for a job that
 * runs in any case: so it is freed in done, unless the job could be taken back before. */
struct errand {
    struct client *client; /* NULL: gone, or answered already */
    struct procjob job;
    uint32_t ms;
};

static void errand_gone(void *arg)
{
    struct errand *errand = arg;
    errand->client = NULL;
    if (procpool_cancel(server.workers, &errand->job))
        free(errand); /* else errand_done() does */
}

/* Your work: what happens when the time is up; and from where to where its time runs, in all that
 * can end a request: work(), errand_done(), errand_gone(). */

static void errand_done(void *arg, enum procjob_end end, const void *output, size_t length)
{
    struct errand *errand = arg;
    struct client *client = errand->client;
    free(errand);
    if (!client)
        return;
    if (end == PROCJOB_DONE)
        client_answer_json(client, 200, "%.*s", (int)length, (const char *)output);
    else
        client_answer_error(client, 500, NULL, "no worker could do it");
}

static void work(struct client *client, const struct http_parser *request)
{
    static const struct waiter waiter = {.gone = errand_gone};
    long long ms, timeout_ms;
    if (!setup_number(client, request, "ms", 0, 60000, 1000, &ms) ||
        !setup_number(client, request, "timeout_ms", 1, 60000, 5000, &timeout_ms))
        return;
    struct errand *errand = calloc(1, sizeof *errand);
    if (!errand) {
        client_answer_error(client, 500, NULL, "out of memory");
        return;
    }
    errand->client = client;
    errand->ms = (uint32_t)ms;
    errand->job = (struct procjob){
        .input = &errand->ms, .length = sizeof errand->ms, .done = errand_done, .arg = errand};
    client_wait(client, &waiter, errand);
    if (procpool_submit(server.workers, &errand->job))
        return;
    free(errand);
    client_answer_error(client, 503, "Retry-After: 1\r\n", "the pool takes no more jobs now");
}

/* --- the program --- */

static void stats(struct client *client)
{
    struct procpool_counts workers = procpool_counts(server.workers);
    client_answer_json(client, 200,
                       "{\"workers\":{\"size\":%d,\"busy\":%d,\"queued\":%d,\"done\":%llu,"
                       "\"lost\":%llu}}",
                       workers.size, workers.busy, workers.queued, workers.done, workers.lost);
}

static void handle(struct client *client, const struct http_parser *request)
{
    if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0)
        client_answer_error(client, 405, "Allow: GET, HEAD\r\n", "GET and HEAD are accepted");
    else if (strcmp(request->path, "/health") == 0)
        client_answer_json(client, 200, "{\"status\":\"ok\"}");
    else if (strcmp(request->path, "/stats") == 0)
        stats(client);
    else if (strcmp(request->path, "/work") == 0)
        work(client, request);
    else
        client_answer_error(client, 404, NULL, "there are /work, /health and /stats");
}

int main(int argc, char **argv)
{
    helper_main(argv, sleep_in_worker); /* the helper is this program, too */
    int workers = 2, queue = 1024;
    const struct number numbers[] = {{"--workers", &workers, 1, 256},
                                     {"--queue", &queue, 1, 1000000}};
    setup_arguments(argc, argv, numbers, sizeof numbers / sizeof numbers[0]);

    const struct procpool_options options = {
        .workers = workers, .queue_max = queue, .timeout_ms = JOB_LIMIT_MS};
    server.loop = setup_loop();
    server.workers = procpool_new(server.loop, &options);
    if (!server.workers) {
        fprintf(stderr, "server: cannot start %d workers: %s\n", workers, strerror(errno));
        return 1;
    }
    setup_serve(server.loop, handle);
    procpool_free(server.workers);
    loop_free(server.loop);
    return 0;
}
