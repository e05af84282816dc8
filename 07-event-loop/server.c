/*
 * 07: the same server, taken apart: a loop that anybody can use, and on it a server for HTTP.
 *
 * New: the loop (loop.c) hides which interface it waits with, and calls back: for descriptors, for
 * timers, for what was put off. Whoever has to wait says what for, and returns.
 *
 * Still wrong: a handler that does not return keeps everybody waiting. What blocks (a file, a
 * database driver, somebody else's library) has to go elsewhere.
 */
#include "fetch.h"
#include "http_server.h"

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

static struct {
    struct loop *loop;
    struct http_server *http;
    struct wakeup stop;
    volatile sig_atomic_t running; /* there is a loop to be woken */
    volatile sig_atomic_t stopping;
} server;

/* --- arguments in a request --- */

/* Reads the number that the query names, standard if it names none. Returns false, having answered
 * 400, if it is none from least to most; with a standard below least, it has to be there. */
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
    client_answer_json(client, 200, "{\"status\":\"ok\"}");
}

static void stats(struct client *client, const struct http_parser *request)
{
    (void)request;
    struct http_counts counts = http_server_counts(server.http);
    struct lag lag = loop_lag(server.loop);
    client_answer_json(client, 200,
                       "{\"clients\":%llu,\"requests\":%llu,\"backend\":\"%s\","
                       "\"lag_ms\":{\"last\":%.3f,\"max\":%.3f}}",
                       counts.clients, counts.requests, loop_backend(server.loop),
                       (double)lag.last / 1e6, (double)lag.max / 1e6);
}

static void front_page(struct client *client, const struct http_parser *request)
{
    (void)request;
    static const char page[] =
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
        "<title>07: the event loop</title>\n<h1>07: the event loop</h1>\n<ul>\n"
        "<li><a href=\"/health\">/health</a>: straight from the loop\n"
        "<li><a href=\"/terrible-ping?ms=1000\">/terrible-ping?ms=1000</a>: sleeps on the loop, "
        "everybody waits\n"
        "<li><a href=\"/perfect-ping?ms=1000\">/perfect-ping?ms=1000</a>: a timer on the loop, "
        "nobody waits\n"
        "<li>/fetch?port=P&amp;path=/x&amp;timeout_ms=5000: asks another server on this machine\n"
        "<li><a href=\"/sum?n=100000000&amp;yield=10000\">/sum?n=100000000&amp;yield=10000</a>: "
        "adds up squares, giving way every so many steps (0: never)\n"
        "<li><a href=\"/stats\">/stats</a>: what has been going on\n</ul>\n";
    client_answer(client,
                  &(struct answer){200, NULL, "text/html; charset=utf-8", page, sizeof page - 1});
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

/* Sleeps here and now. The loop is not called meanwhile, and cannot call anybody. */
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

/* Writes the number in decimal to the end of text, and returns where it begins. */
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

/* Takes `yield` steps (0: all), then puts off the rest: the loop has a round to serve others. This
 * is what `await asyncio.sleep(0)` is for. */
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
    const long long most = 10000000000;
    long long n, yield;
    if (!get_number(client, request, "n", 0, most, -1, &n) ||
        !get_number(client, request, "yield", 0, most, 10000, &yield))
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

/* --- /fetch --- */

/* Between the fetch and the client that waits for it. Either may be the first to go. */
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

/* Only this machine: a server that fetches what strangers name can be sent into the network behind
 * it. Returns false, having answered, unless the request names an address and a port. */
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

/* It becomes a part of a request line, in which a space or a line's end would do harm. */
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

/* --- which path is whose --- */

static const struct {
    const char *path;
    http_handler *handler;
} endpoints[] = {
    {"/", front_page},
    {"/health", health},
    {"/terrible-ping", terrible_ping},
    {"/perfect-ping", perfect_ping},
    {"/fetch", fetch},
    {"/sum", sum_squares},
    {"/stats", stats},
};
enum { ENDPOINTS = sizeof endpoints / sizeof endpoints[0] };

/* OPTIONS * asks what the server can do at all. */
static void options(struct client *client)
{
    static const char body[] = "{\"methods\":\"GET, HEAD\"}";
    client_answer(client,
                  &(struct answer){200, "Allow: GET, HEAD\r\n", NULL, body, sizeof body - 1});
}

static void handle(struct client *client, const struct http_parser *request)
{
    if (strcmp(request->path, "*") == 0) {
        options(client);
        return;
    }
    for (int i = 0; i < ENDPOINTS; i++)
        if (strcmp(request->path, endpoints[i].path) == 0) {
            if (strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0)
                endpoints[i].handler(client, request);
            else
                client_answer_error(client, 405, "Allow: GET, HEAD\r\n",
                                    "wrong method; GET and HEAD are accepted");
            return;
        }
    client_answer_error(client, 404, NULL, "no such path; GET / lists those there are");
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
    server.stopping = 1;
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

/* Prints how to call the program, and ends it. NULL: for --help; else names the wrong argument. */
static _Noreturn void usage(const char *wrong)
{
    if (wrong)
        fprintf(stderr, "server: wrong argument '%s'; ", wrong);
    fprintf(
        wrong ? stderr : stdout,
        "usage: server [--backend NAME] [--host ADDR] [--help] [PORT], NAME one of %s (default: "
        "the first), ADDR an IPv4 address (default 127.0.0.1), PORT 0..65535 (default 8000; "
        "0: a free one)\n",
        loop_backends());
    exit(wrong ? 2 : 0);
}

static bool is_port(const char *text)
{
    return *text && !text[strspn(text, "0123456789")] && strtol(text, NULL, 10) <= 65535;
}

static int listen_on(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        usage(host);

    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
        /* take the port even while connections of an earlier run linger in TIME_WAIT */
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

/* Dropped if stdout does not take them at once: a reader that sleeps cannot keep us here. */
static void print_totals(void)
{
    if (poll(&output, 1, 0) > 0)
        dprintf(STDOUT_FILENO, "served %llu requests\n", http_server_counts(server.http).requests);
}

int main(int argc, char **argv)
{
    const char *host = "127.0.0.1", *backend = NULL;
    int port = -1;
    catch_signals();
    if (!open_streams())
        return 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            usage(NULL);
        else if (strcmp(argv[i], "--backend") == 0 && i + 1 < argc)
            backend = argv[++i];
        else if (strcmp(argv[i], "--host") == 0 && i + 1 < argc)
            host = argv[++i];
        else if (is_port(argv[i]) && port < 0)
            port = (int)strtol(argv[i], NULL, 10);
        else
            usage(argv[i]);
    }
    server.loop = make_loop(backend);
    wake_by_signals();
    int listener = listen_on(host, port < 0 ? 8000 : port);
    server.http = http_server_new(server.loop, listener, handle);
    if (!server.http || !announce(host, listener)) {
        fprintf(stderr, "server: cannot start: %s\n", strerror(errno));
        return 1;
    }
    if (!server.stopping)
        loop_run(server.loop);
    server.running = 0; /* from here on there is no loop to be woken */
    print_totals();
    http_server_free(server.http);
    loop_free(server.loop);
    return 0;
}
