/*
 * Trying again later. The pool gives a job whose worker died to another worker at once, and then
 * gives up. Here it is tried again after 100, 200 and 400 ms, each with a random part of up to half
 * as much more, and only then the answer is 500.
 *
 *   /flaky?crashes=K   the worker is killed the first K times this request's job is run; then
 *                      {"attempts":A}, how often it was run
 *   /work?ms=MS        a worker sleeps for MS ms, 0..60000
 *   /health, /stats    at once
 */
#include "procpool.h"
#include "setup.h"

#include <sys/mman.h>
#include <time.h>

enum { QUEUE_MAX = 1024, JOB_LIMIT_MS = 120 * 1000 };
enum { REQUESTS_MAX = 4096 }; /* at the same time, those that wait for their next try included */
enum { RETRIES = 3, FIRST_WAIT_MS = 100 };

static struct {
    struct loop *loop;
    struct procpool *workers;
    atomic_uint *runs; /* of each request's job, so far. In memory that workers share: what they
                          write to their own is gone when they die */
    int memory;        /* that memory, as a file: workers have it open under the same number */
    unsigned free_runs[REQUESTS_MAX]; /* which of them are nobody's */
    int free_count;
} server;

/* --- in a worker --- */

struct work {
    int32_t
        memory; /* server.memory: workers know what they are told, for the rest they begin anew */
    uint32_t runs; /* its place in server.runs */
    uint32_t crashes, ms;
};

