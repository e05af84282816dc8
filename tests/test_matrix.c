/*
 * Nobody can kill, freeze or mute a server: every endpoint (read from the server's own page, so new
 * ones are taken up by themselves) x every rude way to end (reset, close, half-close, no reading) x
 * every phase of a conversation in which that happens x what the server is doing meanwhile. Whoever
 * is left has to be served as if nothing had happened.
 */
#include "endpoints.h"
#include "suite.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PLENTY = 600 };  /* seconds for a state on a slow, busy machine */
enum { OCCUPANTS = 8 }; /* at most: clients that keep the server busy */
enum { FLOOD = 1000 };  /* requests of a client that does not read the answers */
enum { PHASE_MS = 20 }; /* how long a phase is let last */
enum { ENOUGH = 2 };    /* failures of a state that are looked into */
enum { REASON_MAX = 1024, REPORT_MAX = 8 * 1024 };

/* --- what is crossed --- */

static const struct state {
    const char *name;
    int first_chapter;
    bool full;                        /* pools are small */
    int spare;                        /* descriptors left to clients; 0: plenty */
    const char *occupants[OCCUPANTS]; /* what keeps the server busy; asked for in each phase */
} states[] = {
    {.name = "idle", .first_chapter = 7},
    {.name = "busy loop", .first_chapter = 7, .occupants = {"/terrible-ping?ms=150"}},
    {.name = "full pool",
     .first_chapter = 8,
     .full = true,
     .occupants = {"/good-ping?ms=300", "/good-ping?ms=50", "/compute?n=30000000",
                   "/compute?n=1000"}},
    {.name = "no descriptors", .first_chapter = 7, .spare = 24},
};

enum cut { WHOLE, IN_LINE, IN_HEAD, NO_BODY, IN_BODY };

static const struct phase {
    const char *name;
    enum cut cut;       /* how much of the request is sent */
    int answers;        /* that are due then to a client that half-closes */
    const char *before; /* pipelined in front of the request, and behind it */
    const char *behind;
    bool waits, hears; /* it ends a moment later; not before the first byte of an answer */
} phases[] = {
    {.name = "right after the request", .answers = 1},
    {.name = "while it waits", .answers = 1, .waits = true},
    {.name = "during the answer", .answers = 1, .hears = true},
    {.name = "in front of another", .answers = 2, .behind = "/health"},
    {.name = "behind another", .answers = 2, .before = "/perfect-ping?ms=20"},
    {.name = "behind another, heard", .answers = 2, .before = "/health", .hears = true},
    {.name = "within the request line", .cut = IN_LINE, .waits = true},
    {.name = "within the head", .cut = IN_HEAD, .waits = true},
    {.name = "before the body", .cut = NO_BODY, .waits = true},
    {.name = "within the body", .cut = IN_BODY, .waits = true},
};

enum ending { HALF_CLOSE, RESET, CLOSE, NO_READING, ENDINGS };
static const char *const ending_names[] = {"half-close", "reset", "close", "no reading"};

/* --- the server --- */

static struct endpoint endpoints[ENDPOINTS_MAX];
static struct http_client right[ENDPOINTS_MAX]; /* the answers that a well-behaved client gets */
static bool varies[ENDPOINTS_MAX];              /* its body is another each time */
static int count_endpoints, descriptors;        /* descriptors: of the server without clients */
static char root[64];                           /* the folder of /files */

