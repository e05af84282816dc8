/*
 * yield: GET /primes?from=A&n=N counts the primes among the N numbers from A on, by dividing.
 * Beside it, GET /health and GET /stats.
 *
 * The others are served meanwhile: the work stops every few milliseconds, by the clock, and puts
 * off the rest. How long one number takes does not matter: from 20 ns to a millisecond.
 */
#include "setup.h"

static const int64_t SLICE_NS = 5 * INT64_C(1000000); /* at a time; the others wait for that long */

static struct loop *loop;

static bool is_prime(long long number)
{
    if (number < 4 || number % 2 == 0)
        return number == 2 || number == 3;
    for (long long i = 3; i * i <= number; i += 2)
        if (number % i == 0)
            return false;
    return true;
}

static void answer_count(struct client *client, long long count)
{
    client_answer_json(client, 200, "{\"result\":%lld}", count);
}

/* What a local variable was, before the work could stop in the middle. */
struct work {
    struct deferred rest;
    struct client *client;
    long long next, end, count;
};

static void work_gone(void *arg)
{
    struct work *work = arg;
    loop_defer_cancel(loop, &work->rest); /* or it would be called with what is freed here */
    free(work);
}

/* To look at the clock costs about as much as the smallest numbers do, far less than a round of the
 * loop, and nothing beside the large ones. So each number can be the last one of its slice. */
static void work_some(struct loop *at, void *arg)
{
    struct work *work = arg;
    int64_t stop = loop_clock() + SLICE_NS;
    while (work->next < work->end) {
        work->count += is_prime(work->next++);
        if (loop_clock() >= stop) {
            loop_defer(at, &work->rest);
            return;
        }
    }
    struct client *client = work->client;
    long long count = work->count;
    free(work);
    answer_count(client, count);
}

static void count_primes(struct client *client, long long from, long long n)
{
    static const struct waiter waiter = {.gone = work_gone};
    struct work *work = calloc(1, sizeof *work);
    if (!work) {
        client_answer_error(client, 500, NULL, "out of memory");
        return;
    }
    *work = (struct work){.client = client, .next = from, .end = from + n};
    work->rest = (struct deferred){.callback = work_some, .arg = work};
    client_wait(client, &waiter, work);
    work_some(loop, work);
}

static void primes(struct client *client, const struct http_parser *request)
{
    long long from, n;
    if (setup_number(client, request, "from", 0, 100000000000, 0, &from) &&
        setup_number(client, request, "n", 0, 10000000, -1, &n))
        count_primes(client, from, n);
}

static void stats(struct client *client)
{
    struct lag lag = loop_lag(loop);
    client_answer_json(client, 200, "{\"lag_ms\":{\"last\":%.3f,\"max\":%.3f}}",
                       (double)lag.last / 1e6, (double)lag.max / 1e6);
}

static void handle(struct client *client, const struct http_parser *request)
{
    if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0)
        client_answer_error(client, 405, "Allow: GET, HEAD\r\n",
                            "wrong method; GET and HEAD are accepted");
    else if (strcmp(request->path, "/primes") == 0)
        primes(client, request);
    else if (strcmp(request->path, "/health") == 0)
        client_answer_json(client, 200, "{\"status\":\"ok\"}");
    else if (strcmp(request->path, "/stats") == 0)
        stats(client);
    else
        client_answer_error(client, 404, NULL,
                            "no such path; there are /primes, /health and /stats");
}

int main(int argc, char **argv)
{
    setup_arguments(argc, argv, NULL, 0);
    loop = setup_loop();
    setup_serve(loop, handle);
    loop_free(loop);
    return 0;
}
