/*
 * 09: what computes goes to processes: the combined server.
 *
 * New: worker processes (procpool.c, worker.c) with memory of their own: one
 * that crashes, hangs or leaks takes nothing with it. A table of tasks for
 * those who do not want to wait (tasks.c), a live page (page.html), and what it
 * shows, as events (events.c).
 *
 * Each kind of work has its place now: waiting is for the loop, blocking for a
 * thread, computing for a process.
 */
#include "events.h"
#include "fetch.h"
#include "files.h"
#include "http_server.h"
#include "page.h"
#include "procpool.h"
#include "tasks.h"
#include "threadpool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const long long MOST = 10000000000; /* steps of a sum */

static struct {
    struct loop *loop;
    struct http_server *http;
    struct threadpool *pool;
    struct procpool *workers;
    struct tasks *tasks;
    struct events *events;
    int64_t started; /* loop_clock() */
    int root;        /* the folder of /files, a descriptor; -1: none */
    struct wakeup stop;
    volatile sig_atomic_t running; /* there is a loop to be woken */
    atomic_bool stopping;          /* also read by the pool's threads */
} server;

/* --- arguments in a request --- */

/* Reads the number that the query names, standard if it names none. Returns
 * false, having answered 400, if it is none from least to most; with a standard
 * below least, it has to be there. */
static bool get_number(struct client *client, const struct http_parser *request, const char *name,
                       long long least, long long most, long long standard, long long *number)
{
    char what[128], *text = http_query(request->query, name);
    *number = standard;
    if (text) {
        bool digits = *text && strlen(text) <= 12 && !text[strspn(text, "0123456789")];
        *number = digits ? strtoll(text, NULL, 10) : least - 1;
    } else if (errno) {
        *number = least - 1;
    }
    free(text);
    if (*number >= least && *number <= most)
        return true;
    snprintf(what, sizeof what, "%s has to be a number from %lld to %lld", name, least, most);
    client_answer_error(client, 400, NULL, what);
    return false;
}

/* --- /health, /stats, / --- */

static void health(struct client *client, const struct http_parser *request)
{
    (void)request;
    const char *error = procpool_error(server.workers);
    if (error)
        client_answer_json(client, 503, "{\"status\":\"unavailable\",\"error\":\"%s\"}", error);
    else
        client_answer_json(client, 200, "{\"status\":\"ok\"}");
}

/* Writes the figures of /stats, which are those of /events, too, as the inside
 * of a JSON object. */
static int write_stats(char *out, size_t size)
{
    struct http_counts counts = http_server_counts(server.http);
    struct lag lag = loop_lag(server.loop);
    struct threadpool_counts threads = threadpool_counts(server.pool);
    struct procpool_counts workers = procpool_counts(server.workers);
    struct tasks_counts tasks = tasks_counts(server.tasks);
    return snprintf(out, size,
                    "\"clients\":%llu,\"requests\":%llu,\"backend\":\"%s\","
                    "\"lag_ms\":{\"last\":%.3f,\"max\":%.3f},"
                    "\"threads\":{\"size\":%d,\"busy\":%d,\"queued\":%d,\"done\":%llu},"
                    "\"workers\":{\"size\":%d,\"alive\":%d,\"busy\":%d,\"queued\":%d,"
                    "\"done\":%llu,\"lost\":%llu},"
                    "\"tasks\":{\"processing\":%u,\"kept\":%u}",
                    counts.clients, counts.requests, loop_backend(server.loop),
                    (double)lag.last / 1e6, (double)lag.max / 1e6, threads.size, threads.busy,
                    threads.queued, threads.done, workers.size, workers.alive, workers.busy,
                    workers.queued, workers.done, workers.lost, tasks.processing, tasks.kept);
}

static void stats(struct client *client, const struct http_parser *request)
{
    (void)request;
    char figures[768];
    write_stats(figures, sizeof figures);
    client_answer_json(client, 200, "{%s}", figures);
}

/* --- /, the live page, and /events, what it shows --- */

static void front_page(struct client *client, const struct http_parser *request)
{
    (void)request;
    client_answer(client, &(struct answer){.status = 200,
                                           .headers = "Cache-Control: no-cache\r\n",
                                           .type = "text/html; charset=utf-8",
                                           .body = page_html,
                                           .length = page_html_length});
}

