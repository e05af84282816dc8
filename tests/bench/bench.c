/*
 * What does a message cost? Puts the same load on the echo servers, one after the other, and takes
 * the CPU time that each used for it.
 *
 * The load: 50 connections with one 64-byte message in flight on each, from one epoll loop in this
 * program. It has a CPU to itself and the server has another. Beside them may be idle connections.
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
#include "../harness.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { ACTIVE = 50, MESSAGE = 64 };
enum { FEW_IDLE = 900, MANY_IDLE = 10000 }; /* 900: select() holds less than 1,024 */
enum { MAX_ROUNDS = 99, MAX_RUNS = 32 };
enum { ENOUGH = 40 * ACTIVE }; /* echoes: beside these, the 50 in flight at the ends do not count */
enum { SPARE_DESCRIPTORS = 32 }; /* standard streams, pipes, listener, epoll */
enum { STEPS = 64, TWICE_STEPS = 2 * STEPS, BUCKETS = 40 * STEPS };
static const double GIVE_UP = 20; /* seconds */

/* --- figures --- */

/* What is measured: messages/s, ns of the server's CPU time per message, and the time until an echo
 * is back, in seconds, that half or 99 % of the messages did not exceed. */
enum figure { RATE, CPU, HALF, MOST, FIGURES };

/* A server with so many idle connections: measured once a round. */
struct run {
    char name[32], path[512];
    const char *args;
    int idle;
    double figures[FIGURES][MAX_ROUNDS]; /* NAN where it failed */
};

