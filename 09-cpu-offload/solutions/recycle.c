/*
 * Workers that leak. After each job a worker says how much memory it has. One that has more than
 * --max-memory MIB is replaced before its next job: its memory goes back to the system, whoever has
 * forgotten to free it.
 *
 *   /work?kib=K       a worker leaks K KiB, 0..1048576; {"pid":P}, which one that was
 *   /health, /stats   at once
 *   --max-memory MIB  1..65536, default 64
 */
#include "procpool.h"
#include "setup.h"

#include <sys/resource.h>

enum { QUEUE_MAX = 1024, JOB_LIMIT_MS = 120 * 1000 };

static struct {
    struct loop *loop;
    struct procpool *workers;
    int max_memory; /* MiB */
} server;

/* --- in a worker --- */

/* What a worker answers. */
struct result {
    int64_t pid;
    int64_t memory_kib;
};

/* How much memory this process has: the most so far, which for one that leaks is what it has now.
 * macOS counts in bytes, the others in KiB. */
static int64_t memory_kib(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) < 0)
        return 0;
#ifdef __APPLE__
    return usage.ru_maxrss / 1024;
#else
    return usage.ru_maxrss;
#endif
}

/* Input is how many KiB to leak, a uint32_t; output a struct result. */
static size_t leak_in_worker(const void *input, size_t length, void *output)
{
    static void *volatile block; /* forgets the one before; what nobody keeps at all, a compiler
                                    may leave out */
    uint32_t kib;
    if (length != sizeof kib)
        return 0;
    memcpy(&kib, input, sizeof kib);
    if (kib > 0 && (block = malloc((size_t)kib * 1024)))
        memset(block, 1, (size_t)kib * 1024); /* memory is given out when it is touched */
    struct result result = {.pid = getpid(), .memory_kib = memory_kib()};
    memcpy(output, &result, sizeof result);
    return sizeof result;
}

/* --- a request --- */

/* One request and its job. The client may be the first to go: errand_done() is called in any case
 * for a job that a worker has. */
struct errand {
    struct client *client; /* NULL: gone */
    struct procjob job;
    uint32_t kib;
};

static void errand_gone(void *arg)
{
    struct errand *errand = arg;
    errand->client = NULL;
    if (procpool_cancel(server.workers, &errand->job))
        free(errand); /* else errand_done() does */
}

/* Ends a worker that has grown too large. It has no job now. The pool may not have noticed that it
 * is dead when it gives it the next one: that was never read, so it goes to another worker, and
 * this does not count as a try (LOST_BEFORE). */
static void recycle(const struct result *result)
{
    if (result->memory_kib > server.max_memory * INT64_C(1024))
        kill((pid_t)result->pid, SIGKILL);
}

static void errand_done(void *arg, enum procjob_end end, const void *output, size_t length)
{
    struct errand *errand = arg;
    struct client *client = errand->client;
    struct result result;
    bool done = end == PROCJOB_DONE && length == sizeof result;
    free(errand);
    if (done) {
        memcpy(&result, output, sizeof result);
        recycle(&result); /* before the answer: in there the client's next request may be read, and
                             be given to this worker */
    }
    if (!client)
        return;
    if (done)
        client_answer_json(client, 200, "{\"pid\":%lld}", (long long)result.pid);
    else
        client_answer_error(client, 500, NULL, "no worker could do it");
}

static void work(struct client *client, const struct http_parser *request)
{
    static const struct waiter waiter = {.gone = errand_gone};
    long long kib;
    if (!setup_number(client, request, "kib", 0, 1048576, 0, &kib))
        return;
    struct errand *errand = calloc(1, sizeof *errand);
    if (!errand) {
        client_answer_error(client, 500, NULL, "out of memory");
        return;
    }
    errand->client = client;
    errand->kib = (uint32_t)kib;
    errand->job = (struct procjob){
        .input = &errand->kib, .length = sizeof errand->kib, .done = errand_done, .arg = errand};
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
    helper_main(argv, leak_in_worker); /* the helper is this program, too */
    int workers = 2;
    const struct number numbers[] = {{"--workers", &workers, 1, 256},
                                     {"--max-memory", &server.max_memory, 1, 65536}};
    server.max_memory = 64;
    setup_arguments(argc, argv, numbers, 2);

    const struct procpool_options options = {
        .workers = workers, .queue_max = QUEUE_MAX, .timeout_ms = JOB_LIMIT_MS};
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