/* An event: the time on the loop's clock, in ms since the start, the figures,
 * and the workers. */
static void tell(char *out, size_t size)
{
    enum { SHOWN = 128 };
    pid_t pids[SHOWN];
    bool busy[SHOWN];
    char figures[768];
    int count = procpool_workers(server.workers, pids, busy, SHOWN);
    write_stats(figures, sizeof figures);
    int length = snprintf(out, size, "{\"ms\":%lld,%s,\"pids\":[",
                          (long long)(loop_clock() - server.started) / 1000000, figures);
    for (int i = 0; i < count; i++)
        length += snprintf(out + length, size - (size_t)length, "%s{\"pid\":%ld,\"busy\":%s}",
                           i ? "," : "", (long)pids[i], busy[i] ? "true" : "false");
    snprintf(out + length, size - (size_t)length, "]}");
}

static void events(struct client *client, const struct http_parser *request)
{
    events_answer(server.events, client, request);
}

/* --- /terrible-ping and /perfect-ping --- */

static void pong(struct client *client)
{
    client_answer_json(client, 200, "{\"pong\":true}");
}

/* Sleeps for ms milliseconds, and holds up the thread that calls it. In pieces: a signal that comes
 * just before a nanosleep() does not end it, so the program would only end after all of the sleep.
 */
static void block(long long ms)
{
    const int64_t piece = 100 * 1000000L, end = loop_clock() + ms * 1000000;
    for (int64_t left; (left = end - loop_clock()) > 0 && !server.stopping;)
        nanosleep(&(struct timespec){.tv_nsec = (long)(left < piece ? left : piece)}, NULL);
}

/* Sleeps here and now. The loop is not called meanwhile, and cannot call
 * anybody. */
static void terrible_ping(struct client *client, const struct http_parser *request)
{
    long long ms;
    if (!get_number(client, request, "ms", 0, 60000, 1000, &ms))
        return;
    block(ms);
    pong(client);
}

struct ping {
    struct timer timer;
    struct client *client;
};

static void ping_due(struct loop *loop, void *arg)
{
    (void)loop;
    struct ping *ping = arg;
    struct client *client = ping->client;
    free(ping);
    pong(client);
}

static void ping_gone(void *arg)
{
    struct ping *ping = arg;
    timer_stop(server.loop, &ping->timer);
    free(ping);
}

/* Asks to be called in ms milliseconds, and returns. */
static void perfect_ping(struct client *client, const struct http_parser *request)
{
    static const struct waiter waiter = {.gone = ping_gone};
    long long ms;
    if (!get_number(client, request, "ms", 0, 60000, 1000, &ms))
        return;
    struct ping *ping = calloc(1, sizeof *ping);
    if (ping) {
        ping->client = client;
        ping->timer = (struct timer){.callback = ping_due, .arg = ping};
    }
    if (!ping || !timer_start(server.loop, &ping->timer, ms)) {
        free(ping);
        client_answer_error(client, 500, NULL, "out of memory");
        return;
    }
    client_wait(client, &waiter, ping);
}

/* --- /good-ping --- */

struct nap {
    struct job job;
    struct client *client; /* NULL: gone */
    long long ms;
};

/* In a thread of the pool. */
static void nap_work(void *arg)
{
    const struct nap *nap = arg;
    block(nap->ms);
}

static void nap_done(void *arg, bool ran)
{
    (void)ran;
    struct nap *nap = arg;
    struct client *client = nap->client;
    free(nap);
    if (client)
        pong(client);
}

static void nap_gone(void *arg)
{
    struct nap *nap = arg;
    nap->client = NULL;
    if (threadpool_cancel(server.pool, &nap->job))
        free(nap); /* else nap_done() does */
}

/* A client that closes its side while its job waits behind others has probably left: the job gives
 * up its place. */
static bool nap_ended(void *arg)
{
    struct nap *nap = arg;
    bool waited = threadpool_give_up(server.pool, &nap->job);
    if (waited)
        free(nap);
    return waited;
}

