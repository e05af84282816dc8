/*
 * make demo: every chapter's server against the same scripted clients.
 *
 * A, B and C arrive together; each sends a message and, once it has the answer, holds on to its
 * connection for a while before it hangs up. D comes a little later and has one quick question
 * only. Who waits for whom is drawn. Then more is measured: what the server takes while nobody says
 * anything, how many clients it serves at once, and what one echo costs among that many.
 */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* An answer that takes more than this many seconds of CPU is not cheap any more. */
static const double COSTLY = 0.0005;

/* Seconds: how long A, B and C hold on to their connections; when D comes; after how long who has
 * no answer will not get one; how long the idle server is watched. */
static const double HOLD = 0.5, LATER = 0.1, SCENE_MAX = 10, IDLE = 0.3;
enum { HOLD_COLUMNS = 20, LANE = 62 }; /* how wide HOLD, and a whole lane, is drawn */
enum { SILENT_CLIENTS = 5, MOST_CLIENTS = 10000, BATCH = 100, QUESTIONS = 20 };
enum { TICK_MS = 2, PATIENCE_MS = 1000 };

/* What is said to a server, and the byte that ends its answer. */
enum protocol { ECHO, HTTP };
static const struct {
    const char *request;
    char end;
} protocols[] = {
    [ECHO] = {"hello\n", '\n'},
    [HTTP] = {"GET /health HTTP/1.1\r\nHost: demo\r\n\r\n", '}'},
};

static const struct chapter {
    const char *name, *idea;
    enum protocol protocol;
} chapters[] = {
    {"01-blocking", "serves one client after the other", ECHO},
    {"02-nonblocking-polling", "asks each client in turn, without a pause", ECHO},
    {"03-select", "the kernel watches a set of clients, of a fixed size", ECHO},
    {"04-poll", "the kernel watches a list of clients, of any length", ECHO},
    {"05-epoll", "the kernel keeps the list, and hands out the ready ones", ECHO},
    {"06-kqueue", "the same on macOS and the BSDs, signals and timers too", ECHO},
    {"07-event-loop", "a loop that calls back, and HTTP on it", HTTP},
    {"08-threadpool", "what blocks goes to threads", HTTP},
    {"09-cpu-offload", "what computes goes to processes", HTTP},
};
enum { CHAPTERS = sizeof chapters / sizeof chapters[0] };

/* What was measured of a chapter. */
struct result {
    double total, quick_wait; /* the scene's length, and how long D waited in it */
    double idle_share;        /* of one CPU */
    int served;               /* clients at the same time */
    bool all_tried;           /* and no more were tried */
    double echo_cost;         /* CPU time for one echo among that many */
};

/* Who asks an HTTP server for the same at the same time, and how it is drawn. */
static const struct scene {
    const char *chapter, *path, *idea;
} scenes[] = {
    {"07-event-loop", "/terrible-ping?ms=200", "the handler sleeps, and with it the loop"},
    {"07-event-loop", "/perfect-ping?ms=200", "the handler sets a timer and returns"},
    {"08-threadpool", "/good-ping?ms=200", "a thread sleeps for each of them"},
};
enum { SCENES = sizeof scenes / sizeof scenes[0], CROWD = 5 };

/* One of the scripted clients. Times count from the start of the scene; -1: not yet. */
struct visitor {
    double comes, holds; /* the script */
    double came, answered, left;
    int fd;
    char name;
};
enum { VISITORS = 4 };

static const char *build = "build"; /* the folder this program lies in, without tests/demo */
static bool colour;
static int failures;

static void failure(const char *who, const char *what)
{
    printf("  FAILED: %s: %s\n", who, what);
    failures++;
}

/* The path of a program: below build/ (there lie the tools, and chapters with sanitizers) or in the
 * chapter's folder. NULL if it is missing. */
static const char *program(const char *folder, const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s/%s", build, folder, name);
    if (access(path, X_OK) < 0)
        snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, X_OK) < 0 ? NULL : path;
}

/* --- the scene --- */

/* What the clients of a scene say, and to whom. */
struct play {
    int port;
    const char *request;
    enum protocol protocol;
};

enum answer { NOT_YET, COMPLETE, LOST };

