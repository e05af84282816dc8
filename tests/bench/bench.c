/*
 * What does a message cost, and what a request? Puts the same load on the echo servers, and on the
 * HTTP servers, one after the other, and takes the CPU time that each used for it.
 *
 * The load (load.c) has a CPU to itself and the server has another. Beside the active connections
 * may be idle ones.
 *
 * Machines are noisy (other programs, clock speed), so: every server is measured in every round,
 * for a short time; a ratio compares two servers within one round; what is printed is the median
 * over the rounds. CPU per message is the figure to trust: messages per second also depend on the
 * load generator and on how well two CPUs wake each other.
 */
#ifndef __linux__
#error "make bench needs Linux: epoll and sched_setaffinity()"
#endif
#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier): sched_setaffinity() */
#include "load.h"

#include "../harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { FEW_IDLE = 900, MANY_IDLE = 10000 };        /* 900: select() holds less than 1,024 */
enum { ECHO = 0, ONE = 1, PIPELINED = MAX_DEPTH }; /* depths */
enum { MAX_ROUNDS = 99, MAX_RUNS = 48 };
enum { SPARE_DESCRIPTORS = 32 };     /* standard streams, pipes, listener, epoll */
static const double NGINX_START = 5; /* seconds it may take */

static const char *const FLOOR = "bare epoll loop";
static const char *const LIBUV = "libuv's guide", *const LIBUV_KEPT = "libuv, buffers kept";
static const char *const EPOLL = "05-epoll";
static const char *const HTTP_FLOOR = "bare epoll loop, HTTP", *const NGINX = "nginx, one worker";
static const char *const HTTP = "07 --backend epoll";
static const char ON_LOOP[] = "08 /health", IN_POOL[] = "08 /good-ping?ms=0";
static const char *const BACKENDS[] = {"07 --backend epoll", "07 --backend kqueue",
                                       "07 --backend poll", "07 --backend select"};
enum { BACKEND_COUNT = sizeof BACKENDS / sizeof *BACKENDS };

/* --- figures --- */

/* A server under one load: measured once a round. */
struct run {
    char name[32], path[512];
    const char *args;
    struct plan plan;
    double figures[FIGURES][MAX_ROUNDS]; /* NAN where it failed */
};

struct bench {
    struct run runs[MAX_RUNS];
    int count, rounds, idle;
    double seconds;
    int own_cpu, server_cpu; /* the same one if there is only one */
    const char *only;        /* "echo" or "http"; NULL: both */
    char folder[400];        /* this program's: its helpers lie beside it */
    bool failed;
};

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* The lowest, the middle and the highest of what is not NAN; all NAN when there is nothing. */
struct spread {
    double min, median, max;
};

static struct spread spread_of(const double *values, int count)
{
    double sorted[MAX_ROUNDS];
    int n = 0;
    for (int i = 0; i < count; i++)
        if (!isnan(values[i]))
            sorted[n++] = values[i];
    if (n == 0)
        return (struct spread){NAN, NAN, NAN};
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    return (struct spread){sorted[0], (sorted[(n - 1) / 2] + sorted[n / 2]) / 2, sorted[n - 1]};
}

static double median_of(const struct bench *bench, const struct run *run, enum figure figure)
{
    return spread_of(run->figures[figure], bench->rounds).median;
}

/* How many times as much a figure is in one run as in another of the same round. */
static struct spread ratio_of(const struct bench *bench, enum figure figure, const struct run *run,
                              const struct run *base)
{
    double ratios[MAX_ROUNDS];
    for (int i = 0; i < bench->rounds; i++)
        ratios[i] = run && base ? run->figures[figure][i] / base->figures[figure][i] : NAN;
    return spread_of(ratios, bench->rounds);
}

static struct run *find_run(struct bench *bench, const char *name, int depth, int idle)
{
    for (int i = 0; i < bench->count; i++) {
        struct run *run = &bench->runs[i];
        if (strcmp(run->name, name) == 0 && run->plan.depth == depth && run->plan.idle == idle)
            return run;
    }
    return NULL;
}

/* --- nginx: with settings of our own, and all it writes below build/ --- */