/* Hands the sleeping to a thread, and returns. */
static void good_ping(struct client *client, const struct http_parser *request)
{
    static const struct waiter waiter = {.gone = nap_gone, .ended = nap_ended};
    long long ms;
    if (!get_number(client, request, "ms", 0, 60000, 1000, &ms))
        return;
    struct nap *nap = calloc(1, sizeof *nap);
    if (!nap) {
        client_answer_error(client, 500, NULL, "out of memory");
        return;
    }
    nap->job = (struct job){.work = nap_work, .done = nap_done, .arg = nap};
    nap->client = client;
    nap->ms = ms;
    if (threadpool_submit(server.pool, &nap->job)) {
        client_wait(client, &waiter, nap);
    } else {
        free(nap);
        client_answer_error(client, 503, "Retry-After: 1\r\n", "the thread pool is full");
    }
}

/* --- /files --- */

static void files(struct client *client, const struct http_parser *request)
{
    files_answer(client, request, request->path + strlen("/files/"), server.root, server.pool);
}

/* --- /sum --- */

/* Sums of squares do not fit 64 bits from n = 3,810,778 on. */
__extension__ typedef unsigned __int128 wide;

/* The sum of i * i for i from first up to, not including, end. */
static wide squares(unsigned long long first, unsigned long long end)
{
    wide total = 0;
    for (unsigned long long i = first; i < end; i++) {
        __asm__ volatile("" : "+r"(i)); /* compilers know a formula for this: make them work */
        total += (wide)i * i;
    }
    return total;
}

struct sum {
    struct deferred next;
    struct client *client;
    unsigned long long i, n, yield;
    wide total;
};

/* Writes the number in decimal to the end of text, and returns where it begins.
 */
static char *decimal(wide number, char text[40])
{
    char *digit = text + 39;
    *digit = '\0';
    do
        *--digit = (char)('0' + (int)(number % 10));
    while ((number /= 10) > 0);
    return digit;
}

static void sum_gone(void *arg)
{
    struct sum *sum = arg;
    loop_defer_cancel(server.loop, &sum->next);
    free(sum);
}

/* Takes `yield` steps (0: all), then puts off the rest: the loop has a round to
 * serve others. This is what `await asyncio.sleep(0)` is for. */
static void sum_some(struct loop *loop, void *arg)
{
    const unsigned long long piece = 1 << 24; /* then it looks whether the program is to end */
    struct sum *sum = arg;
    unsigned long long left = sum->n - sum->i;
    unsigned long long end = sum->i + (sum->yield && sum->yield < left ? sum->yield : left);
    while (sum->i < end && !server.stopping) {
        unsigned long long first = sum->i;
        sum->i = end - first < piece ? end : first + piece;
        sum->total += squares(first, sum->i);
    }
    if (sum->i < sum->n) {
        loop_defer(loop, &sum->next);
        return;
    }
    char text[40];
    struct client *client = sum->client;
    const char *result = decimal(sum->total, text);
    free(sum);
    client_answer_json(client, 200, "{\"result\":%s}", result);
}

static void sum_squares(struct client *client, const struct http_parser *request)
{
    static const struct waiter waiter = {.gone = sum_gone};
    long long n, yield;
    if (!get_number(client, request, "n", 0, MOST, -1, &n) ||
        !get_number(client, request, "yield", 0, MOST, 10000, &yield))
        return;
    struct sum *sum = calloc(1, sizeof *sum);
    if (!sum) {
        client_answer_error(client, 500, NULL, "out of memory");
        return;
    }
    sum->n = (unsigned long long)n;
    sum->yield = (unsigned long long)yield;
    sum->client = client;
    sum->next = (struct deferred){.callback = sum_some, .arg = sum};
    client_wait(client, &waiter, sum);
    sum_some(server.loop, sum);
}

/* --- /compute --- */

/* In a worker: input is a uint64_t, output its sum of squares in decimal. */
static size_t compute_in_worker(const void *input, size_t length, void *output)
{
    uint64_t n;
    char text[40];
    if (length != sizeof n)
        return 0;
    memcpy(&n, input, sizeof n);
    const char *result = decimal(squares(0, n), text);
    memcpy(output, result, strlen(result));
    return strlen(result);
}

/* A request that waits for a thread or a worker. */
struct computation {
    struct client *client; /* NULL: gone */
    struct job job;
    struct procjob procjob;
    uint64_t n;
    wide total;
};

static void answer_result(struct client *client, wide total)
{
    char text[40];
    client_answer_json(client, 200, "{\"result\":%s}", decimal(total, text));
}