/* Takes what has come from a server, without waiting. */
static enum answer read_answer(int fd, enum protocol protocol)
{
    char bytes[4096];
    ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        return LOST;
    return n > 0 && bytes[n - 1] == protocols[protocol].end ? COMPLETE : NOT_YET;
}

static bool send_request(int fd, enum protocol protocol)
{
    return client_send(fd, protocols[protocol].request, strlen(protocols[protocol].request));
}

static struct visitor new_visitor(char name, double comes, double holds)
{
    return (struct visitor){comes, holds, -1, -1, -1, -1, name};
}

/* Comes, takes its answer, or hangs up, if it is time for that. */
static void visitor_act(struct visitor *visitor, double time, const struct play *play)
{
    if (visitor->came < 0 && time >= visitor->comes) {
        visitor->came = time;
        visitor->fd = client_connect(play->port);
        if (visitor->fd >= 0) /* if that fails, no answer will come */
            client_send(visitor->fd, play->request, strlen(play->request));
    } else if (visitor->fd >= 0 && visitor->answered < 0) {
        if (read_answer(visitor->fd, play->protocol) == COMPLETE)
            visitor->answered = time;
    } else if (visitor->fd >= 0 && time >= visitor->answered + visitor->holds) {
        visitor->left = time;
        close(visitor->fd);
        visitor->fd = -1;
    }
}

/* Everybody follows the script, and the clock says when things really happen. Returns how long it
 * took. */
static double perform(struct visitor visitors[], int count, const struct play *play)
{
    double start = now(), time = 0;
    int gone = 0;
    while (gone < count && time < SCENE_MAX) {
        struct pollfd watched[CROWD];
        for (int i = 0; i < count; i++)
            watched[i] = (struct pollfd){.fd = visitors[i].fd, .events = POLLIN};
        poll(watched, (nfds_t)count, TICK_MS);
        time = now() - start;
        gone = 0;
        for (int i = 0; i < count; i++) {
            visitor_act(&visitors[i], time, play);
            gone += visitors[i].left >= 0;
        }
    }
    if (gone < count)
        failure("a client", "got no answer");
    return time;
}

/* --- what is shown of it --- */

static void draw_lane(const struct visitor *visitor)
{
    const double column = HOLD / HOLD_COLUMNS;
    double answered = visitor->answered < 0 ? SCENE_MAX : visitor->answered;
    double left = visitor->left < 0 ? SCENE_MAX : visitor->left;
    char last = ' ';
    printf("  %c ", visitor->name);
    for (int i = 0; i < LANE; i++) {
        double middle = (i + 0.5) * column;
        char sign = ' ';
        if (i == (int)(answered / column) || (answered <= middle && middle < left))
            sign = '#'; /* one at least, however short it was */
        else if (visitor->came <= middle && middle < answered)
            sign = '.';
        if (colour && sign != last)
            fputs(sign == '.' ? "\033[33m" : "\033[32m", stdout); /* yellow, green */
        putchar(last = sign);
    }
    printf("%s  %.2f s\n", colour ? "\033[0m" : "", answered - visitor->came);
}

static void draw(const struct visitor visitors[], int count)
{
    for (int i = 0; i < count; i++)
        draw_lane(&visitors[i]);
    fputs("    0 s", stdout); /* each further tick ends HOLD_COLUMNS after the one before */
    for (int i = 1; i * HOLD_COLUMNS < LANE; i++)
        printf("%*.1f", HOLD_COLUMNS, i * HOLD);
    puts("");
    fflush(stdout);
}

static const char *with_comma(int number)
{
    static char text[16];
    if (number < 1000)
        snprintf(text, sizeof text, "%d", number);
    else
        snprintf(text, sizeof text, "%d,%03d", number / 1000, number % 1000);
    return text;
}

/* Who got no answer until the one before had hung up? False: nobody. */
static bool tell_waits(const struct visitor visitors[])
{
    bool any = false;
    for (int i = 1; i < VISITORS; i++) {
        const struct visitor *me = &visitors[i], *before = &visitors[i - 1];
        if (before->left < me->came || me->answered < before->left)
            continue;
        printf(any ? ", %c until %c does" : "  %c waits until %c hangs up", me->name, before->name);
        any = true;
    }
    return any;
}