/* A port that is free now. nginx wants a number; nobody else is likely to take it so soon. */
static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0), port = -1;
    if (fd < 0)
        return -1;
    if (bind(fd, (struct sockaddr *)&address, size) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &size) == 0)
        port = ntohs(address.sin_port);
    close(fd);
    return port;
}

/* One process, a worker without a master: what it costs is the worker's alone, and nothing is left
 * running should this program be killed. */
static void nginx_configure(const char *folder, int port)
{
    char path[512];
    snprintf(path, sizeof path, "%s/nginx.conf", folder);
    FILE *file = fopen(path, "w");
    if (!file)
        return; /* nginx will say so */
    fprintf(file,
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr crit;\n"
            "events {\n    worker_connections 1024;\n}\n"
            "http {\n    access_log off;\n    server_tokens off;\n"
            "    keepalive_requests 1000000000;\n    default_type application/json;\n"
            "    client_body_temp_path temp;\n    proxy_temp_path temp;\n"
            "    fastcgi_temp_path temp;\n    uwsgi_temp_path temp;\n    scgi_temp_path temp;\n"
            "    server {\n        listen 127.0.0.1:%d;\n"
            "        location = /health {\n            return 200 '{\"status\":\"ok\"}';\n"
            "        }\n    }\n}\n",
            port);
    fclose(file);
}

static struct process nginx_start(const struct bench *bench, const char *path)
{
    char folder[448];
    int port = free_port(), fd = -1;
    snprintf(folder, sizeof folder, "%s/nginx", bench->folder);
    mkdir(folder, 0777);
    nginx_configure(folder, port);
    const char *argv[] = {path, "-p", folder, "-c", "nginx.conf", NULL};
    struct process nginx = process_start(argv, 0);
    nginx.port = port;
    /* it does not say when it listens */
    for (double end = now() + NGINX_START; (fd = client_connect(port)) < 0 && now() < end;)
        sleep_for(0.01);
    if (fd >= 0)
        client_reset(fd);
    return nginx;
}

/* Where it is, or NULL. Not everybody has /usr/sbin in the PATH. */
static const char *nginx_path(void)
{
    static const char *const places[] = {"/usr/sbin/nginx", "/usr/local/sbin/nginx",
                                         "/usr/bin/nginx", "/usr/local/nginx/sbin/nginx"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (access(places[i], X_OK) == 0)
            return places[i];
    return NULL;
}

/* --- one run --- */

/* Restricts a process (0: this one) to one CPU. */
static void pin(pid_t pid, int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(pid, sizeof set, &set) < 0)
        fprintf(stderr, "bench: sched_setaffinity: %s\n", strerror(errno));
}

static void run_failed(struct bench *bench, const struct run *run, const char *why,
                       const struct process *server)
{
    fprintf(stderr, "bench: %s with %d idle: %s; exit status %d %s\n", run->name, run->plan.idle,
            why, server->status, server->errors);
    bench->failed = true;
}

static void run_once(struct bench *bench, struct run *run, int round)
{
    double figures[FIGURES] = {0};
    struct process server = strcmp(run->name, NGINX) == 0 ? nginx_start(bench, run->path)
                                                          : server_start(run->path, run->args, 0);
    pin(server.pid, bench->server_cpu);
    const char *error = load_run(server.port, server.pid, &run->plan, figures);
    int status = process_end(&server, SIGTERM);
    bool ok = !error && status == 0;
    if (!ok)
        run_failed(bench, run, error ? error : "ended badly", &server);
    for (int i = 0; i < FIGURES; i++)
        run->figures[i][round] = ok ? figures[i] : NAN;
}

static void run_all(struct bench *bench)
{
    for (int round = 0; round < bench->rounds; round++)
        for (int i = 0; i < bench->count; i++) {
            /* to and fro: whatever changes slowly then does not always favour the same one */
            struct run *run = &bench->runs[round % 2 ? bench->count - 1 - i : i];
            if (isatty(STDERR_FILENO))
                fprintf(stderr, "\rround %d of %d: %-24s", round + 1, bench->rounds, run->name);
            run_once(bench, run, round);
        }
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%50s\r", "");
}

/* --- what is run --- */