static atomic_uint *map_runs(int file)
{
    void *memory =
        mmap(NULL, REQUESTS_MAX * sizeof(atomic_uint), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Input is a struct work. */
static size_t work_in_worker(const void *input, size_t length, void *output)
{
    struct work work;
    if (length != sizeof work)
        return 0;
    memcpy(&work, input, sizeof work);
    if (!server.runs && !(server.runs = map_runs(work.memory)))
        abort(); /* the pool can cope with that */
    unsigned attempt = atomic_fetch_add(&server.runs[work.runs], 1) + 1;
    if (attempt <= work.crashes)
        kill(getpid(), SIGKILL);
    struct timespec left = {.tv_sec = work.ms / 1000, .tv_nsec = work.ms % 1000 * 1000000L};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
    return (size_t)sprintf(output, "{\"attempts\":%u}", attempt);
}

/* A file without a name. It is not close-on-exec (dup() sees to that), so the helper has it, and
 * all its workers. */
static void share_runs(void)
{
    FILE *file = tmpfile();
    server.memory = file ? dup(fileno(file)) : -1;
    if (server.memory < 0 || ftruncate(server.memory, REQUESTS_MAX * sizeof(atomic_uint)) < 0 ||
        !(server.runs = map_runs(server.memory))) {
        fprintf(stderr, "server: cannot share memory with workers: %s\n", strerror(errno));
        exit(1);
    }
    fclose(file);
    for (unsigned i = 0; i < REQUESTS_MAX; i++)
        server.free_runs[server.free_count++] = i;
}

/* --- a request --- */

/* One request: it waits for a worker, is with one, or waits for its next try. Only in the second
 * case it has to stay when its client leaves: the pool will call errand_done(). */
struct errand {
    struct client *client; /* NULL: gone */
    struct work work;
    struct procjob job;
    int retries;        /* so far */
    struct timer timer; /* until the next one */
    bool waits;         /* for it: the timer runs, the pool knows nothing of the job */
};

/* NULL: no memory, or too many of them. */
static struct errand *errand_new(struct client *client)
{
    struct errand *errand = server.free_count > 0 ? calloc(1, sizeof *errand) : NULL;
    if (!errand)
        return NULL;
    errand->client = client;
    errand->work.memory = server.memory;
    errand->work.runs = server.free_runs[--server.free_count];
    atomic_store(&server.runs[errand->work.runs], 0);
    return errand;
}

static void errand_free(struct errand *errand)
{
    timer_stop(server.loop, &errand->timer);
    server.free_runs[server.free_count++] = errand->work.runs;
    free(errand);
}

static void errand_gone(void *arg)
{
    struct errand *errand = arg;
    errand->client = NULL;
    if (errand->waits || procpool_cancel(server.workers, &errand->job))
        errand_free(errand); /* else errand_done() does */
}

static void errand_again(struct loop *loop, void *arg)
{
    (void)loop;
    struct errand *errand = arg;
    struct client *client = errand->client;
    errand->waits = false;
    if (procpool_submit(server.workers, &errand->job))
        return;
    errand_free(errand);
    client_answer_error(client, 503, "Retry-After: 1\r\n", "the pool takes no more jobs now");
}

/* Each wait is twice as long as the one before: what made the worker die (no memory left, say) gets
 * more and more time to pass. The random part keeps those apart that died of it together: they
 * would all come back at the same moment, and die together again. Returns false if there is no
 * further try. */
static bool errand_later(struct errand *errand)
{
    if (errand->retries == RETRIES)
        return false;
    long ms = FIRST_WAIT_MS << errand->retries++;
    ms += random() % (ms / 2 + 1);
    errand->waits = timer_start(server.loop, &errand->timer, ms);
    return errand->waits;
}

static void errand_done(void *arg, enum procjob_end end, const void *output, size_t length)
{
    struct errand *errand = arg;
    struct client *client = errand->client;
    /* only while somebody wants to know; and what was dropped will not do better later */
    if (end == PROCJOB_CRASHED && client && errand_later(errand))
        return;
    errand_free(errand);
    if (!client)
        return;
    if (end == PROCJOB_DONE)
        client_answer_json(client, 200, "%.*s", (int)length, (const char *)output);
    else
        client_answer_error(client, 500, NULL, "the worker died, however often it was tried");
}

static void work(struct client *client, long long crashes, long long ms)
{
    static const struct waiter waiter = {.gone = errand_gone};
    struct errand *errand = errand_new(client);
    if (!errand) {
        client_answer_error(client, 503, "Retry-After: 1\r\n", "too many requests at a time");
        return;
    }
    errand->work.crashes = (uint32_t)crashes;
    errand->work.ms = (uint32_t)ms;
    errand->job = (struct procjob){
        .input = &errand->work, .length = sizeof errand->work, .done = errand_done, .arg = errand};
    errand->timer = (struct timer){.callback = errand_again, .arg = errand};
    client_wait(client, &waiter, errand);
    if (procpool_submit(server.workers, &errand->job))
        return;
    errand_free(errand);
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
    long long number;
    if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0) {
        client_answer_error(client, 405, "Allow: GET, HEAD\r\n", "GET and HEAD are accepted");
    } else if (strcmp(request->path, "/health") == 0) {
        client_answer_json(client, 200, "{\"status\":\"ok\"}");
    } else if (strcmp(request->path, "/stats") == 0) {
        stats(client);
    } else if (strcmp(request->path, "/flaky") == 0) {
        if (setup_number(client, request, "crashes", 0, 1000, -1, &number))
            work(client, number, 0);
    } else if (strcmp(request->path, "/work") == 0) {
        if (setup_number(client, request, "ms", 0, 60000, 1000, &number))
            work(client, 0, number);
    } else {
        client_answer_error(client, 404, NULL, "there are /flaky, /work, /health and /stats");
    }
}

int main(int argc, char **argv)
{
    helper_main(argv, work_in_worker); /* the helper is this program, too */
    int workers = 2;
    const struct number numbers[] = {{"--workers", &workers, 1, 256}};
    setup_arguments(argc, argv, numbers, 1);

    share_runs();
    const struct procpool_options options = {
        .workers = workers, .queue_max = QUEUE_MAX, .timeout_ms = JOB_LIMIT_MS};
    srandom((unsigned)loop_clock()); /* not the same numbers in each run */
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