/* In pieces, so that the program need not wait for it to end. Returns false if it ends now. */
static bool sum_in_pieces(uint64_t n, wide *total)
{
    const uint64_t piece = 1 << 24;
    *total = 0;
    for (uint64_t i = 0; i < n && !server.stopping; i += piece)
        *total += squares(i, i + (n - i < piece ? n - i : piece));
    return !server.stopping;
}

static void compute_in_thread(void *arg)
{
    struct computation *computation = arg;
    sum_in_pieces(computation->n, &computation->total);
}

/* Everybody waits. */
static void compute_on_loop(struct client *client, uint64_t n)
{
    wide total;
    if (sum_in_pieces(n, &total))
        answer_result(client, total);
    else
        client_answer_error(client, 503, NULL, "the server is about to end");
}

static void thread_done(void *arg, bool ran)
{
    (void)ran;
    struct computation *computation = arg;
    struct client *client = computation->client;
    wide total = computation->total;
    free(computation);
    if (client)
        answer_result(client, total);
}

static void worker_done(void *arg, enum procjob_end end, const void *output, size_t length)
{
    struct computation *computation = arg;
    struct client *client = computation->client;
    free(computation);
    if (!client)
        return;
    if (end == PROCJOB_DONE)
        client_answer_json(client, 200, "{\"result\":%.*s}", (int)length, (const char *)output);
    else if (end == PROCJOB_TIMED_OUT)
        client_answer_error(client, 504, NULL, "the job took too long; its worker was killed");
    else if (end == PROCJOB_NO_WORKER)
        client_answer_error(client, 504, NULL, "no worker had time for the job");
    else
        client_answer_error(client, 500, NULL,
                            "the worker died, and so did the one that tried again");
}

/* The pool does not take the job. */
static void refuse(struct client *client)
{
    const char *error = procpool_error(server.workers);
    client_answer_error(client, 503, "Retry-After: 1\r\n",
                        error ? error : "the pool takes no more jobs now");
}

static void computation_gone(void *arg)
{
    struct computation *computation = arg;
    computation->client = NULL;
    if (threadpool_cancel(server.pool, &computation->job) ||
        procpool_cancel(server.workers, &computation->procjob))
        free(computation); /* else thread_done() or worker_done() does */
}

/* A client that closes its side while its job waits behind others has probably left: the job gives
 * up its place. */
static bool computation_ended(void *arg)
{
    struct computation *computation = arg;
    struct procpool_counts counts = procpool_counts(server.workers);
    bool waited = threadpool_give_up(server.pool, &computation->job) ||
                  (counts.busy + counts.queued > counts.size &&
                   procpool_cancel(server.workers, &computation->procjob));
    if (waited)
        free(computation);
    return waited;
}

static void compute_elsewhere(struct client *client, long long n, bool in_thread)
{
    static const struct waiter waiter = {.gone = computation_gone, .ended = computation_ended};
    struct computation *computation = calloc(1, sizeof *computation);
    if (!computation) {
        client_answer_error(client, 500, NULL, "out of memory");
        return;
    }
    computation->client = client;
    computation->n = (uint64_t)n;
    computation->job =
        (struct job){.work = compute_in_thread, .done = thread_done, .arg = computation};
    computation->procjob = (struct procjob){.input = &computation->n,
                                            .length = sizeof computation->n,
                                            .done = worker_done,
                                            .arg = computation};
    client_wait(client, &waiter, computation);
    if (in_thread ? threadpool_submit(server.pool, &computation->job)
                  : procpool_submit(server.workers, &computation->procjob))
        return;
    free(computation);
    if (in_thread)
        client_answer_error(client, 503, "Retry-After: 1\r\n", "the thread pool is full");
    else
        refuse(client);
}

static void compute(struct client *client, const struct http_parser *request)
{
    long long n;
    if (!get_number(client, request, "n", 0, MOST, -1, &n))
        return;
    char *on = http_query(request->query, "on");
    bool malformed = !on && errno;
    if (malformed ||
        (on && strcmp(on, "process") != 0 && strcmp(on, "thread") != 0 && strcmp(on, "loop") != 0))
        client_answer_error(client, 400, NULL, "on has to be process, thread or loop");
    else if (on && strcmp(on, "loop") == 0)
        compute_on_loop(client, (uint64_t)n);
    else
        compute_elsewhere(client, n, on && strcmp(on, "thread") == 0);
    free(on);
}

/* --- /tasks --- */