static void add_run(struct bench *bench, const char *name, const char *path, const char *args,
                    int depth, int idle)
{
    if (bench->count == MAX_RUNS)
        return;
    struct run *run = &bench->runs[bench->count++];
    *run = (struct run){.args = args, .plan = {depth, idle, bench->seconds}};
    snprintf(run->name, sizeof run->name, "%s", name);
    snprintf(run->path, sizeof run->path, "%s", path);
}

/* Without idle connections, with a few, and with many. */
static void add_server(struct bench *bench, const char *name, const char *path, const char *args,
                       int depth, bool holds_many)
{
    add_run(bench, name, path, args, depth, 0);
    if (bench->idle > FEW_IDLE)
        add_run(bench, name, path, args, depth, FEW_IDLE);
    if (bench->idle > FEW_IDLE && holds_many)
        add_run(bench, name, path, args, depth, bench->idle);
}

static void add_chapter(struct bench *bench, const char *name, bool holds_many)
{
    char path[64];
    snprintf(path, sizeof path, "%s/server", name);
    add_server(bench, name, path, NULL, ECHO, holds_many);
}

/* The floors and uv_echo lie beside this program. */
static void add_peer(struct bench *bench, const char *name, const char *file, const char *args,
                     int depth)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", bench->folder, file);
    if (access(path, X_OK) == 0)
        add_run(bench, name, path, args, depth, 0);
    else
        printf("%s is skipped: there is no %s (libuv1-dev is not installed)\n", name, path);
}

/* A further server, from the command line: "path" or "path argument...". */
static void add_other(struct bench *bench, char *command)
{
    const char *name = strlen(command) < 22 ? command : command + strlen(command) - 22;
    char *args = strchr(command, ' ');
    char full[32];
    snprintf(full, sizeof full, "%s", name);
    if (args)
        *args++ = '\0';
    add_run(bench, full, command, args, ECHO, 0);
}

static void add_echo_servers(struct bench *bench, char **others)
{
    add_chapter(bench, "02-nonblocking-polling", true);
    add_chapter(bench, "03-select", false);
    add_chapter(bench, "04-poll", true);
    add_peer(bench, LIBUV, "uv_echo", NULL, ECHO);
    add_peer(bench, LIBUV_KEPT, "uv_echo", "--keep", ECHO);
    add_peer(bench, FLOOR, "floor", NULL, ECHO);
    add_chapter(bench, EPOLL, true);
    add_run(bench, "05-epoll --edge", "05-epoll/server", "--edge", ECHO, 0);
    add_chapter(bench, "06-kqueue", true);
    for (; *others; others++)
        add_other(bench, *others);
}

/* The same answer, from the loop and by way of the thread pool. */
static void add_pool(struct bench *bench)
{
    add_run(bench, ON_LOOP, "08-threadpool/server", NULL, ONE, 0);
    add_run(bench, IN_POOL, "08-threadpool/server", NULL, ONE, 0);
    if (bench->count > 0)
        bench->runs[bench->count - 1].plan.pooled = true;
}

static void add_http_servers(struct bench *bench)
{
    const char *server = "07-event-loop/server", *nginx = nginx_path();
    if (!nginx)
        puts("nginx is skipped: it is not installed (Debian: nginx-light)");
    const int depths[] = {PIPELINED, ONE};
    for (int i = 0; i < 2; i++) {
        if (nginx)
            add_run(bench, NGINX, nginx, NULL, depths[i], 0);
        add_peer(bench, HTTP_FLOOR, "http_floor", NULL, depths[i]);
        if (depths[i] == PIPELINED)
            add_run(bench, HTTP, server, "--backend epoll", depths[i], 0);
    }
    for (int i = 0; i < BACKEND_COUNT; i++) /* the last one is select() */
        add_server(bench, BACKENDS[i], server, strchr(BACKENDS[i], '-'), ONE,
                   i < BACKEND_COUNT - 1);
    add_pool(bench);
}

/* --- the tables --- */

/* 1234567.8 as "1,234,568", in text; "failed" for NAN. Returns text. */
static const char *grouped(double number, char text[static 32])
{
    if (isnan(number))
        return "failed";
    char digits[24];
    snprintf(digits, sizeof digits, "%.0f", number);
    size_t length = strlen(digits), out = 0;
    for (size_t i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            text[out++] = ',';
        text[out++] = digits[i];
    }
    text[out] = '\0';
    return text;
}