static const char *reason(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Why something went wrong; lasts until the next call. */
static const char *reason(const char *format, ...)
{
    static char text[REASON_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return text;
}

/* An answer without an end, which http_receive() does not take: its head, and bytes behind it. */
static bool is_stream(const struct http_client *client)
{
    const char *type = http_field(client, "Content-Type");
    return client->status == 200 && type && strcmp(type, "text/event-stream") == 0;
}

/* Asks as a well-behaved client does. Returns NULL, or what was wrong with the answer. */
static const char *ask(const struct endpoint *endpoint, struct http_client *client)
{
    char request[512];
    *client = http_connect(server.port);
    if (client->fd < 0)
        return reason("%s %s: cannot connect", endpoint->method, endpoint->target);
    snprintf(request, sizeof request,
             "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s", endpoint->method,
             endpoint->target, strlen(endpoint->body), endpoint->body);
    int status = http_send(client, request) ? http_receive(client) : -1;
    if (!is_stream(client) && (status < 200 || status >= 500 || !http_keeps_its_word(client)))
        return reason("%s %s: %s", endpoint->method, endpoint->target, http_describe(client));
    return NULL;
}

/* Reads the list of endpoints from the server, and what it answers when nobody is rude. */
static void discover(void)
{
    struct http_client client = connect_http(), again;
    assert_status(&client, http_get(&client, "/"), 200);
    count_endpoints = endpoints_on(client.body, server.port, endpoints);
    http_close(&client);
    for (int i = 0; i < count_endpoints; i++) {
        const char *wrong = ask(&endpoints[i], &right[i]);
        wrong = wrong ? wrong : ask(&endpoints[i], &again);
        ck_assert_msg(!wrong, "%s", wrong);
        close(right[i].fd);
        varies[i] = !again.body || strcmp(right[i].body, again.body) != 0;
        http_close(&again);
    }
}

static void start_in(const struct state *state)
{
    char options[256] = "";
    const char *threads = state->full ? "--threads 1 --queue 8" : "";
    const char *workers = state->full ? "--job-timeout 60 --workers 1" : "--job-timeout 60";
    if (subject.chapter >= 8)
        snprintf(options, sizeof options, "--root %s %s %s", root, threads,
                 subject.chapter >= 9 ? workers : "");
    start_server_with(options, 0);
    if (state->spare && process_descriptors(server.pid) > 0) {
        int limit = process_descriptors(server.pid) + state->spare;
        stop_server();
        start_server_with(options, limit);
    }
    descriptors = process_descriptors(server.pid);
    discover();
}

/* --- rude clients --- */

struct rude {
    int endpoint;
    enum ending ending;
    struct http_client client;
};

static bool named; /* the last failure says which client it was about */

static const char *because(const struct rude *rude, const char *what)
{
    named = true;
    return reason("%s %s, %s: %s", endpoints[rude->endpoint].method,
                  endpoints[rude->endpoint].target, ending_names[rude->ending], what);
}

/* What the client says, as far as it comes. */
static void write_words(const struct phase *phase, const struct endpoint *endpoint, char *out,
                        size_t size)
{
    const char *body = *endpoint->body ? endpoint->body : "of no use";
    int length = 0;
    if (phase->before)
        length = snprintf(out, size, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", phase->before);
    char *request = out + length;
    snprintf(request, size - (size_t)length,
             "%s %.512s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%.64s",
             endpoint->method, endpoint->target, strlen(body), body);
    char *head = strstr(request, "\r\n"), *behind = strstr(request, "\r\n\r\n") + 4;
    char *ends[] = {[WHOLE] = behind + strlen(body),
                    [IN_LINE] = request + (head - request) / 2,
                    [IN_HEAD] = head + strlen("\r\nHost: loc"),
                    [NO_BODY] = behind,
                    [IN_BODY] = behind + strlen(body) / 2};
    char *end = ends[phase->cut];
    *end = '\0';
    if (phase->behind)
        snprintf(end, size - (size_t)(end - out), "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 phase->behind);
}

/* Asks for more pages than fit on the way, and takes none of them. */
static void flood(int fd)
{
    int little = 4096;
    char *requests = http_pipeline("/", FLOOD);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    send(fd, requests, strlen(requests), MSG_DONTWAIT | MSG_NOSIGNAL);
    free(requests);
}

/* All answers, then the end: what is owed to a client that has closed its side. One whose request
 * is not complete may be refused. */
static const char *hear_to_the_end(struct rude *rude, const struct phase *phase)
{
    struct http_client *client = &rude->client;
    int status, answers = 0;
    bool closes = false;
    while ((status = http_receive(client)) > 0) {
        answers++;
        closes = client->closes;
        if (answers > phase->answers && (phase->answers || status < 400))
            return because(rude, "more answers than requests");
    }
    if (status < 0 && !is_stream(client))
        return because(rude, http_describe(client));
    if (status == 0 && answers == 0 && phase->answers)
        return because(rude, "silence");
    if (status == 0 && answers < phase->answers && !closes)
        return because(rude, "silence behind an answer");
    return NULL;
}

static void leave(struct rude *rude, const struct phase *phase)
{
    switch (rude->ending) {
    case HALF_CLOSE:
        shutdown(rude->client.fd, SHUT_WR);
        break;
    case RESET:
        client_reset(rude->client.fd);
        rude->client.fd = -1;
        break;
    case CLOSE:
        http_close(&rude->client);
        break;
    default:
        if (phase->cut == WHOLE)
            flood(rude->client.fd);
    }
}

static const char *speak(const struct phase *phase, struct rude *rudes, int count)
{
    char words[1024];
    for (int i = 0; i < count; i++) {
        write_words(phase, &endpoints[rudes[i].endpoint], words, sizeof words);
        if (!http_send(&rudes[i].client, words))
            return because(&rudes[i], "the connection took no request");
    }
    if (phase->waits)
        sleep_for(PHASE_MS / 1e3);
    double end = now() + 4 * PHASE_MS / 1e3;
    for (int i = 0; phase->hears && i < count; i++)
        client_has_input(rudes[i].client.fd, now() < end ? end - now() : 0);
    return NULL;
}

/* --- what the server does meanwhile --- */

/* Those of /compute come last, and only 09 has that. */
static int count_occupants(const struct state *state)
{
    int count = 0;
    while (count < OCCUPANTS && state->occupants[count] &&
           (subject.chapter >= 9 || !strstr(state->occupants[count], "/compute")))
        count++;
    return count;
}

static const char *occupy(const struct state *state, struct http_client *clients)
{
    for (int i = 0; i < count_occupants(state); i++) {
        clients[i] = http_connect(server.port);
        if (clients[i].fd < 0 || !http_ask(&clients[i], state->occupants[i]))
            return reason("cannot ask for %s", state->occupants[i]);
    }
    if (count_occupants(state) > 0)
        sleep_for(0.01); /* let it begin */
    return NULL;
}

static const char *release(const struct state *state, struct http_client *clients)
{
    const char *wrong = NULL;
    for (int i = 0; i < count_occupants(state); i++) {
        int status = http_receive(&clients[i]);
        if (status < 200)
            wrong =
                reason("%s was not answered: %s", state->occupants[i], http_describe(&clients[i]));
        http_close(&clients[i]);
    }
    return wrong;
}

/* --- afterwards --- */

/* Of all numbers with that name: there is one for each pool. */
static bool all_zero(const char *stats, const char *name)
{
    for (const char *at = stats; (at = strstr(at, name)) != NULL; at++)
        if (json_number(at - 1, name) > 0)
            return false;
    return true;
}

/* The server has no clients any more but this, nothing to do, and no more descriptors than before.
 */
static const char *comes_to_rest(void)
{
    struct http_client client = http_connect(server.port);
    const char *wrong = client.fd < 0 ? reason("cannot connect") : NULL;
    for (double end = now() + patience(); !wrong; sleep_for(0.005)) {
        if (http_get(&client, "/stats") != 200)
            wrong = reason("/stats: %s", http_describe(&client));
        else if (json_number(client.body, "clients") <= 1 && all_zero(client.body, "busy") &&
                 all_zero(client.body, "queued"))
            break;
        else if (now() > end)
            wrong = reason("does not come to rest: %s", client.body);
    }
    http_close(&client);
    if (!wrong && descriptors >= 0 && !descriptors_become(descriptors))
        wrong = reason("%d descriptors open before, %d after", descriptors,
                       process_descriptors(server.pid));
    return wrong;
}

static const char *serves_as_before(void)
{
    const char *wrong = NULL;
    for (int i = 0; i < count_endpoints && !wrong; i++) {
        struct http_client client;
        wrong = ask(&endpoints[i], &client);
        if (!wrong && client.status != right[i].status)
            wrong =
                reason("%s: %d, and not %d", endpoints[i].target, client.status, right[i].status);
        if (!wrong && !varies[i] && strcmp(client.body, right[i].body) != 0)
            wrong = reason("%s: another answer than before: %s", endpoints[i].target, client.body);
        http_close(&client);
    }
    return wrong;
}

/* If the server has died, that is the reason of everything else. */
static const char *or_death(const char *wrong)
{
    siginfo_t info = {0};
    if (wrong)
        sleep_for(0.5); /* a sanitizer's report takes a moment */
    if (waitid(P_PID, (id_t)server.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        info.si_pid == 0)
        return wrong;
    named = false;
    process_read_output(&server);
    const char *report = strstr(server.errors, "ERROR: ");
    report = report ? report : server.errors;
    return reason("the server died: %.*s", (int)strcspn(report, "\n"), report);
}

/* --- a batch: all endpoints and endings in one phase --- */

static const char *connect_all(struct rude *rudes, int count)
{
    for (int i = 0; i < count; i++) {
        rudes[i].client = http_connect(server.port);
        if (rudes[i].client.fd < 0)
            return because(&rudes[i], "cannot connect");
    }
    return NULL;
}

static const char *be_rude(const struct state *state, const struct phase *phase, struct rude *rudes,
                           int count)
{
    struct http_client occupants[OCCUPANTS], more[OCCUPANTS];
    bool again = phase->waits || phase->hears; /* what was occupied may have become free */
    const char *wrong = connect_all(rudes, count);
    wrong = wrong ? wrong : occupy(state, occupants);
    wrong = wrong ? wrong : speak(phase, rudes, count);
    wrong = wrong || !again ? wrong : occupy(state, more);
    for (int i = 0; i < count && !wrong; i++)
        leave(&rudes[i], phase);
    for (int i = 0; i < count && !wrong; i++)
        if (rudes[i].ending == HALF_CLOSE) {
            wrong = hear_to_the_end(&rudes[i], phase);
            http_close(&rudes[i].client);
        }
    wrong = wrong ? wrong : release(state, occupants);
    return wrong || !again ? wrong : release(state, more);
}

/* Returns NULL if the server has survived these, and is as it was. */
static const char *play(const struct state *state, const struct phase *phase, struct rude *rudes,
                        int count)
{
    for (int i = 0; i < count; i++)
        rudes[i].client = (struct http_client){.fd = -1};
    named = false;
    const char *wrong = be_rude(state, phase, rudes, count);
    for (int i = 0; i < count; i++)
        http_close(&rudes[i].client);
    wrong = wrong ? wrong : comes_to_rest();
    wrong = wrong ? wrong : serves_as_before();
    return or_death(wrong);
}

/* Ends the server, which has to do that in order if nothing was wrong. */
static const char *end_server(const char *wrong)
{
    int status = process_end(&server, SIGTERM);
    const char *report = strstr(server.errors, "ERROR: ");
    report = report ? report : server.errors;
    for (int i = 0; i < count_endpoints; i++) {
        right[i].fd = -1; /* closed already */
        http_close(&right[i]);
    }
    if (!wrong && status != 0)
        wrong = reason("exit status %d: %.*s", status, (int)strcspn(report, "\n"), report);
    return wrong;
}

/* --- which of them it was --- */

/* Plays some of a batch against a server of their own. */
static bool fails_alone(const struct state *state, const struct phase *phase, struct rude *rudes,
                        int count)
{
    start_in(state);
    return end_server(play(state, phase, rudes, count)) != NULL;
}

/* Looks for as few of the batch as suffice, by halves. Returns how many stand first in it then. */
static int narrow(const struct state *state, const struct phase *phase, struct rude *rudes,
                  int count)
{
    while (count > 1) {
        int half = count / 2;
        if (!fails_alone(state, phase, rudes, half)) {
            if (!fails_alone(state, phase, rudes + half, count - half))
                break;
            memmove(rudes, rudes + half, (size_t)(count - half) * sizeof *rudes);
            half = count - half;
        }
        count = half;
    }
    return count;
}

static void add_line(char *report, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add_line(char *report, const char *format, ...)
{
    size_t length = strlen(report);
    va_list args;
    va_start(args, format);
    vsnprintf(report + length, REPORT_MAX - length, format, args);
    va_end(args);
}

/* Says which clients of a batch made the server fail. That ends this server. */
static void look_into(const struct state *state, const struct phase *phase, struct rude *rudes,
                      int count, const char *wrong, char *report)
{
    add_line(report, "\n  %s, %s: %s", state->name, phase->name, wrong);
    end_server(wrong);
    if (named)
        return;
    count = narrow(state, phase, rudes, count);
    add_line(report, ": %d client%s", count, count > 1 ? "s:" : ":");
    for (int i = 0; i < count && i < 3; i++)
        add_line(report, "%s %s %s, %s", i ? " +" : "", endpoints[rudes[i].endpoint].method,
                 endpoints[rudes[i].endpoint].target, ending_names[rudes[i].ending]);
}

/* --- tests --- */

static int set_up_batch(struct rude *rudes)
{
    int count = 0;
    for (int ending = 0; ending < ENDINGS; ending++)
        for (int i = 0; i < count_endpoints; i++)
            rudes[count++] = (struct rude){.endpoint = i, .ending = (enum ending)ending};
    return count;
}

/* Goes on with a new server after a failure, so that more than the first is told. */
START_TEST(rude_clients)
{
    static struct rude rudes[ENDPOINTS_MAX * ENDINGS];
    const struct state *state = &states[_i];
    char report[REPORT_MAX] = "";
    int failures = 0;
    if (subject.chapter < state->first_chapter)
        return;
    start_in(state);
    for (int i = 0; i < COUNT(phases) && failures < ENOUGH; i++) {
        int count = set_up_batch(rudes);
        const char *wrong = play(state, &phases[i], rudes, count);
        if (wrong) {
            failures++;
            look_into(state, &phases[i], rudes, count, wrong, report);
            start_in(state);
        }
    }
    const char *wrong = end_server(NULL);
    ck_assert_msg(!*report && !wrong, "%s%s", report, wrong ? wrong : "");
}
END_TEST

/* What has to be found, so that nothing is not mistaken for all. */
static const struct {
    int chapter;
    const char *method, *path;
} known[] = {
    {7, "GET", "/"},
    {7, "GET", "/health"},
    {7, "GET", "/terrible-ping?ms="},
    {7, "GET", "/perfect-ping?ms="},
    {7, "GET", "/fetch?port="},
    {7, "GET", "/sum?n=300000&yield=100"},
    {7, "GET", "/stats"},
    {8, "GET", "/good-ping?ms="},
    {8, "GET", "/files/NAME"},
    {9, "GET", "/compute?n=1000000&on=process"},
    {9, "GET", "/compute?n=1000000&on=thread"},
    {9, "GET", "/compute?n=1000000&on=loop"},
    {9, "GET", "/events"},
    {9, "POST", "/tasks"},
    {9, "GET", "/tasks/1"},
};

START_TEST(endpoints_are_found)
{
    start_in(&states[0]);
    for (int i = 0; i < COUNT(known); i++) {
        bool found = subject.chapter < known[i].chapter;
        for (int k = 0; k < count_endpoints && !found; k++)
            found = strcmp(endpoints[k].method, known[i].method) == 0 &&
                    strncmp(endpoints[k].target, known[i].path, strlen(known[i].path)) == 0;
        ck_assert_msg(found, "the page does not name %s %s", known[i].method, known[i].path);
    }
    for (int k = 0; k < count_endpoints; k++)
        ck_assert_msg(right[k].status < 400 || strcmp(endpoints[k].target, "/tasks/1") == 0,
                      "%s %s: %d", endpoints[k].method, endpoints[k].target, right[k].status);
    stop_server();
}
END_TEST

/* A folder with a file that does not fit on the way to a client. */
static void make_root(void)
{
    char path[128];
    snprintf(root, sizeof root, "/tmp/matrix-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    snprintf(path, sizeof path, "%s/NAME", root);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < 30000; i++)
        fprintf(file, "line %d\n", i);
    ck_assert_int_eq(fclose(file), 0);
}

static void remove_root(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/NAME", root);
    unlink(path);
    rmdir(root);
}

Suite *matrix_suite(void)
{
    Suite *suite = suite_create("matrix");
    TCase *matrix = tcase_create("matrix");
    tcase_set_timeout(matrix, PLENTY);
    tcase_add_unchecked_fixture(matrix, make_root, remove_root);
    tcase_add_test(matrix, endpoints_are_found);
    tcase_add_loop_test(matrix, rude_clients, 0, COUNT(states));
    suite_add_tcase(suite, matrix);
    return suite;
}