/* Reads {"n": N}. No more of JSON than that is accepted. Returns N, or -1. */
static long long read_task(const char *body)
{
    static const char *const before[] = {"{", "\"n\"", ":"};
    static const char blanks[] = " \t\r\n";
    for (int i = 0; i < 3; i++) {
        body += strspn(body, blanks);
        if (strncmp(body, before[i], strlen(before[i])) != 0)
            return -1;
        body += strlen(before[i]);
    }
    body += strspn(body, blanks);
    size_t digits = strspn(body, "0123456789");
    if (digits == 0 || digits > 11 || (digits > 1 && *body == '0'))
        return -1;
    long long n = strtoll(body, NULL, 10);
    body += digits;
    body += strspn(body, blanks);
    if (*body++ != '}' || body[strspn(body, blanks)])
        return -1;
    return n <= MOST ? n : -1;
}

/* Accepts the work and answers at once. What becomes of it can be asked later.
 */
static void post_task(struct client *client, const struct http_parser *request)
{
    long long n = strlen(request->body) == request->body_length ? read_task(request->body) : -1;
    if (n < 0) {
        client_answer_error(client, 400, NULL,
                            "the body has to be {'n': N} with double quotes, N 0 to 10000000000");
        return;
    }
    const struct task *task = tasks_post(server.tasks, (uint64_t)n);
    if (!task) {
        refuse(client);
        return;
    }
    char headers[64], body[64];
    snprintf(headers, sizeof headers, "Location: /tasks/%s\r\n", task->id);
    int length = snprintf(body, sizeof body, "{\"task_id\":\"%s\"}", task->id);
    client_answer(client, &(struct answer){
                              .status = 202, .headers = headers, .body = body, .length = length});
}

static void get_task(struct client *client, const struct http_parser *request)
{
    const struct task *task = tasks_find(server.tasks, request->path + strlen("/tasks/"));
    if (!task)
        client_answer_error(client, 404, NULL, "no such task, or its result is kept no longer");
    else if (task->state == TASK_PROCESSING)
        client_answer_json(client, 200, "{\"status\":\"processing\"}");
    else if (task->state == TASK_DONE)
        client_answer_json(client, 200, "{\"status\":\"done\",\"result\":%s}", task->result);
    else
        client_answer_json(client, 200, "{\"status\":\"failed\",\"error\":\"%s\"}", task->result);
}

/* --- /fetch --- */

/* Between the fetch and the client that waits for it. Either may be the first
 * to go. */
struct errand {
    struct client *client;
    struct fetch *fetch;
};

static void errand_gone(void *arg)
{
    struct errand *errand = arg;
    fetch_cancel(errand->fetch);
    free(errand);
}

static void answer_fetched(struct client *client, const struct http_parser *response)
{
    char *body = malloc(6 * response->body_length + 64);
    if (!body) {
        client_answer_error(client, 500, NULL, "out of memory");
        return;
    }
    size_t length = (size_t)sprintf(body, "{\"status\":%d,\"body\":\"", response->status);
    length += json_escape(body + length, response->body, response->body_length);
    length +=
        (size_t)sprintf(body + length, "\"%s}", response->truncated ? ",\"truncated\":true" : "");
    client_answer(client, &(struct answer){200, NULL, NULL, body, (long long)length});
    free(body);
}

static void fetched(void *arg, int status, const char *why, const struct http_parser *response)
{
    struct errand *errand = arg;
    struct client *client = errand->client;
    free(errand);
    if (status == 0)
        answer_fetched(client, response);
    else
        client_answer_error(client, status, NULL, why);
}

/* Only this machine: a server that fetches what strangers name can be sent into
 * the network behind it. Returns false, having answered, unless the request
 * names an address and a port. */