static void print_server_row(const struct bench *bench, const struct run *run,
                             const struct run *base)
{
    char rate[32], cpu[32];
    printf("%-22s %11s", run->name, grouped(median_of(bench, run, RATE), rate));
    if (isnan(median_of(bench, run, RATE))) { /* not one round went well */
        putchar('\n');
        return;
    }
    struct spread ratio = ratio_of(bench, CPU, run, base);
    printf(" %10s  %5.2f (%.2f..%.2f) %6.0f %6.0f\n", grouped(median_of(bench, run, CPU), cpu),
           ratio.median, ratio.min, ratio.max, median_of(bench, run, HALF) * 1e6,
           median_of(bench, run, MOST) * 1e6);
}

static void print_servers(struct bench *bench, const char *base_name, int depth)
{
    bool echo = depth == ECHO;
    printf("                          %s     CPU ns   as multiple of a  %s, us\n",
           echo ? "messages" : "requests", echo ? "echo back" : "  answers");
    printf("                        per second  a %s    bare epoll loop   half   99 %%\n",
           echo ? "message" : "request");
    const struct run *base = find_run(bench, base_name, depth, 0);
    for (int i = 0; i < bench->count; i++)
        if (bench->runs[i].plan.depth == depth && bench->runs[i].plan.idle == 0)
            print_server_row(bench, &bench->runs[i], base);
}

/* One server's row: CPU per message with none, a few and many idle connections, and what one of
 * the many takes of the server's own memory. */
static void print_idle_row(struct bench *bench, const char *name, int depth)
{
    const int idle[] = {0, FEW_IDLE, bench->idle};
    struct run *base = find_run(bench, name, depth, 0), *run = NULL;
    char text[32];
    printf("%-22s", name);
    for (int i = 0; i < 3; i++) {
        run = find_run(bench, name, depth, idle[i]);
        printf(" %9s", run ? grouped(median_of(bench, run, CPU), text) : "limit");
    }
    for (int i = 1; i < 3; i++) {
        run = find_run(bench, name, depth, idle[i]);
        double ratio = ratio_of(bench, CPU, run, base).median;
        if (isnan(ratio))
            printf(" %9s", run ? "failed" : "limit");
        else
            printf(" %7.2f x", ratio);
    }
    printf(" %7s\n", run ? grouped(median_of(bench, run, MEMORY), text) : "limit");
}

static void print_idle_head(const struct bench *bench, const char *message)
{
    char many[32];
    grouped(bench->idle, many);
    printf("\nThe same with idle connections beside the %d: CPU time a %s, in ns,\n"
           "and bytes of the server's own memory for each of the %s\n\n",
           ACTIVE, message, many);
    printf("%-22s %9s %9d %9s %9d %9s %7s\n", "idle connections", "none", FEW_IDLE, many, FEW_IDLE,
           many, "bytes");
}

static void print_echo(struct bench *bench)
{
    printf("\n%d connections, one %d-byte message in flight on each\n\n", ACTIVE, MESSAGE);
    print_servers(bench, FLOOR, ECHO);
    puts("06-kqueue: Linux has none, so here it is made of epoll");
    if (bench->idle <= FEW_IDLE)
        return;
    print_idle_head(bench, "message");
    print_idle_row(bench, "02-nonblocking-polling", ECHO);
    print_idle_row(bench, "03-select", ECHO);
    print_idle_row(bench, "04-poll", ECHO);
    print_idle_row(bench, EPOLL, ECHO);
    print_idle_row(bench, "06-kqueue", ECHO);
}

/* Answers of different lengths would not be the same work. */
static void print_answers(struct bench *bench)
{
    const char *const names[] = {HTTP, HTTP_FLOOR, NGINX};
    printf("Bytes of an answer: ");
    for (int i = 0; i < 3; i++) {
        const struct run *run = find_run(bench, names[i], ONE, 0);
        if (run)
            printf("%s%s %.0f", i ? "; " : "", names[i], median_of(bench, run, ANSWER));
    }
    putchar('\n');
}