/* One sentence: what was seen, and what is still wrong. */
static void tell(const struct visitor visitors[], const struct result *result)
{
    const char *served = with_comma(result->served);
    bool wait = tell_waits(visitors);
    if (!wait)
        fputs("  Nobody waits", stdout);
    if (result->idle_share > 0.1) /* it would take all; a busy machine gives it less */
        printf(", but with nothing to do it takes %.0f %% of a CPU", result->idle_share * 100);
    else if (!wait && !result->all_tried)
        printf(", but %s clients are the most it takes", served);
    else if (!wait)
        printf(", %s among %s clients an answer costs %.2f ms of CPU",
               result->echo_cost > COSTLY ? "but" : "and", served, result->echo_cost * 1000);
    puts(".");
}

/* --- the measurements --- */

static void measure_idle(struct result *result, const struct process *server)
{
    int fds[SILENT_CLIENTS];
    for (int i = 0; i < SILENT_CLIENTS; i++)
        fds[i] = client_connect(server->port);
    result->idle_share = process_cpu_share(server->pid, IDLE);
    for (int i = 0; i < SILENT_CLIENTS; i++)
        client_reset(fds[i]);
}

/* How many of these get their answer, though all of them stay. Those who do not are known by their
 * end of file, or by nobody's having got anything for PATIENCE_MS. */