static bool get_address(struct client *client, const struct http_parser *request,
                        struct sockaddr_in *address)
{
    long long port;
    char *host = http_query(request->query, "host");
    bool given = host || errno; /* malformed is not the same as left out */
    const char *name = !given || (host && strcmp(host, "localhost") == 0) ? "127.0.0.1" : host;
    bool ours = name && inet_pton(AF_INET, name, &address->sin_addr) == 1 &&
                ntohl(address->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    free(host);
    if (!ours) {
        client_answer_error(client, 403, NULL, "host has to be localhost or 127.x.y.z");
        return false;
    }
    if (!get_number(client, request, "port", 1, 65535, 0, &port))
        return false;
    address->sin_family = AF_INET;
    address->sin_port = htons((uint16_t)port);
    return true;
}

/* It becomes a part of a request line, in which a space or a line's end would
 * do harm. */
static bool is_target(const char *text)
{
    bool visible = *text == '/';
    for (; *text; text++)
        visible = visible && *text > ' ' && *text < 0x7f && *text != '#';
    return visible;
}

static void fetch(struct client *client, const struct http_parser *request)
{
    static const struct waiter waiter = {.gone = errand_gone};
    struct sockaddr_in address = {0};
    long long timeout_ms;
    if (!get_address(client, request, &address) ||
        !get_number(client, request, "timeout_ms", 1, 60000, 5000, &timeout_ms))
        return;
    char *path = http_query(request->query, "path");
    bool given = path || errno;
    const char *target = given ? path : "/";
    if (!target || !is_target(target)) {
        client_answer_error(client, 400, NULL, "path has to begin with / and to be encoded");
        free(path);
        return;
    }
    struct errand *errand = calloc(1, sizeof *errand);
    if (errand) {
        errand->client = client;
        errand->fetch = fetch_start(server.loop, &address, target, timeout_ms, fetched, errand);
    }
    free(path);
    if (errand && errand->fetch) {
        client_wait(client, &waiter, errand);
    } else {
        free(errand);
        client_answer_error(client, 502, NULL, "the other server cannot be reached");
    }
}

/* --- who may read the answers --- */

/* A browser says which site's page asks (Origin), and hands it the answer of another host only if
 * that allows it. The live page asks by many names below localhost: by either of its own two names
 * it may read what it gets. Set once, as the lines have to outlast every request. */
static char own_origin[2][32], own_lines[2][128];

static void know_own_page(int port)
{
    static const char *const names[] = {"127.0.0.1", "localhost"};
    char suffix[8] = "";
    if (port != 80) /* which browsers leave out */
        snprintf(suffix, sizeof suffix, ":%d", port);
    for (int i = 0; i < 2; i++) {
        snprintf(own_origin[i], sizeof own_origin[i], "http://%s%s", names[i], suffix);
        snprintf(own_lines[i], sizeof own_lines[i],
                 "Vary: Origin\r\nAccess-Control-Allow-Origin: %s\r\n", own_origin[i]);
    }
}

static const char *lines_for(const char *origin)
{
    for (int i = 0; origin && i < 2; i++)
        if (strcmp(origin, own_origin[i]) == 0)
            return own_lines[i];
    return "Vary: Origin\r\n";
}

/* --- which path is whose --- */

static const struct {
    const char *path;
    http_handler *handler;
    bool post; /* by POST, in place of GET and HEAD */
} endpoints[] = {
    {"/", front_page, false},
    {"/health", health, false},
    {"/terrible-ping", terrible_ping, false},
    {"/good-ping", good_ping, false},
    {"/perfect-ping", perfect_ping, false},
    {"/files/", files, false}, /* and all below it */
    {"/fetch", fetch, false},
    {"/sum", sum_squares, false},
    {"/compute", compute, false},
    {"/tasks", post_task, true},
    {"/tasks/", get_task, false},
    {"/events", events, false},
    {"/stats", stats, false},
};
enum { ENDPOINTS = sizeof endpoints / sizeof endpoints[0] };

/* An endpoint that ends in a slash stands for all below it. */
static bool is_path(const char *path, const char *endpoint)
{
    size_t length = strlen(endpoint);
    return length > 1 && endpoint[length - 1] == '/' ? strncmp(path, endpoint, length) == 0
                                                     : strcmp(path, endpoint) == 0;
}

static bool is_method(const char *method, bool post)
{
    return post ? strcmp(method, "POST") == 0
                : strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

/* OPTIONS * asks what the server can do at all. */
static void options(struct client *client)
{
    static const char body[] = "{\"methods\":\"GET, HEAD, POST\"}";
    client_answer(client,
                  &(struct answer){200, "Allow: GET, HEAD, POST\r\n", NULL, body, sizeof body - 1});
}

static void handle(struct client *client, const struct http_parser *request)
{
    client_set_headers(client, lines_for(http_header(request, "Origin")));
    if (strcmp(request->path, "*") == 0) {
        options(client);
        return;
    }
    for (int i = 0; i < ENDPOINTS; i++)
        if (is_path(request->path, endpoints[i].path)) {
            if (is_method(request->method, endpoints[i].post))
                endpoints[i].handler(client, request);
            else if (endpoints[i].post)
                client_answer_error(client, 405, "Allow: POST\r\n",
                                    "wrong method; POST is accepted");
            else
                client_answer_error(client, 405, "Allow: GET, HEAD\r\n",
                                    "wrong method; GET and HEAD are accepted");
            return;
        }
    client_answer_error(client, 404, NULL, "no such path; see the README for those there are");
}

/* --- the program --- */

/* A new descriptor takes the lowest free number. Were stdout closed, the first socket would get its
 * number, and lines meant for people would go to a client. */
static bool open_streams(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            return false;
    return true;
}

static void stop(struct loop *loop, void *arg)
{
    (void)arg;
    loop_stop(loop);
}

static void on_signal(int number)
{
    (void)number;
    server.stopping = true;
    if (server.running)
        wakeup_send(&server.stop); /* no race with the wait: what is sent, wakes it */
}

/* First of all: however early a signal comes, it is noted, and the loop is then not even begun. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* sending to a client that has left fails, and that is all */
}

/* From here on a signal also wakes the loop. */
static void wake_by_signals(void)
{
    server.stop = (struct wakeup){.callback = stop};
    wakeup_add(server.loop, &server.stop);
    server.running = 1;
}

/* Prints how to call the program, and ends it. NULL: for --help; else names the
 * wrong argument. */
static _Noreturn void usage(const char *wrong)
{
    if (wrong)
        fprintf(stderr, "server: wrong argument '%s'; ", wrong);
    fprintf(wrong ? stderr : stdout,
            "usage: server [--workers N] [--job-timeout SECONDS] [--max-jobs N] "
            "[--threads N] [--queue N] [--root DIR] [--backend NAME] [--host ADDR] "
            "[--help] [PORT], --workers 1..256 (default: the number of CPUs), "
            "--job-timeout "
            "1..3600 (default 10), --max-jobs 0..1000000000 (0, the default: no "
            "limit), --threads 1..1000 (default 40), --queue 1..1000000 (default "
            "1024), "
            "DIR the folder of /files (default: files, beside the program), NAME one "
            "of %s "
            "(default: the first), ADDR an IPv4 address (default 127.0.0.1), PORT "
            "0..65535 "
            "(default 8000; 0: a free one)\n",
            loop_backends());
    exit(wrong ? 2 : 0);
}

static bool is_number(const char *text, long least, long most)
{
    return *text && !text[strspn(text, "0123456789")] && strtol(text, NULL, 10) >= least &&
           strtol(text, NULL, 10) <= most;
}

static int listen_on(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        usage(host);

    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
        /* take the port even while connections of an earlier run linger in
           TIME_WAIT */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, SOMAXCONN) < 0) {
        fprintf(stderr, "server: cannot listen on %s:%d: %s\n", host, port, strerror(errno));
        exit(1);
    }
    return fd;
}

