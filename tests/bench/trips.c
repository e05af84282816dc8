/*
 * What does a trip cost? Jobs that do nothing go to a pool and come back, 50 of them under way at
 * any time: through our pool of threads (08), libuv's, our pool of processes (09), and Python's.
 *
 * Every measurement is a process of its own, whose CPU time includes that of all it started. It is
 * taken for a few trips and for many; the difference is what the trips cost, without the start-up.
 * As in bench.c, a ratio compares two pools within one round, and medians over the rounds count.
 */
#include "../../08-threadpool/threadpool.h"
#include "../../09-cpu-offload/procpool.h"
#include "../harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#if __has_include(<uv.h>)
#include <uv.h>
#endif

enum { UNDER_WAY = 50, THREADS = 40, WORKERS = 2 };
enum { FEW = 2000, MANY = 42000, MAX_ROUNDS = 25 };

static int left, under_way; /* jobs that have to be sent, and that have not come back */
static struct loop *loop;

/* --- 08: threads --- */

static struct threadpool *threads;
static struct job jobs[UNDER_WAY];

static void nothing(void *arg)
{
    (void)arg;
}

static void thread_job_done(void *arg, bool ran)
{
    (void)ran;
    under_way--;
    if (left > 0 && threadpool_submit(threads, arg)) {
        left--;
        under_way++;
    } else if (under_way == 0) {
        loop_stop(loop);
    }
}

static void run_threads(void)
{
    threads = threadpool_new(loop, THREADS, UNDER_WAY);
    for (int i = 0; i < UNDER_WAY; i++) {
        jobs[i] = (struct job){.work = nothing, .done = thread_job_done, .arg = &jobs[i]};
        left--;
        under_way += threadpool_submit(threads, &jobs[i]);
    }
    loop_run(loop);
    threadpool_free(threads, false);
}

/* --- 09: processes --- */

static struct procpool *workers;
static struct procjob procjobs[UNDER_WAY];

static size_t no_work(const void *input, size_t length, void *output)
{
    (void)input;
    (void)output;
    return length;
}

static void process_job_done(void *arg, enum procjob_end end, const void *output, size_t length)
{
    (void)end;
    (void)output;
    (void)length;
    under_way--;
    if (left > 0 && procpool_submit(workers, arg)) {
        left--;
        under_way++;
    } else if (under_way == 0) {
        loop_stop(loop);
    }
}

static void run_processes(void)
{
    static const struct procpool_options options = {
        .workers = WORKERS, .queue_max = UNDER_WAY, .timeout_ms = 10000};
    workers = procpool_new(loop, &options);
    for (int i = 0; i < UNDER_WAY; i++) {
        procjobs[i] = (struct procjob){
            .input = "", .length = 0, .done = process_job_done, .arg = &procjobs[i]};
        left--;
        under_way += procpool_submit(workers, &procjobs[i]);
    }
    loop_run(loop);
    procpool_free(workers);
}

/* --- libuv and Python --- */

#if __has_include(<uv.h>)
static uv_work_t uv_jobs[UNDER_WAY];

static void uv_nothing(uv_work_t *job)
{
    (void)job;
}

static void uv_job_done(uv_work_t *job, int status)
{
    (void)status;
    if (left > 0) {
        left--;
        uv_queue_work(uv_default_loop(), job, uv_nothing, uv_job_done);
    }
}

