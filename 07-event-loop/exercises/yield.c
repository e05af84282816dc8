/*
 * yield: GET /primes?from=A&n=N counts the primes among the N numbers from A on, by dividing.
 * Beside it, GET /health and GET /stats.
 *
 * To be done: the others are served meanwhile. So far the handler counts them all before it
 * returns, and nobody else gets a turn.
 */
#include "setup.h"

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

/* Your work: after some 5 ms (loop_clock()), put off the rest (loop_defer()). What has to be known
 * to go on? What if the client has gone by then (client_wait())? */
static void count_primes(struct client *client, long long from, long long n)
{
    long long count = 0;
    for (long long i = from; i < from + n; i++)
        count += is_prime(i);
    answer_count(client, count);
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