/* Asked before each line: does stdout take it, or is it a full pipe, whose reader sleeps? */
static struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};

/* Says where it listens (PORT 0: which one is it?) as soon as stdout takes that. Returns false with
 * errno set if it never will. */
static bool announce(const char *host, int listener)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    if (getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        return false;
    know_own_page(ntohs(address.sin_port));
    while (!server.stopping && poll(&output, 1, 100) == 0)
        ;
    return server.stopping ||
           dprintf(STDOUT_FILENO, "listening on %s:%d\n", host, ntohs(address.sin_port)) > 0;
}

static struct loop *make_loop(const char *backend)
{
    struct loop *loop = loop_new(backend);
    if (!loop && backend && errno == EINVAL) {
        fprintf(stderr, "server: %s: not on this system; have %s\n", backend, loop_backends());
        exit(2);
    }
    if (!loop) {
        fprintf(stderr, "server: no event loop: %s\n", strerror(errno));
        exit(1);
    }
    return loop;
}

static int open_root(const char *program, const char *folder)
{
    char path[4096];
    const char *slash = strrchr(program, '/');
    snprintf(path, sizeof path, "%.*sfiles", slash ? (int)(slash - program + 1) : 0, program);
    int root = open(folder ? folder : path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 && folder) {
        fprintf(stderr, "server: --root %s: %s\n", folder, strerror(errno));
        exit(1);
    }
    return root;
}