static void run_libuv(void)
{
    setenv("UV_THREADPOOL_SIZE", "40", 1);
    for (int i = 0; i < UNDER_WAY; i++) {
        left--;
        uv_queue_work(uv_default_loop(), &uv_jobs[i], uv_nothing, uv_job_done);
    }
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
#else
#define run_libuv NULL
#endif

static void run_python(void)
{
    char count[16];
    snprintf(count, sizeof count, "%d", left);
    execlp("python3", "python3", "-c",
           "import sys\n"
           "from concurrent.futures import ProcessPoolExecutor\n"
           "if __name__ == '__main__':\n"
           "    with ProcessPoolExecutor(2) as pool:\n"
           "        for _ in pool.map(abs, range(int(sys.argv[1]))):\n"
           "            pass\n",
           count, (char *)NULL);
    _exit(127);
}

/* --- measuring --- */

static struct pool {
    const char *name;
    void (*run)(void); /* sends `left` jobs; NULL: not on this system */
    int share;         /* does so many times fewer: it is that much slower */
    double cpu[MAX_ROUNDS], clock[MAX_ROUNDS];
} pools[] = {
    {"08: 40 threads", run_threads, 1, {0}, {0}},
    {"libuv: 40 threads", run_libuv, 1, {0}, {0}},
    {"09: 2 processes", run_processes, 1, {0}, {0}},
    {"Python: 2 processes", run_python, 4, {0}, {0}},
};
enum { POOLS = sizeof pools / sizeof pools[0] };

struct cost {
    double cpu, clock; /* seconds */
};

/* Returns false if it could not be done. */
static bool measure(const struct pool *pool, int count, struct cost *cost)
{
    struct rusage used;
    int status;
    double start = now();
    pid_t pid = fork();
    if (pid == 0) {
        left = count;
        if (pool->run == run_python)
            run_python();
        loop = loop_new(NULL);
        pool->run();
        _exit(0);
    }
    if (pid < 0 || wait4(pid, &status, 0, &used) < 0)
        return false;
    cost->clock = now() - start;
    cost->cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool measure_trips(struct pool *pool, int round)
{
    struct cost few, many;
    int trips = (MANY - FEW) / pool->share;
    if (!measure(pool, FEW / pool->share, &few) || !measure(pool, MANY / pool->share, &many))
        return false;
    pool->cpu[round] = (many.cpu - few.cpu) / trips;
    pool->clock[round] = (many.clock - few.clock) / trips;
    return true;
}

static int ascending(const void *a, const void *b)
{
    double left_one = *(const double *)a, right_one = *(const double *)b;
    return (left_one > right_one) - (left_one < right_one);
}

static double median(const double values[], int count)
{
    double sorted[MAX_ROUNDS];
    memcpy(sorted, values, (size_t)count * sizeof sorted[0]);
    qsort(sorted, (size_t)count, sizeof sorted[0], ascending);
    return sorted[count / 2];
}

static double median_ratio(const double over[], const double under[], int count)
{
    double ratios[MAX_ROUNDS];
    for (int i = 0; i < count; i++)
        ratios[i] = over[i] / under[i];
    return median(ratios, count);
}

int main(int argc, char **argv)
{
    helper_main(argv, no_work);
    int rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 5;
    if (rounds < 1 || rounds > MAX_ROUNDS) {
        fprintf(stderr, "trips [ROUNDS], 1..%d\n", MAX_ROUNDS);
        return 2;
    }
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < POOLS; i++)
            if (pools[i].run && !measure_trips(&pools[i], round)) {
                printf("%s: left out, it does not run here\n", pools[i].name);
                pools[i].run = NULL;
            }
    printf("\nA trip of a job that does nothing, %d under way: medians of %d rounds\n\n"
           "pool                       CPU     trips/s\n",
           UNDER_WAY, rounds);
    for (int i = 0; i < POOLS; i++)
        if (pools[i].run)
            printf("%-22s %5.1f us %11.0f\n", pools[i].name, median(pools[i].cpu, rounds) * 1e6,
                   1 / median(pools[i].clock, rounds));
    if (pools[1].run)
        printf("\n08 costs %.2f x libuv's CPU (at most 1.00 wanted)\n",
               median_ratio(pools[0].cpu, pools[1].cpu, rounds));
    printf("09 costs %.1f us of CPU a trip (at most 60 wanted)\n",
           median(pools[2].cpu, rounds) * 1e6);
    if (pools[3].run)
        printf("09 does %.1f x Python's trips/s (at least 5 wanted)\n",
               median_ratio(pools[3].clock, pools[2].clock, rounds));
    return 0;
}