static void print_http(struct bench *bench)
{
    printf("\n%d connections, one GET /health in flight on each\n\n", ACTIVE);
    print_servers(bench, HTTP_FLOOR, ONE);
    printf("\n%d connections, %d pipelined GET /health in flight on each\n\n", ACTIVE, PIPELINED);
    print_servers(bench, HTTP_FLOOR, PIPELINED);
    print_answers(bench);
    if (bench->idle <= FEW_IDLE)
        return;
    print_idle_head(bench, "request");
    for (int i = 0; i < BACKEND_COUNT; i++)
        print_idle_row(bench, BACKENDS[i], ONE);
}

/* --- the targets --- */

static void print_verdict(const char *what, double measured, const char *unit, bool met)
{
    const char *verdict = isnan(measured) ? "not measured" : met ? "met" : "missed";
    printf("  %-52s %6.2f %-5s  %s\n", what, measured, unit, verdict);
}

/* At most so many times the CPU time of the base. Without one, as it was skipped: nothing. */
static void print_target(const struct bench *bench, const char *what, double limit,
                         const struct run *run, const struct run *base)
{
    double times = ratio_of(bench, CPU, run, base).median;
    if (run && base)
        print_verdict(what, times, "x", times <= limit);
}

static void print_idle_target(struct bench *bench, const char *name, const char *chapter, int depth)
{
    char what[64], many[32];
    snprintf(what, sizeof what, "%s, %s idle: at most 1.15 x none idle", chapter,
             grouped(bench->idle, many));
    if (bench->idle > FEW_IDLE)
        print_target(bench, what, 1.15, find_run(bench, name, depth, bench->idle),
                     find_run(bench, name, depth, 0));
}

static void print_echo_targets(struct bench *bench)
{
    const struct run *epoll = find_run(bench, EPOLL, ECHO, 0);
    print_target(bench, "05-epoll at most 1.10 x the bare epoll loop", 1.10, epoll,
                 find_run(bench, FLOOR, ECHO, 0));
    print_target(bench, "05-epoll at most 0.75 x libuv, as its guide has it", 0.75, epoll,
                 find_run(bench, LIBUV, ECHO, 0));
    print_target(bench, "05-epoll at most 1.00 x libuv with its buffers kept", 1.00, epoll,
                 find_run(bench, LIBUV_KEPT, ECHO, 0));
    print_idle_target(bench, EPOLL, "05-epoll", ECHO);
}

static void print_http_targets(struct bench *bench)
{
    const struct run *one = find_run(bench, HTTP, ONE, 0);
    const struct run *idle = find_run(bench, HTTP, ONE, bench->idle);
    const struct run *nginx = find_run(bench, NGINX, PIPELINED, 0);
    print_target(bench, "07 at most 1.15 x the bare epoll loop", 1.15, one,
                 find_run(bench, HTTP_FLOOR, ONE, 0));
    print_target(bench, "07 at most 1.00 x nginx", 1.00, one, find_run(bench, NGINX, ONE, 0));
    if (nginx) {
        double times = ratio_of(bench, RATE, find_run(bench, HTTP, PIPELINED, 0), nginx).median;
        print_verdict("07, pipelined: at least 3 x nginx's requests/s", times, "x", times >= 3);
    }
    print_target(bench, "08: through the pool at most 3 x from the loop", 3,
                 find_run(bench, IN_POOL, ONE, 0), find_run(bench, ON_LOOP, ONE, 0));
    print_idle_target(bench, HTTP, "07", ONE);
    if (idle && bench->idle > FEW_IDLE) {
        double bytes = median_of(bench, idle, MEMORY);
        print_verdict("07: at most 512 bytes an idle connection", bytes, "bytes", bytes <= 512);
    }
}

/* --- the start --- */

static _Noreturn void usage(const char *wrong)
{
    if (wrong)
        fprintf(stderr, "bench: wrong argument '%s'; ", wrong);
    fputs("usage: bench [--rounds N] [--seconds S] [--idle N] [--only WHAT] [--help] [SERVER...]\n"
          "  N rounds of S seconds a server: 1..99 (default 7), 0.01..60 (default 0.2);\n"
          "  idle connections: 0..1000000 (default 10000);\n"
          "  WHAT: echo or http (default: both);\n"
          "  further echo servers to measure: \"PATH [ARGUMENT...]\"\n",
          wrong ? stderr : stdout);
    exit(wrong ? 2 : 0);
}