struct bench {
    struct run runs[MAX_RUNS];
    int count, rounds, idle;
    double seconds;
    int own_cpu, server_cpu; /* the same one if there is only one */
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

/* How many times as much CPU a message costs in one run as in another of the same round. */
static struct spread cost_ratio(const struct bench *bench, const struct run *run,
                                const struct run *base)
{
    double ratios[MAX_ROUNDS];
    for (int i = 0; i < bench->rounds; i++)
        ratios[i] = run && base ? run->figures[CPU][i] / base->figures[CPU][i] : NAN;
    return spread_of(ratios, bench->rounds);
}

static struct run *find_run(struct bench *bench, const char *name, int idle)
{
    for (int i = 0; i < bench->count; i++)
        if (strcmp(bench->runs[i].name, name) == 0 && bench->runs[i].idle == idle)
            return &bench->runs[i];
    return NULL;
}

/* --- latencies: counted in buckets 1.6 % wide, so that a long run takes no more memory --- */

struct histogram {
    uint64_t count, buckets[BUCKETS];
};

/* Up to TWICE_STEPS each number has a bucket; from there on, STEPS for each doubling. */
static void histogram_add(struct histogram *histogram, double seconds)
{
    uint64_t value = (uint64_t)(seconds * 1e9), shift = 0;
    while (value >> shift >= TWICE_STEPS)
        shift++;
    uint64_t bucket = shift * STEPS + (value >> shift);
    histogram->buckets[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    histogram->count++;
}

/* The value that this share of all values does not exceed. */
static double histogram_quantile(const struct histogram *histogram, double share)
{
    double rank = share * (double)histogram->count, seen = 0;
    uint64_t bucket = 0;
    while (bucket < BUCKETS - 1 && (seen += (double)histogram->buckets[bucket]) < rank)
        bucket++;
    uint64_t shift = bucket < TWICE_STEPS ? 0 : bucket / STEPS - 1;
    return (double)((bucket - shift * STEPS) << shift) / 1e9;
}

/* --- the load --- */

struct connection {
    int fd;
    double sent_at;
    size_t got;
    char message[MESSAGE], back[MESSAGE + 1]; /* one more: to notice bytes that nobody sent */
};

struct load {
    int epoll;
    struct connection active[ACTIVE];
    int *idle, idle_count;
    bool sending; /* answer each echo with the next message */
    int in_flight;
    uint64_t sent, echoed;
    struct histogram latencies;
    const char *error; /* NULL as long as all is well */
};

static bool load_fail(struct load *load, const char *error)
{
    load->error = error;
    return false;
}

static bool send_message(struct load *load, struct connection *connection)
{
    load->sent++; /* the number makes each message differ from all before it */
    memcpy(connection->message, &load->sent, sizeof load->sent);
    connection->got = 0;
    connection->sent_at = now();
    if (!client_send(connection->fd, connection->message, MESSAGE))
        return load_fail(load, "cannot send");
    load->in_flight++;
    return true;
}

static bool receive_echo(struct load *load, struct connection *connection)
{
    ssize_t n = recv(connection->fd, connection->back + connection->got,
                     sizeof connection->back - connection->got, 0);
    if (n <= 0)
        return load_fail(load, "the server closed a connection");
    connection->got += (size_t)n;
    size_t length = connection->got;
    if (length > MESSAGE || memcmp(connection->back, connection->message, length) != 0)
        return load_fail(load, "the echo is not what was sent");
    if (length < MESSAGE)
        return true;
    histogram_add(&load->latencies, now() - connection->sent_at);
    load->echoed++;
    load->in_flight--;
    return !load->sending || send_message(load, connection);
}

/* Keeps messages going to and fro until that time, or until none is in flight any more. */
static bool exchange_until(struct load *load, double end)
{
    for (double left; load->in_flight > 0 && (left = end - now()) > 0;) {
        struct epoll_event events[ACTIVE];
        int ready = epoll_wait(load->epoll, events, ACTIVE, (int)(left * 1000) + 1);
        if (ready < 0 && errno != EINTR)
            return load_fail(load, "epoll_wait failed");
        for (int i = 0; i < ready; i++)
            if (!receive_echo(load, events[i].data.ptr))
                return false;
    }
    return true;
}

static bool load_connect(struct load *load, int port, int idle)
{
    load->idle = calloc((size_t)idle + 1, sizeof *load->idle);
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!load->idle || load->epoll < 0)
        return load_fail(load, "no memory or descriptor for the load");
    while (load->idle_count < idle) {
        int fd = client_connect(port);
        if (fd < 0)
            return load_fail(load, "cannot connect");
        load->idle[load->idle_count++] = fd;
    }
    for (int i = 0; i < ACTIVE; i++) {
        struct connection *connection = &load->active[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        memset(connection->message, 'a' + i % 26, MESSAGE);
        connection->fd = client_connect(port);
        if (connection->fd < 0 || epoll_ctl(load->epoll, EPOLL_CTL_ADD, connection->fd, &event) < 0)
            return load_fail(load, "cannot connect");
    }
    return true;
}

/* Resets all connections: thousands of ports in TIME_WAIT would be in the way of the next run. */
static void load_close(struct load *load)
{
    for (int i = 0; i < load->idle_count; i++)
        client_reset(load->idle[i]);
    for (int i = 0; i < ACTIVE; i++)
        if (load->active[i].fd >= 0)
            client_reset(load->active[i].fd);
    if (load->epoll >= 0)
        close(load->epoll);
    free(load->idle);
}

/* Has the load go on for that long and takes the figures. Longer if other programs left no CPU to
 * us: a share of a handful of echoes would say nothing. */
static bool load_measure(struct load *load, pid_t pid, double seconds, double figures[FIGURES])
{
    load->echoed = 0;
    load->latencies = (struct histogram){0};
    double start = now(), cpu_before = process_cpu(pid);
    do
        if (!exchange_until(load, now() + seconds))
            return false;
    while (load->echoed < ENOUGH && now() < start + GIVE_UP);
    double cpu = process_cpu(pid) - cpu_before, took = now() - start;
    if (load->echoed == 0)
        return load_fail(load, "no echo came back");
    figures[RATE] = (double)load->echoed / took;
    figures[CPU] = cpu * 1e9 / (double)load->echoed;
    figures[HALF] = histogram_quantile(&load->latencies, 0.50);
    figures[MOST] = histogram_quantile(&load->latencies, 0.99);
    return true;
}

static bool send_to_all(struct load *load)
{
    for (int i = 0; i < ACTIVE; i++)
        if (!send_message(load, &load->active[i]))
            return false;
    return true;
}

/* Waits for what is in flight, without sending more. */
static bool load_drain(struct load *load)
{
    load->sending = false;
    if (!exchange_until(load, now() + GIVE_UP))
        return false;
    return load->in_flight == 0 || load_fail(load, "echoes do not come back");
}

/* One echo for everybody: as the active connections were the last to knock, all are accepted then.
 * After that the server warms up and is measured. */
static bool load_run(struct load *load, pid_t pid, double seconds, double figures[FIGURES])
{
    if (!send_to_all(load) || !load_drain(load))
        return false;
    if (process_descriptors(pid) < ACTIVE + load->idle_count)
        return load_fail(load, "the server does not hold all connections");
    load->sending = true;
    return send_to_all(load) && exchange_until(load, now() + seconds / 5) &&
           load_measure(load, pid, seconds, figures) && load_drain(load);
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
    fprintf(stderr, "bench: %s with %d idle: %s; exit status %d %s\n", run->name, run->idle, why,
            server->status, server->errors);
    bench->failed = true;
}

static void run_once(struct bench *bench, struct run *run, int round)
{
    static struct load load; /* its histogram is large for a stack */
    double figures[FIGURES] = {0};
    load = (struct load){.epoll = -1};
    for (int i = 0; i < ACTIVE; i++)
        load.active[i].fd = -1;
    struct process server = server_start(run->path, run->args, 0);
    pin(server.pid, bench->server_cpu);
    bool ok = load_connect(&load, server.port, run->idle) &&
              load_run(&load, server.pid, bench->seconds, figures);
    load_close(&load);
    int status = process_end(&server, SIGTERM);
    if (!ok || status != 0)
        run_failed(bench, run, ok ? "ended badly" : load.error, &server);
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

static const char *const FLOOR = "bare epoll loop";
static const char *const LIBUV = "libuv's guide", *const LIBUV_KEPT = "libuv, buffers kept";
static const char *const EPOLL = "05-epoll";

static void add_run(struct bench *bench, const char *name, const char *path, const char *args,
                    int idle)
{
    if (bench->count == MAX_RUNS)
        return;
    struct run *run = &bench->runs[bench->count++];
    *run = (struct run){.args = args, .idle = idle};
    snprintf(run->name, sizeof run->name, "%s", name);
    snprintf(run->path, sizeof run->path, "%s", path);
}

static void add_chapter(struct bench *bench, const char *name, bool holds_many)
{
    char path[64];
    snprintf(path, sizeof path, "%s/server", name);
    add_run(bench, name, path, NULL, 0);
    if (bench->idle > FEW_IDLE)
        add_run(bench, name, path, NULL, FEW_IDLE);
    if (bench->idle > FEW_IDLE && holds_many)
        add_run(bench, name, path, NULL, bench->idle);
}

/* floor and uv_echo lie beside this program. */
static void add_peer(struct bench *bench, const char *name, const char *own_path, const char *file,
                     const char *args)
{
    const char *slash = strrchr(own_path, '/');
    char path[512];
    snprintf(path, sizeof path, "%.*s/%s", slash ? (int)(slash - own_path) : 1,
             slash ? own_path : ".", file);
    if (access(path, X_OK) == 0)
        add_run(bench, name, path, args, 0);
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
    add_run(bench, full, command, args, 0);
}

static void add_runs(struct bench *bench, const char *own_path, char **others)
{
    add_chapter(bench, "02-nonblocking-polling", true);
    add_chapter(bench, "03-select", false);
    add_chapter(bench, "04-poll", true);
    add_peer(bench, LIBUV, own_path, "uv_echo", NULL);
    add_peer(bench, LIBUV_KEPT, own_path, "uv_echo", "--keep");
    add_peer(bench, FLOOR, own_path, "floor", NULL);
    add_chapter(bench, EPOLL, true);
    add_run(bench, "05-epoll --edge", "05-epoll/server", "--edge", 0);
    for (; *others; others++)
        add_other(bench, *others);
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
    struct spread ratio = cost_ratio(bench, run, base);
    printf(" %10s  %5.2f (%.2f..%.2f) %6.0f %6.0f\n", grouped(median_of(bench, run, CPU), cpu),
           ratio.median, ratio.min, ratio.max, median_of(bench, run, HALF) * 1e6,
           median_of(bench, run, MOST) * 1e6);
}

static void print_servers(struct bench *bench)
{
    printf("\n%d connections, one %d-byte message in flight on each\n\n", ACTIVE, MESSAGE);
    puts("                          messages     CPU ns   as multiple of a  echo back, us");
    puts("                        per second  a message    bare epoll loop   half   99 %");
    const struct run *base = find_run(bench, FLOOR, 0);
    for (int i = 0; i < bench->count; i++)
        if (bench->runs[i].idle == 0)
            print_server_row(bench, &bench->runs[i], base);
}

/* One server's row: CPU per message with none, a few and many idle connections. */
static void print_idle_row(struct bench *bench, const char *name)
{
    const int idle[] = {0, FEW_IDLE, bench->idle};
    struct run *base = find_run(bench, name, 0);
    printf("%-22s", name);
    for (int i = 0; i < 3; i++) {
        struct run *run = find_run(bench, name, idle[i]);
        char cpu[32];
        printf(" %10s", run ? grouped(median_of(bench, run, CPU), cpu) : "limit");
    }
    for (int i = 1; i < 3; i++) {
        struct run *run = find_run(bench, name, idle[i]);
        double ratio = cost_ratio(bench, run, base).median;
        if (isnan(ratio))
            printf(" %10s", run ? "failed" : "limit");
        else
            printf(" %8.2f x", ratio);
    }
    putchar('\n');
}

static void print_idle(struct bench *bench)
{
    char many[32];
    grouped(bench->idle, many);
    printf("\nThe same with idle connections beside the %d: CPU time a message, in ns\n\n", ACTIVE);
    printf("%-22s %10s %10d %10s %10d %10s\n", "idle connections", "none", FEW_IDLE, many, FEW_IDLE,
           many);
    print_idle_row(bench, "02-nonblocking-polling");
    print_idle_row(bench, "03-select");
    print_idle_row(bench, "04-poll");
    print_idle_row(bench, EPOLL);
}

static void print_target(const char *what, double limit, double measured)
{
    const char *verdict = isnan(measured) ? "not measured" : measured <= limit ? "met" : "missed";
    printf("  %-52s %5.2f x  %s\n", what, measured, verdict);
}

static void print_targets(struct bench *bench)
{
    const struct run *epoll = find_run(bench, EPOLL, 0);
    char idle_target[64], many[32];
    snprintf(idle_target, sizeof idle_target, "05-epoll, %s idle: at most 1.15 x none idle",
             grouped(bench->idle, many));
    puts("\nTargets, CPU time a message, median of the rounds' ratios:");
    print_target("05-epoll at most 1.10 x the bare epoll loop", 1.10,
                 cost_ratio(bench, epoll, find_run(bench, FLOOR, 0)).median);
    if (find_run(bench, LIBUV, 0))
        print_target("05-epoll at most 0.75 x libuv, as its guide has it", 0.75,
                     cost_ratio(bench, epoll, find_run(bench, LIBUV, 0)).median);
    if (find_run(bench, LIBUV_KEPT, 0))
        print_target("05-epoll at most 1.00 x libuv with its buffers kept", 1.00,
                     cost_ratio(bench, epoll, find_run(bench, LIBUV_KEPT, 0)).median);
    if (bench->idle > FEW_IDLE)
        print_target(idle_target, 1.15,
                     cost_ratio(bench, find_run(bench, EPOLL, bench->idle), epoll).median);
}

/* --- the start --- */

static _Noreturn void usage(const char *wrong)
{
    if (wrong)
        fprintf(stderr, "bench: wrong argument '%s'; ", wrong);
    fputs("usage: bench [--rounds N] [--seconds S] [--idle N] [--help] [SERVER...]\n"
          "  N rounds of S seconds a server: 1..99 (default 7), 0.01..60 (default 0.5);\n"
          "  idle connections: 0..1000000 (default 10000);\n"
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
        puts("the second table is left out: it needs more than 900 idle connections");
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

int main(int argc, char **argv)
{
    static struct bench bench = {.rounds = 7, .seconds = 0.5, .idle = MANY_IDLE};
    const char *own_path = argc > 0 ? argv[0] : "";
    read_arguments(&bench, &argv);
    limit_idle(&bench);
    choose_cpus(&bench);
    print_setting(&bench);
    add_runs(&bench, own_path, argv);
    run_all(&bench);
    print_servers(&bench);
    if (bench.idle > FEW_IDLE)
        print_idle(&bench);
    print_targets(&bench);
    return bench.failed ? 1 : 0;
}