static int count_answers(const int fds[], int count, enum protocol protocol)
{
    struct pollfd watched[BATCH];
    int answers = 0, waiting = count;
    for (int i = 0; i < count; i++)
        watched[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    while (waiting > 0 && poll(watched, (nfds_t)count, PATIENCE_MS) > 0)
        for (int i = 0; i < count; i++) {
            enum answer answer =
                watched[i].revents ? read_answer(watched[i].fd, protocol) : NOT_YET;
            if (answer == NOT_YET)
                continue;
            watched[i].fd = -1; /* poll() passes over it from now on */
            answers += answer == COMPLETE;
            waiting--;
        }
    return answers;
}

/* What one echo costs the server: CPU time, for the time on the clock also depends on how quickly
 * two CPUs wake each other. Where the system does not tell (macOS), the time on the clock. */
static double echo_cost(pid_t pid, int fd, enum protocol protocol)
{
    double start = now(), before = process_cpu(pid);
    for (int i = 0; i < QUESTIONS; i++)
        if (!send_request(fd, protocol) || count_answers(&fd, 1, protocol) == 0)
            return -1;
    return (before < 0 ? now() - start : process_cpu(pid) - before) / QUESTIONS;
}

/* Batch after batch of clients come, ask and stay, until some of them get no answer. */
static void measure_crowd(struct result *result, const struct process *server,
                          enum protocol protocol, int most)
{
    static int fds[MOST_CLIENTS];
    int count = 0, before = -1;
    while (result->served == count && count < most && count > before) {
        before = count;
        while (count < most && count < before + BATCH &&
               (fds[count] = client_connect(server->port)) >= 0)
            if (!send_request(fds[count++], protocol))
                break; /* it has been turned away already */
        result->served += count_answers(fds + before, count - before, protocol);
    }
    result->all_tried = result->served == most;
    result->echo_cost = echo_cost(server->pid, fds[0], protocol);
    while (count > 0)
        client_reset(fds[--count]);
}

/* The same request five times at once. */
static void show_scene(const struct scene *scene, int port)
{
    struct visitor visitors[CROWD];
    char request[128];
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: demo\r\n\r\n", scene->path);
    struct play play = {port, request, HTTP};
    for (int i = 0; i < CROWD; i++)
        visitors[i] = new_visitor((char)('1' + i), 0, 0);
    printf("  %d x %s: %s\n", CROWD, scene->path, scene->idea);
    perform(visitors, CROWD, &play);
    draw(visitors, CROWD);
}

static void show_scenes(const char *chapter, int port)
{
    for (int i = 0; i < SCENES; i++)
        if (strcmp(scenes[i].chapter, chapter) == 0)
            show_scene(&scenes[i], port);
}

static struct result show_chapter(const struct chapter *chapter, int most)
{
    struct visitor visitors[VISITORS] = {new_visitor('A', 0, HOLD), new_visitor('B', 0, HOLD),
                                         new_visitor('C', 0, HOLD), new_visitor('D', LATER, 0)};
    struct result result = {0};
    const char *path = program(chapter->name, "server");
    int title = printf("%s: %s", chapter->name, chapter->idea);
    if (!path) {
        puts("\n  skipped: its server is not built\n");
        return result;
    }
    printf("%*s\n", LANE + 12 - title, "waited");
    fflush(stdout);

    struct process server = server_start(path, NULL, 0);
    struct play play = {server.port, protocols[chapter->protocol].request, chapter->protocol};
    const struct visitor *quick = &visitors[VISITORS - 1];
    result.total = perform(visitors, VISITORS, &play);
    result.quick_wait = (quick->answered < 0 ? result.total : quick->answered) - quick->came;
    draw(visitors, VISITORS);
    measure_idle(&result, &server);
    measure_crowd(&result, &server, chapter->protocol, most);
    tell(visitors, &result);
    show_scenes(chapter->name, server.port);
    if (process_end(&server, SIGTERM) != 0)
        failure(chapter->name, "its server did not end with exit status 0");
    puts("");
    return result;
}

/* --- the combined server: each kind of work in its place --- */

static const struct crowd {
    int count;
    const char *path, *what;
} crowds[] = {
    {10, "/terrible-ping?ms=100", "terrible-ping: sleeps on the loop"},
    {100, "/good-ping?ms=100", "good-ping: 40 threads sleep"},
    {100, "/perfect-ping?ms=100", "perfect-ping: timers on the loop"},
    {10, "/compute?n=20000000&on=loop", "compute on the loop"},
    {10, "/compute?n=20000000&on=thread", "compute in threads"},
    {10, "/compute?n=20000000&on=process", "compute in processes"},
};
enum { CROWDS = sizeof crowds / sizeof crowds[0], CROWD_MAX = 100, PROBES = 4096, PROBE_MS = 5 };

/* Somebody who asks for /health all the time, and how long each answer took. */
struct probe {
    int fd, count;
    double asked; /* when; -1: not waiting for an answer */
    double took[PROBES];
};

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void probe_act(struct probe *probe)
{
    if (probe->asked < 0 && probe->count < PROBES) {
        probe->asked = now();
        send_request(probe->fd, HTTP);
    } else if (probe->asked >= 0 && read_answer(probe->fd, HTTP) == COMPLETE) {
        probe->took[probe->count++] = now() - probe->asked;
        probe->asked = -1;
    }
}

/* All of them at once, and the probe beside them. Returns how long it took until all had their
 * answers. */
static double rush(const struct crowd *crowd, int port, struct probe *probe)
{
    struct pollfd watched[CROWD_MAX + 1];
    char request[128];
    int waiting = crowd->count;
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: demo\r\n\r\n", crowd->path);
    for (int i = 0; i < crowd->count; i++)
        watched[i] = (struct pollfd){.fd = client_connect(port), .events = POLLIN};
    watched[crowd->count] = (struct pollfd){.fd = probe->fd, .events = POLLIN};
    probe_act(probe);
    double start = now();
    for (int i = 0; i < crowd->count; i++)
        client_send(watched[i].fd, request, strlen(request));
    while (waiting > 0 && now() < start + SCENE_MAX) {
        poll(watched, (nfds_t)crowd->count + 1, PROBE_MS);
        probe_act(probe);
        for (int i = 0; i < crowd->count; i++)
            if (watched[i].fd >= 0 && watched[i].revents &&
                read_answer(watched[i].fd, HTTP) != NOT_YET) {
                close(watched[i].fd);
                watched[i].fd = -1;
                waiting--;
            }
    }
    if (waiting > 0)
        failure(crowd->path, "not all were answered");
    double took = now() - start;
    while (probe->asked >= 0 && now() < start + SCENE_MAX) { /* its last question */
        poll(&(struct pollfd){.fd = probe->fd, .events = POLLIN}, 1, PROBE_MS);
        probe_act(probe);
    }
    return took;
}

static void show_combined(void)
{
    const char *path = program("09-cpu-offload", "server");
    if (!path)
        return;
    struct process server = server_start(path, NULL, 0);
    puts("The combined server, and somebody who asks it for /health all the time\n\n"
         "                                            all are    /health answers after\n"
         "requests at once                           answered     (half of them)   at most");
    for (int i = 0; i < CROWDS; i++) {
        static struct probe probe;
        probe = (struct probe){.fd = client_connect(server.port), .asked = -1};
        double took = rush(&crowds[i], server.port, &probe);
        qsort(probe.took, (size_t)probe.count, sizeof probe.took[0], ascending);
        close(probe.fd);
        if (probe.count > 0)
            printf("%4d x %-35s %5.2f s %15.1f ms %6.0f ms\n", crowds[i].count, crowds[i].what,
                   took, probe.took[probe.count / 2] * 1000, probe.took[probe.count - 1] * 1000);
        else
            failure("/health", "no answer");
        fflush(stdout);
    }
    if (process_end(&server, SIGTERM) != 0)
        failure("09-cpu-offload", "its server did not end with exit status 0");
    puts("");
}

/* --- the clients of 01 to 03 --- */

/* Runs it, and shows what it says in the end, after its line for each connection. */
static void show_client(const char *path, const char *name, int port)
{
    char port_text[16];
    snprintf(port_text, sizeof port_text, "%d", port);
    struct process client = process_start((const char *const[]){path, port_text, NULL}, 0);
    if (process_end(&client, 0) != 0)
        failure(name, client.errors);
    const char *line = client.output;
    while (strncmp(line, "connection", strlen("connection")) == 0 && strchr(line, '\n'))
        line = strchr(line, '\n') + 1;
    printf("  %-22s ", name);
    for (; *line; line++) /* a second line goes below the first */
        printf(*line == '\n' && line[1] ? "\n    " : "%c", *line);
    fflush(stdout);
}

static void show_clients(void)
{
    puts("The chapters' clients: 5 connections to a peer that takes 0.2 s for each answer");
    const char *path = program("tests", "slow-peer");
    struct process peer = server_start(path ? path : "slow-peer", "--delay 200", 0);
    for (int i = 0; i < CHAPTERS; i++)
        if ((path = program(chapters[i].name, "client"))) /* only the first ones have a client */
            show_client(path, chapters[i].name, peer.port);
    if (process_end(&peer, SIGTERM) != 0)
        failure("slow-peer", "did not end with exit status 0");
    puts("");
}

static void show_table(const struct result results[])
{
    puts("                      all four         D    CPU  clients served   CPU for an\n"
         "chapter                   took    waited at rest at the same time answer among");
    for (int i = 0; i < CHAPTERS; i++)
        if (results[i].total > 0) /* it is there */
            printf("%-22s %5.2f s %7.2f s %4.0f %%  %6s%-12s %7.2f ms\n", chapters[i].name,
                   results[i].total, results[i].quick_wait, results[i].idle_share * 100,
                   with_comma(results[i].served), results[i].all_tried ? " (all tried)" : "",
                   results[i].echo_cost * 1000);
}

int main(int argc, char **argv)
{
    char *tail = argc > 0 ? strstr(argv[0], "/tests/demo") : NULL;
    if (tail) {
        *tail = '\0';
        build = argv[0];
    }
    const char *terminal = getenv("TERM"), *no_colour = getenv("NO_COLOR");
    colour = isatty(STDOUT_FILENO) && !(no_colour && *no_colour) && terminal &&
             strcmp(terminal, "dumb") != 0;
    int most = raise_descriptor_limit() - 64; /* the server needs some for itself */
    most = most < MOST_CLIENTS ? most : MOST_CLIENTS;

    printf("Clients A, B and C come at 0 s, ask, and hang up %.1f s after the answer.\n"
           "D comes at %.1f s, and hangs up as soon as it has its answer.\n"
           "Time runs to the right:  . waits for the answer  # is being served\n\n",
           HOLD, LATER);
    struct result results[CHAPTERS];
    for (int i = 0; i < CHAPTERS; i++)
        results[i] = show_chapter(&chapters[i], most);
    show_clients();
    show_combined();
    show_table(results);
    puts("\nNext: read 01-blocking/README.md. `make test` proves all of it.");
    return failures > 0;
}