static double number(const char *text, double min, double max)
{
    char *end = NULL;
    double value = text ? strtod(text, &end) : NAN;
    if (!text || end == text || *end || !(value >= min && value <= max))
        usage(text ? text : "(nothing)");
    return value;
}

static const char *half(const char *text)
{
    if (!text || (strcmp(text, "echo") != 0 && strcmp(text, "http") != 0))
        usage(text ? text : "(nothing)");
    return text;
}

static bool wanted(const struct bench *bench, const char *name)
{
    return !bench->only || strcmp(bench->only, name) == 0;
}

/* Reads the options; what is left are further servers, from *argv on. */
static void read_arguments(struct bench *bench, char ***argv)
{
    for (++*argv; **argv && strncmp(**argv, "--", 2) == 0; ++*argv) {
        const char *name = **argv;
        if (strcmp(name, "--help") == 0)
            usage(NULL);
        else if (strcmp(name, "--rounds") == 0)
            bench->rounds = (int)number(*++*argv, 1, MAX_ROUNDS);
        else if (strcmp(name, "--seconds") == 0)
            bench->seconds = number(*++*argv, 0.01, 60);
        else if (strcmp(name, "--idle") == 0)
            bench->idle = (int)number(*++*argv, 0, 1000000);
        else if (strcmp(name, "--only") == 0)
            bench->only = half(*++*argv);
        else
            usage(name);
    }
}

/* Takes the first and the last CPU we may use: neighbours may be two halves of one core. */
static void choose_cpus(struct bench *bench)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    bench->own_cpu = -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, &set)) {
            bench->own_cpu = bench->own_cpu < 0 ? cpu : bench->own_cpu;
            bench->server_cpu = cpu;
        }
    pin(0, bench->own_cpu);
}

static void limit_idle(struct bench *bench)
{
    int limit = raise_descriptor_limit(), most = limit - ACTIVE - SPARE_DESCRIPTORS;
    if (bench->idle > most) {
        bench->idle = most;
        printf("%d descriptors are allowed: %d idle connections at most\n", limit, most);
    }
    if (bench->idle > 0 && bench->idle <= FEW_IDLE)
        puts("no tables of idle connections: they need more than 900");
}

static void print_setting(const struct bench *bench)
{
    struct utsname system;
    uname(&system);
    printf("%s %s, server on CPU %d, load on CPU %d\n", system.sysname, system.release,
           bench->server_cpu, bench->own_cpu);
    printf("medians of %d round%s of %g s a server\n", bench->rounds, bench->rounds == 1 ? "" : "s",
           bench->seconds);
    if (bench->server_cpu == bench->own_cpu)
        puts("there is only one CPU: server and load take turns on it");
    fflush(stdout);
}

static void find_folder(struct bench *bench, const char *own_path)
{
    const char *slash = strrchr(own_path, '/');
    snprintf(bench->folder, sizeof bench->folder, "%.*s", slash ? (int)(slash - own_path) : 1,
             slash ? own_path : ".");
}

int main(int argc, char **argv)
{
    static struct bench bench = {.rounds = 7, .seconds = 0.2, .idle = MANY_IDLE};
    find_folder(&bench, argc > 0 ? argv[0] : "");
    read_arguments(&bench, &argv);
    limit_idle(&bench);
    choose_cpus(&bench);
    print_setting(&bench);
    if (wanted(&bench, "echo"))
        add_echo_servers(&bench, argv);
    if (wanted(&bench, "http"))
        add_http_servers(&bench);
    run_all(&bench);
    if (wanted(&bench, "echo"))
        print_echo(&bench);
    if (wanted(&bench, "http"))
        print_http(&bench);
    puts("\nTargets, CPU time a message or request, median of the rounds' ratios:");
    print_echo_targets(&bench);
    print_http_targets(&bench);
    return bench.failed ? 1 : 0;
}