struct options {
    const char *host, *backend, *root;
    int port, threads, queue, workers, job_timeout, max_jobs;
};

struct number_option {
    const char *name;
    int *value;
    long least, most;
};

static void read_number_option(const char *name, const char *text,
                               const struct number_option numbers[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, numbers[i].name) == 0 &&
            is_number(text, numbers[i].least, numbers[i].most)) {
            *numbers[i].value = (int)strtol(text, NULL, 10);
            return;
        }
    usage(name);
}

static struct options read_options(int argc, char **argv)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    struct options options = {.host = "127.0.0.1",
                              .port = -1,
                              .threads = 40,
                              .queue = 1024,
                              .workers = cpus < 1     ? 1
                                         : cpus > 256 ? 256
                                                      : (int)cpus,
                              .job_timeout = 10};
    const struct number_option numbers[] = {{"--threads", &options.threads, 1, 1000},
                                            {"--queue", &options.queue, 1, 1000000},
                                            {"--workers", &options.workers, 1, 256},
                                            {"--job-timeout", &options.job_timeout, 1, 3600},
                                            {"--max-jobs", &options.max_jobs, 0, 1000000000}};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (strcmp(name, "--help") == 0)
            usage(NULL);
        else if (is_number(name, 0, 65535) && options.port < 0)
            options.port = (int)strtol(name, NULL, 10);
        else if (++i == argc)
            usage(name);
        else if (strcmp(name, "--backend") == 0)
            options.backend = argv[i];
        else if (strcmp(name, "--host") == 0)
            options.host = argv[i];
        else if (strcmp(name, "--root") == 0)
            options.root = argv[i];
        else
            read_number_option(name, argv[i], numbers, sizeof numbers / sizeof numbers[0]);
    }
    return options;
}

static void start_pools(const struct options *options)
{
    const struct procpool_options workers = {.workers = options->workers,
                                             .queue_max = options->queue,
                                             .timeout_ms = options->job_timeout * 1000,
                                             .max_jobs = options->max_jobs};
    server.pool = threadpool_new(server.loop, options->threads, options->queue);
    if (server.pool)
        server.workers = procpool_new(server.loop, &workers);
    if (server.workers)
        server.tasks = tasks_new(server.loop, server.workers);
    if (server.tasks)
        server.events = events_new(server.loop, 100, tell);
    if (!server.events) {
        fprintf(stderr, "server: cannot start %d threads and %d workers: %s\n", options->threads,
                options->workers, strerror(errno));
        exit(1);
    }
}

/* In this order: what its clients had waiting is cancelled, then what runs is
 * ended. */
static void free_everything(void)
{
    http_server_free(server.http);
    procpool_free(server.workers);
    tasks_free(server.tasks);
    events_free(server.events);
    if (!threadpool_free(server.pool, false))
        _exit(0); /* a job still runs, and uses what would be freed: the kernel takes it all */
    loop_free(server.loop);
    if (server.root >= 0)
        close(server.root);
}

/* Dropped if stdout does not take them at once: a reader that sleeps cannot keep us here. */
static void print_totals(void)
{
    if (poll(&output, 1, 0) > 0)
        dprintf(STDOUT_FILENO, "served %llu requests, %u tasks left unfinished\n",
                http_server_counts(server.http).requests, tasks_counts(server.tasks).processing);
}

int main(int argc, char **argv)
{
    helper_main(argv, compute_in_worker); /* the helper is this program, too */
    catch_signals();
    if (!open_streams())
        return 1;
    struct options options = read_options(argc, argv);
    server.root = open_root(argv[0], options.root);
    server.loop = make_loop(options.backend);
    server.started = loop_clock();
    wake_by_signals();
    start_pools(&options);
    int listener = listen_on(options.host, options.port < 0 ? 8000 : options.port);
    server.http = http_server_new(server.loop, listener, handle);
    if (!server.http || !announce(options.host, listener)) {
        fprintf(stderr, "server: cannot start: %s\n", strerror(errno));
        return 1;
    }
    if (!server.stopping)
        loop_run(server.loop);
    server.running = 0; /* from here on there is no loop to be woken */
    print_totals();
    free_everything();
    return 0;
}
