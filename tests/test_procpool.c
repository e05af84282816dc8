/*
 * What procpool.h promises. A program of its own, for it calls the pool directly. What a worker
 * does depends on the job's input; where a test needs a worker to be busy, its job waits at a gate
 * in memory that all processes share: nothing depends on how long anything takes.
 */
#include "harness.h"
#include "procpool.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

enum { PLENTY = 120 }; /* seconds a test may take on a slow, busy machine */
enum { TASKS_MAX = 5000, WORKERS_MAX = 256 };

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

/* --- what workers do --- */

enum what {
    SQUARE, /* answers number * number */
    REVERSE,
    NOTHING, /* answers no bytes */
    PID,
    SURROUNDINGS,
    PARENT,
    GATE, /* waits there, then as SQUARE */
    NAP,  /* for number ms, then as SQUARE */
    HANG,
    SPIN,
    HANG_DEAF, /* with all signals blocked */
    CRASH_ONCE,
    ABORT,
    SEGV,
    EXIT,
    KILLED,
    GARBAGE,
    FLOOD,
    HALF_FRAME,
    HALF_ANSWER,
    TOO_LONG,
    OTHER_JOB,
    WRONG_MAGIC, /* all but that is right, if it is the pool's first job */
    HANG_UP      /* lives on, without its socket */
};

struct input {
    enum what what;
    int index; /* of the task */
    long long number;
};

/* What a worker finds around itself. */
struct surroundings {
    int sockets, caught, ignored, blocked;
};

/* Shared with the workers: a file, which they have open under this number. */
enum { SHARED_FD = 100 };
static struct {
    atomic_int permits, inside, most, begun;
    atomic_int tries[TASKS_MAX]; /* how often a worker got that task */
} * shared;

static void share_memory(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, SHARED_FD, 0);
    if (shared == MAP_FAILED)
        abort();
}

static void say(const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length > 0) {
        ssize_t n = write(STDIN_FILENO, at, length); /* which is a worker's socket */
        if (n <= 0)
            _exit(1);
        at += n;
        length -= (size_t)n;
    }
}

static _Noreturn void wait_for_ever(void)
{
    for (;;)
        pause();
}

static void pass_gate(void)
{
    int inside = atomic_fetch_add(&shared->inside, 1) + 1;
    for (int most = shared->most; inside > most;)
        if (atomic_compare_exchange_weak(&shared->most, &most, inside))
            break;
    for (int permits = shared->permits;; permits = shared->permits) {
        if (permits > 0 && atomic_compare_exchange_weak(&shared->permits, &permits, permits - 1))
            break;
        sleep_for(0.001);
    }
    atomic_fetch_sub(&shared->inside, 1);
}

static struct surroundings look_around(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGCHLD, SIGPIPE};
    struct surroundings found = {0};
    struct stat what;
    sigset_t mask;
    for (int fd = 0; fd < 1024; fd++)
        found.sockets += fstat(fd, &what) == 0 && S_ISSOCK(what.st_mode);
    sigprocmask(SIG_SETMASK, NULL, &mask);
    for (int i = 0; i < COUNT(numbers); i++) {
        struct sigaction action;
        sigaction(numbers[i], NULL, &action);
        found.ignored += action.sa_handler == SIG_IGN;
        found.caught += action.sa_handler != SIG_IGN && action.sa_handler != SIG_DFL;
        found.blocked += sigismember(&mask, numbers[i]);
    }
    return found;
}

/* In the environment: each worker dies before it has read anything. */
#define STILLBORN "STILLBORN"
static void end_at_birth(void)
{
    _exit(1);
}

/* As a crash, but without a sanitizer's report about it. */
static _Noreturn void die_of(int number)
{
    signal(number, SIG_DFL);
    raise(number);
    _exit(1);
}

static void hang_or_crash(enum what what)
{
    sigset_t all;
    switch (what) {
    case SPIN:
        for (volatile long long i = 0;; i++)
            ;
    case HANG_DEAF:
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        wait_for_ever();
    case HANG_UP:
        close(STDIN_FILENO);
        wait_for_ever();
    case HANG:
        wait_for_ever();
    case ABORT:
        die_of(SIGABRT);
    case SEGV:
        die_of(SIGSEGV);
    case KILLED:
        die_of(SIGKILL);
    case EXIT:
        _exit(0);
    default:
        return;
    }
}

/* Says what it should not, instead of an answer or before it. */
static void talk_nonsense(const struct input *input)
{
    static char flood[1024 * 1024];
    const struct frame half = {FRAME_MAGIC, 100, 1}, longer = {FRAME_MAGIC, FRAME_MAX + 1, 1};
    const struct frame other = {FRAME_MAGIC, 0, 1u << 30};
    const struct frame wrong = {FRAME_MAGIC + 1, 0, (uint64_t)shared->tries[input->index]};
    switch (input->what) {
    case GARBAGE:
        say("HTTP/1.1 200 OK\r\n\r\nnot a frame", 30);
        return;
    case FLOOD:
        say(flood, sizeof flood);
        return;
    case HALF_FRAME:
        say(&half, sizeof half / 2);
        _exit(0);
    case HALF_ANSWER:
        say(&half, sizeof half);
        say("half", 4);
        _exit(0);
    case TOO_LONG:
        say(&longer, sizeof longer);
        wait_for_ever();
    case OTHER_JOB:
        say(&other, sizeof other);
        wait_for_ever();
    case WRONG_MAGIC:
        say(&wrong, sizeof wrong);
        wait_for_ever();
    default:
        return;
    }
}

static size_t work(const void *bytes, size_t length, void *output)
{
    struct input input;
    if (!shared)
        share_memory();
    if (length < sizeof input) /* as long as it is, it is to be sent back reversed */
        input.what = REVERSE;
    else
        memcpy(&input, bytes, sizeof input);
    if (input.what != REVERSE) {
        atomic_fetch_add(&shared->begun, 1);
        if (atomic_fetch_add(&shared->tries[input.index], 1) == 0 && input.what == CRASH_ONCE)
            die_of(SIGSEGV);
    }
    long long answer = input.what == REVERSE ? 0 : input.number * input.number;
    struct surroundings found;
    switch (input.what) {
    case REVERSE:
        for (size_t i = 0; i < length; i++)
            ((char *)output)[i] = ((const char *)bytes)[length - 1 - i];
        return length;
    case NOTHING:
        return 0;
    case PID:
        answer = getpid();
        break;
    case PARENT:
        answer = getppid();
        break;
    case SURROUNDINGS:
        found = look_around();
        memcpy(output, &found, sizeof found);
        return sizeof found;
    case GATE:
        pass_gate();
        break;
    case NAP:
        sleep_for((double)input.number / 1000);
        break;
    default:
        hang_or_crash(input.what);
        talk_nonsense(&input);
    }
    memcpy(output, &answer, sizeof answer);
    return sizeof answer;
}

/* --- the pool under test --- */

static struct loop *loop;
static struct procpool *pool;

/* One job, and what has become of it. */
struct task {
    struct procjob job;
    struct input input;
    int told, place; /* in the order in which they were told */
    enum procjob_end end;
    long long answer;
    size_t length;
};
static struct task tasks[TASKS_MAX];
static int told_in_all;

static void make_pool_on(const char *backend, struct procpool_options options)
{
#ifdef __linux__
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* who loses its parent becomes our child */
#endif
    char name[] = "/tmp/test_procpool.XXXXXX";
    int file = mkstemp(name);
    ck_assert(file >= 0 && unlink(name) == 0 && ftruncate(file, sizeof *shared) == 0);
    ck_assert_int_eq(dup2(file, SHARED_FD), SHARED_FD);
    close(file);
    share_memory();
    signal(SIGPIPE, SIG_IGN);
    loop = loop_new(backend);
    ck_assert_ptr_nonnull(loop);
    if (options.timeout_ms == 0)
        options.timeout_ms = PLENTY * 1000;
    pool = procpool_new(loop, &options);
    ck_assert_msg(pool != NULL, "no pool: %s", strerror(errno));
}

static void make_pool(int workers, int queue_max)
{
    make_pool_on(NULL, (struct procpool_options){.workers = workers, .queue_max = queue_max});
}

/* Frees it, and wants no process to be left over. */
static void free_pool(void)
{
    procpool_free(pool);
    ck_assert_msg(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD, "there are children left");
    loop_free(loop);
    munmap(shared, sizeof *shared);
}

/* The same where a helper may have been killed: its workers are our children then, and may be
 * dying. */
static void free_pool_without_helper(void)
{
    procpool_free(pool);
    bool left = true;
    for (double end = now() + patience(); left && now() < end; sleep_for(0.002))
        left = waitpid(-1, NULL, WNOHANG) >= 0;
    ck_assert_msg(!left, "there are children left");
    loop_free(loop);
    munmap(shared, sizeof *shared);
}

static void done(void *arg, enum procjob_end end, const void *output, size_t length)
{
    struct task *task = arg;
    task->told++;
    task->place = told_in_all++;
    task->end = end;
    task->length = length;
    if (end == PROCJOB_DONE && length == sizeof task->answer)
        memcpy(&task->answer, output, length);
}

static bool submit(int index, enum what what, long long number)
{
    struct task *task = &tasks[index];
    task->input = (struct input){what, index, number};
    task->job.input = &task->input;
    task->job.length = sizeof task->input;
    task->job.done = done;
    task->job.arg = task;
    return procpool_submit(pool, &task->job);
}

/* --- processes, as /proc shows them --- */

static bool there_is_proc(void)
{
    return access("/proc/self/stat", R_OK) == 0;
}

/* The children of a process; -1 if one of them is dead, and was not collected. */
static int children_of(pid_t parent, pid_t *last)
{
    char path[64], line[512];
    int count = 0;
    DIR *folder = opendir("/proc");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        snprintf(path, sizeof path, "/proc/%.20s/stat", entry->d_name);
        FILE *file = entry->d_name[0] > '0' && entry->d_name[0] <= '9' ? fopen(path, "r") : NULL;
        const char *name_end = file && fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
        if (file)
            fclose(file);
        if (!name_end || strtol(name_end + 3, NULL, 10) != parent)
            continue;
        *last = (pid_t)strtol(entry->d_name, NULL, 10);
        if (name_end[2] == 'Z')
            count = -1;
        else if (count >= 0)
            count++;
    }
    if (folder)
        closedir(folder);
    return count;
}

/* --- running the loop until something is so --- */

struct until {
    bool (*is_so)(int number);
    int number;
    double end;
    struct timer timer;
};

static void look(struct loop *its, void *arg)
{
    struct until *until = arg;
    if (until->is_so(until->number) || now() > until->end)
        loop_stop(its);
    else
        timer_start(its, &until->timer, 1);
}

static void run_until(bool (*is_so)(int number), int number, const char *what)
{
    struct until until = {is_so, number, now() + patience(), {.callback = look, .arg = &until}};
    timer_start(loop, &until.timer, 0);
    ck_assert_int_eq(loop_run(loop), 0);
    struct procpool_counts counts = procpool_counts(pool);
    ck_assert_msg(is_so(number), "%s(%d) is not so; told %d; busy %d, queued %d, lost %llu", what,
                  number, told_in_all, counts.busy, counts.queued, counts.lost);
}
#define RUN_UNTIL(is_so, number) run_until(is_so, number, #is_so)

static bool told(int number)
{
    return told_in_all >= number;
}

static int workers(pid_t pids[WORKERS_MAX])
{
    bool busy[WORKERS_MAX];
    return procpool_workers(pool, pids, busy, WORKERS_MAX);
}

static bool there_are_workers(int number)
{
    pid_t pids[WORKERS_MAX];
    return workers(pids) == number;
}

static bool inside_gate(int number)
{
    return shared->inside == number;
}

static bool no_worker_can_be_had(int yes)
{
    return (procpool_error(pool) != NULL) == yes;
}

static bool lost(int number)
{
    return procpool_counts(pool).lost >= (unsigned long long)number;
}

static double when; /* for: */

static bool it_is_time(int number)
{
    (void)number;
    return now() >= when;
}

static void run_for(double seconds)
{
    when = now() + seconds;
    RUN_UNTIL(it_is_time, 0);
}

static pid_t the_helper;

static void helper_told(void *arg, enum procjob_end end, const void *output, size_t length)
{
    long long answer = 0;
    (void)arg;
    if (end == PROCJOB_DONE && length == sizeof answer)
        memcpy(&answer, output, length);
    the_helper = (pid_t)answer;
}

static bool helper_known(int number)
{
    (void)number;
    return the_helper > 0;
}

/* The helper's process id: a worker's parent, as one that is free says. */
static pid_t helper(void)
{
    static struct task task;
    task.input = (struct input){.what = PARENT, .index = TASKS_MAX - 1};
    task.job = (struct procjob){
        .input = &task.input, .length = sizeof task.input, .done = helper_told, .arg = &task};
    the_helper = 0;
    ck_assert(procpool_submit(pool, &task.job));
    RUN_UNTIL(helper_known, 0);
    return the_helper;
}

/* Tasks 0 to count - 1 take the first workers, and wait at the gate. */
static void occupy(int count)
{
    RUN_UNTIL(there_are_workers, procpool_counts(pool).size);
    for (int i = 0; i < count; i++)
        ck_assert(submit(i, GATE, i));
    RUN_UNTIL(inside_gate, count);
}

static void assert_done(int from, int count)
{
    for (int i = from; i < from + count; i++) {
        const struct task *task = &tasks[i];
        ck_assert_msg(task->told == 1, "task %d was told %d times", i, task->told);
        ck_assert_msg(task->end == PROCJOB_DONE, "task %d ended as %d", i, task->end);
        ck_assert_msg(task->length == sizeof task->answer &&
                          task->answer == task->input.number * task->input.number,
                      "task %d got %lld, %zu bytes", i, task->answer, task->length);
    }
}

/* --- jobs and results --- */

static const char *const backends[] = {"epoll", "kqueue", "poll", "select"};

START_TEST(a_thousand_results_each_to_its_own_job)
{
    enum { JOBS = 1000 };
    struct loop *there = loop_new(backends[_i]);
    if (!there) /* not on this system */
        return;
    loop_free(there);
    make_pool_on(backends[_i], (struct procpool_options){.workers = 3, .queue_max = JOBS});
    for (int i = 0; i < JOBS; i++)
        ck_assert(submit(i, i % 7 ? SQUARE : NAP, i % 7 ? i * 1000003LL : i % 5));
    RUN_UNTIL(told, JOBS);
    assert_done(0, JOBS);
    struct procpool_counts counts = procpool_counts(pool);
    ck_assert_int_eq(counts.size, 3);
    ck_assert_int_eq(counts.busy, 0);
    ck_assert_int_eq(counts.queued, 0);
    ck_assert_uint_eq(counts.done, JOBS);
    ck_assert_uint_eq(counts.lost, 0);
    free_pool();
}
END_TEST

static char wanted[FRAME_MAX];

static void reversed(void *arg, enum procjob_end end, const void *output, size_t length)
{
    const size_t *input_length = arg;
    ck_assert_int_eq(end, PROCJOB_DONE);
    ck_assert_uint_eq(length, *input_length);
    for (size_t i = 0; i < length; i++)
        ck_assert_int_eq(((const char *)output)[i], wanted[length - 1 - i]);
    told_in_all++;
}

START_TEST(from_no_bytes_to_as_many_as_there_may_be)
{
    static const size_t lengths[] = {0, 1, 2, sizeof(struct input) - 1, FRAME_MAX - 1, FRAME_MAX};
    struct procjob jobs[COUNT(lengths)];
    make_pool(2, 10);
    for (int i = 0; i < FRAME_MAX; i++)
        wanted[i] = (char)(i * 31 + i / 256);
    const struct input reverse = {.what = REVERSE}; /* what a long one has to begin with */
    memcpy(wanted, &reverse, sizeof reverse);
    for (int i = 0; i < COUNT(lengths); i++) {
        jobs[i] = (struct procjob){
            .input = wanted, .length = lengths[i], .done = reversed, .arg = (void *)&lengths[i]};
        ck_assert(procpool_submit(pool, &jobs[i]));
    }
    RUN_UNTIL(told, COUNT(lengths));
    ck_assert_uint_eq(procpool_counts(pool).lost, 0);
    free_pool();
}
END_TEST

START_TEST(an_answer_of_no_bytes)
{
    make_pool(1, 1);
    ck_assert(submit(0, NOTHING, 0));
    RUN_UNTIL(told, 1);
    ck_assert_int_eq(tasks[0].end, PROCJOB_DONE);
    ck_assert_uint_eq(tasks[0].length, 0);
    free_pool();
}
END_TEST

START_TEST(one_job_a_worker_at_a_time)
{
    make_pool(3, 100);
    occupy(3);
    for (int i = 3; i < 30; i++)
        ck_assert(submit(i, GATE, i));
    run_for(0.03);
    ck_assert_int_eq(procpool_counts(pool).busy, 3);
    ck_assert_int_eq(procpool_counts(pool).queued, 27);
    shared->permits = 30;
    RUN_UNTIL(told, 30);
    assert_done(0, 30);
    ck_assert_int_eq(shared->most, 3);
    free_pool();
}
END_TEST

static const struct {
    int workers, queue;
} rooms[] = {{1, 1}, {1, 5}, {4, 1}, {2, 100}};

START_TEST(workers_and_queue_is_all_that_is_accepted)
{
    int room = rooms[_i].workers + rooms[_i].queue;
    make_pool(rooms[_i].workers, rooms[_i].queue);
    for (int i = 0; i < room; i++) /* the first before there is any worker */
        ck_assert(submit(i, GATE, i));
    ck_assert(!submit(room, GATE, 0));
    RUN_UNTIL(inside_gate, rooms[_i].workers);
    ck_assert(!submit(room, GATE, 0));
    shared->permits = 1; /* one goes, and leaves room for one */
    RUN_UNTIL(told, 1);
    ck_assert(submit(room, GATE, room));
    ck_assert(!submit(room + 1, GATE, 0));
    shared->permits = room;
    RUN_UNTIL(told, room + 1);
    assert_done(0, room + 1);
    ck_assert_int_eq(tasks[room + 1].told, 0);
    free_pool();
}
END_TEST

START_TEST(first_come_first_served)
{
    make_pool(1, 100);
    for (int i = 0; i < 100; i++)
        ck_assert(submit(i, SQUARE, i));
    RUN_UNTIL(told, 100);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(tasks[i].place, i);
    free_pool();
}
END_TEST

START_TEST(the_loop_goes_on_while_workers_work)
{
    make_pool(2, 10);
    occupy(2);
    run_for(0.03);
    ck_assert_int_eq(told_in_all, 0);
    ck_assert_int_eq(procpool_counts(pool).busy, 2);
    shared->permits = 2;
    RUN_UNTIL(told, 2);
    free_pool();
}
END_TEST

START_TEST(five_thousand_jobs_that_do_nothing)
{
    make_pool(2, TASKS_MAX);
    for (int i = 0; i < TASKS_MAX; i++)
        ck_assert(submit(i, SQUARE, i));
    RUN_UNTIL(told, TASKS_MAX);
    assert_done(0, TASKS_MAX);
    free_pool();
}
END_TEST

static void again(void *arg, enum procjob_end end, const void *output, size_t length)
{
    struct task *task = arg;
    done(task, end, output, length);
    if (told_in_all < 1000)
        ck_assert(procpool_submit(pool, &task->job));
    long long now_there; /* what was the output lasts until we return */
    memcpy(&now_there, output, sizeof now_there);
    ck_assert_int_eq(now_there, task->input.number * task->input.number);
}

START_TEST(done_submits_the_same_job_again)
{
    make_pool(1, 1);
    ck_assert(submit(0, SQUARE, 12));
    tasks[0].job.done = again;
    RUN_UNTIL(told, 1000);
    ck_assert_int_eq(shared->tries[0], 1000);
    free_pool();
}
END_TEST

/* --- taking jobs back --- */

START_TEST(what_waits_can_be_taken_back)
{
    make_pool(1, 4);
    occupy(1);
    for (int i = 1; i <= 4; i++)
        ck_assert(submit(i, SQUARE, i));
    ck_assert(!procpool_cancel(pool, &tasks[0].job)); /* a worker has it */
    for (int i = 1; i <= 4; i += 3) {                 /* the first and the last */
        ck_assert(procpool_cancel(pool, &tasks[i].job));
        ck_assert(!procpool_cancel(pool, &tasks[i].job));
    }
    ck_assert(submit(5, SQUARE, 5)); /* there is room again: for two */
    ck_assert(submit(6, SQUARE, 6));
    ck_assert(!submit(7, SQUARE, 7));
    shared->permits = 1;
    RUN_UNTIL(told, 5);
    run_for(0.03);
    for (int i = 0; i <= 6; i++)
        ck_assert_int_eq(tasks[i].told, i != 1 && i != 4);
    ck_assert_int_eq(shared->tries[1] + shared->tries[4], 0);
    ck_assert(!procpool_cancel(pool, &tasks[0].job)); /* it is over */
    free_pool();
}
END_TEST

START_TEST(a_job_that_waits_for_its_second_try_can_be_taken_back)
{
    pid_t pid[WORKERS_MAX];
    struct rlimit limit, none = {0};
    make_pool(1, 4);
    occupy(1);
    ck_assert_int_eq(workers(pid), 1);
    getrlimit(RLIMIT_NOFILE, &limit);
    none = (struct rlimit){3, limit.rlim_max}; /* no new worker can be had */
    setrlimit(RLIMIT_NOFILE, &none);
    kill(pid[0], SIGKILL);
    RUN_UNTIL(lost, 1);
    ck_assert_int_eq(procpool_counts(pool).queued, 1);
    ck_assert(procpool_cancel(pool, &tasks[0].job));
    setrlimit(RLIMIT_NOFILE, &limit);
    RUN_UNTIL(there_are_workers, 1);
    ck_assert(submit(1, SQUARE, 1));
    RUN_UNTIL(told, 1);
    assert_done(1, 1);
    ck_assert_int_eq(tasks[0].told, 0);
    free_pool();
}
END_TEST

/* --- workers that fail --- */

static const struct {
    enum what what;
    const char *name;
} crashes[] = {{ABORT, "abort"},
               {SEGV, "segmentation fault"},
               {EXIT, "exit"},
               {KILLED, "killed"},
               {GARBAGE, "garbage"},
               {FLOOD, "flood"},
               {HALF_FRAME, "half a frame"},
               {HALF_ANSWER, "half an answer"},
               {TOO_LONG, "an answer too long"},
               {OTHER_JOB, "another job's answer"},
               {HANG_UP, "hangs up"}};

/* One job in twelve does it; it is tried twice, and no other job notices. */
START_TEST(what_a_job_does_costs_that_job_only)
{
    enum { JOBS = 60, EACH = 12 };
    make_pool(2, JOBS);
    for (int i = 0; i < JOBS; i++)
        ck_assert(submit(i, i % EACH == 5 ? crashes[_i].what : SQUARE, i));
    RUN_UNTIL(told, JOBS);
    for (int i = 0; i < JOBS; i++) {
        if (i % EACH != 5) {
            assert_done(i, 1);
            ck_assert_msg(shared->tries[i] == 1, "%s: task %d was tried %d times", crashes[_i].name,
                          i, shared->tries[i]);
        } else {
            ck_assert_msg(tasks[i].told == 1 && tasks[i].end == PROCJOB_CRASHED &&
                              shared->tries[i] == 2,
                          "%s: told %d times, end %d, tried %d times", crashes[_i].name,
                          tasks[i].told, tasks[i].end, shared->tries[i]);
        }
    }
    ck_assert_uint_eq(procpool_counts(pool).lost, 2 * JOBS / EACH);
    RUN_UNTIL(there_are_workers, 2);
    free_pool();
}
END_TEST

START_TEST(a_frame_is_known_by_its_magic)
{
    make_pool(1, 1);
    ck_assert(submit(0, WRONG_MAGIC, 0));
    RUN_UNTIL(told, 1);
    ck_assert_int_eq(tasks[0].end, PROCJOB_CRASHED);
    free_pool();
}
END_TEST

START_TEST(a_job_gets_a_second_chance_and_first)
{
    make_pool(1, 10);
    ck_assert(submit(0, CRASH_ONCE, 7));
    for (int i = 1; i < 5; i++)
        ck_assert(submit(i, SQUARE, i));
    RUN_UNTIL(told, 5);
    assert_done(0, 5);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(tasks[i].place, i);
    ck_assert_int_eq(shared->tries[0], 2);
    ck_assert_uint_eq(procpool_counts(pool).lost, 1);
    free_pool();
}
END_TEST

static const enum what hanging[] = {HANG, SPIN, HANG_DEAF};

static bool is_gone(pid_t pid)
{
    return kill(pid, 0) < 0 && errno == ESRCH;
}

static bool are_gone(const pid_t pids[], int count)
{
    if (thread_sanitizer()) /* the helper hears SIGCHLD late */
        return true;
    for (double end = now() + patience(); now() < end; sleep_for(0.002)) {
        int gone = 0;
        for (int i = 0; i < count; i++) {
            waitpid(pids[i], NULL, WNOHANG); /* if it has become our child */
            gone += is_gone(pids[i]);
        }
        if (gone == count)
            return true;
    }
    return false;
}

START_TEST(a_hanging_job_is_ended_and_not_tried_again)
{
    pid_t before[WORKERS_MAX], after[WORKERS_MAX];
    make_pool_on(NULL,
                 (struct procpool_options){.workers = 1, .queue_max = 10, .timeout_ms = 1000});
    RUN_UNTIL(there_are_workers, 1);
    workers(before);
    double start = now();
    ck_assert(submit(0, hanging[_i], 0));
    RUN_UNTIL(told, 1);
    for (int i = 1; i < 5; i++)
        ck_assert(submit(i, SQUARE, i));
    ck_assert_int_eq(tasks[0].told, 1);
    ck_assert_int_eq(tasks[0].end, PROCJOB_TIMED_OUT);
    ck_assert_double_ge(now() - start, 0.9);
    RUN_UNTIL(told, 5);
    assert_done(1, 4);
    ck_assert_int_eq(shared->tries[0], 1);
    RUN_UNTIL(there_are_workers, 1);
    workers(after);
    ck_assert_int_ne(before[0], after[0]);
    ck_assert_uint_eq(procpool_counts(pool).lost, 1);
    ck_assert(are_gone(before, 1));
    free_pool();
}
END_TEST

/* It has a time for each: together it may be more. */
START_TEST(the_time_in_the_queue_does_not_count_when_a_worker_has_it)
{
    make_pool_on(NULL,
                 (struct procpool_options){.workers = 1, .queue_max = 10, .timeout_ms = 3000});
    RUN_UNTIL(there_are_workers, 1);
    ck_assert(submit(0, NAP, 2000));
    ck_assert(submit(1, NAP, 2000));
    RUN_UNTIL(told, 2);
    assert_done(0, 2);
    free_pool();
}
END_TEST

/* A worker that is free would have taken it, so there has to be one that is not. */
START_TEST(the_time_in_the_queue_is_limited)
{
    make_pool_on(NULL,
                 (struct procpool_options){.workers = 2, .queue_max = 10, .timeout_ms = 1000});
    RUN_UNTIL(there_are_workers, 2);
    for (int i = 0; i < 2; i++)
        ck_assert(submit(i, HANG, 0));
    double start = now();
    for (int i = 2; i < 5; i++)
        ck_assert(submit(i, SQUARE, i));
    RUN_UNTIL(told, 5);
    ck_assert_double_ge(now() - start, 0.9);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(tasks[i].told, 1);
        ck_assert_int_eq(tasks[i].end, i < 2 ? PROCJOB_TIMED_OUT : PROCJOB_NO_WORKER);
        ck_assert_int_eq(shared->tries[i], i < 2);
    }
    ck_assert_int_eq(procpool_counts(pool).queued, 0);
    ck_assert(submit(5, SQUARE, 5));
    RUN_UNTIL(told, 6);
    assert_done(5, 1);
    free_pool();
}
END_TEST

/* The job goes back into the queue each time, and has no more time for that. */
START_TEST(workers_that_die_before_they_read_their_job_do_not_prolong_its_wait)
{
    setenv(STILLBORN, "1", 1);
    make_pool_on(NULL,
                 (struct procpool_options){.workers = 1, .queue_max = 10, .timeout_ms = 1000});
    ck_assert(submit(0, SQUARE, 1));
    RUN_UNTIL(told, 1);
    ck_assert_int_eq(tasks[0].end, PROCJOB_NO_WORKER);
    ck_assert_uint_gt(procpool_counts(pool).lost, 1);
    free_pool();
}
END_TEST

START_TEST(a_job_that_is_done_has_no_time_limit)
{
    make_pool_on(NULL,
                 (struct procpool_options){.workers = 1, .queue_max = 10, .timeout_ms = 1000});
    RUN_UNTIL(there_are_workers, 1);
    for (int i = 0; i < 2; i++) {
        ck_assert(submit(i, SQUARE, i));
        RUN_UNTIL(told, i + 1);
        run_for(1.2);
    }
    assert_done(0, 2);
    ck_assert_uint_eq(procpool_counts(pool).lost, 0);
    free_pool();
}
END_TEST

START_TEST(time_that_is_over_costs_nobody_else)
{
    make_pool_on(NULL,
                 (struct procpool_options){.workers = 1, .queue_max = 100, .timeout_ms = 1000});
    RUN_UNTIL(there_are_workers, 1);
    for (int i = 0; i < 9; i++) {
        ck_assert(submit(i, i % 3 ? SQUARE : HANG, i));
        if (i % 3 == 0)
            run_for(0.3); /* the next two wait for the rest of its time */
        if (i % 3 == 2)
            RUN_UNTIL(told, i + 1);
    }
    for (int i = 0; i < 9; i++) {
        ck_assert_int_eq(tasks[i].place, i);
        ck_assert_int_eq(tasks[i].end, i % 3 ? PROCJOB_DONE : PROCJOB_TIMED_OUT);
    }
    free_pool();
}
END_TEST

/* More orders at once than the helper's socket holds. */
START_TEST(all_of_many_workers_are_replaced_at_once)
{
    enum { MANY = WORKERS_MAX };
    make_pool_on(NULL,
                 (struct procpool_options){.workers = MANY, .queue_max = MANY, .timeout_ms = 3000});
    RUN_UNTIL(there_are_workers, MANY);
    for (int i = 0; i < MANY; i++)
        ck_assert(submit(i, HANG, 0));
    RUN_UNTIL(told, MANY);
    for (int i = MANY; i < 2 * MANY; i++) {
        ck_assert(submit(i, SQUARE, i));
        if (i % 10 == 0)
            RUN_UNTIL(told, i);
    }
    RUN_UNTIL(told, 2 * MANY);
    for (int i = 0; i < MANY; i++)
        ck_assert_int_eq(tasks[i].end, PROCJOB_TIMED_OUT);
    assert_done(MANY, MANY);
    RUN_UNTIL(there_are_workers, MANY);
    free_pool_without_helper(); /* it has no time for so many */
}
END_TEST

START_TEST(a_worker_killed_while_idle_is_replaced)
{
    pid_t before[WORKERS_MAX], after[WORKERS_MAX];
    make_pool(2, 10);
    for (int i = 0; i < 5; i++) {
        RUN_UNTIL(there_are_workers, 2);
        workers(before);
        kill(before[i % 2], SIGKILL);
        RUN_UNTIL(lost, i + 1);
        RUN_UNTIL(there_are_workers, 2);
        workers(after);
        ck_assert(after[i % 2] != before[i % 2]);
        ck_assert(after[1 - i % 2] == before[1 - i % 2]);
    }
    ck_assert(submit(0, SQUARE, 3));
    RUN_UNTIL(told, 1);
    assert_done(0, 1);
    free_pool();
}
END_TEST

/* The loop does not run in between: it finds out when it has a job for one of the dead. */
START_TEST(killed_while_idle_is_no_try)
{
    pid_t pids[WORKERS_MAX];
    make_pool(3, 10);
    RUN_UNTIL(there_are_workers, 3);
    workers(pids);
    for (int i = 0; i < 3; i++)
        kill(pids[i], SIGKILL);
    if (_i)
        ck_assert(are_gone(pids, 3)); /* else they may still be dying */
    for (int i = 0; i < 5; i++)
        ck_assert(submit(i, SQUARE, i));
    RUN_UNTIL(told, 5);
    assert_done(0, 5);
    free_pool();
}
END_TEST

START_TEST(killed_together_with_idle_ones_is_one_try)
{
    pid_t pids[WORKERS_MAX];
    make_pool(4, 10);
    occupy(1);
    workers(pids);
    for (int i = 0; i < 4; i++)
        kill(pids[i], SIGKILL);
    if (_i)
        ck_assert(are_gone(pids, 4));
    shared->permits = 1;
    RUN_UNTIL(told, 1);
    assert_done(0, 1);
    RUN_UNTIL(there_are_workers, 4);
    free_pool();
}
END_TEST

/* Lower than those that are open: then even the places that are kept cannot be used again. */
static struct rlimit set_limit_of_descriptors(rlim_t number)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    const struct rlimit lower = {number, limit.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &lower), 0);
    return limit;
}

START_TEST(no_descriptors_at_all_for_a_while)
{
    pid_t pids[WORKERS_MAX];
    make_pool(2, 10);
    occupy(2);
    ck_assert(submit(2, SQUARE, 2));
    workers(pids);
    struct rlimit limit = set_limit_of_descriptors(3);
    for (int i = 0; i < 2; i++)
        kill(pids[i], SIGKILL);
    RUN_UNTIL(no_worker_can_be_had, true);
    ck_assert_msg(strstr(procpool_error(pool), strerror(EMFILE)) != NULL, "%s",
                  procpool_error(pool));
    ck_assert(!submit(3, SQUARE, 3));
    double start = now(), before = process_cpu(getpid());
    run_for(0.5);
    ck_assert(there_are_workers(0));
    ck_assert_int_eq(told_in_all, 0);
    ck_assert_double_lt(process_cpu(getpid()) - before, (now() - start) / 2); /* no busy waiting */
    setrlimit(RLIMIT_NOFILE, &limit);
    shared->permits = 2;
    RUN_UNTIL(told, 3);
    assert_done(0, 3);
    RUN_UNTIL(there_are_workers, 2);
    ck_assert_ptr_null(procpool_error(pool));
    free_pool();
}
END_TEST

/* All descriptors are taken, and stay so whoever is killed: the pool has its own. */
START_TEST(places_among_the_descriptors_are_kept)
{
    enum { WORKERS = 4, ROUNDS = 10, LOST = WORKERS * ROUNDS };
    pid_t pids[WORKERS_MAX];
    make_pool(WORKERS, 10);
    RUN_UNTIL(there_are_workers, WORKERS);
    set_limit_of_descriptors(64);
    while (dup(STDIN_FILENO) >= 0)
        ;
    for (int round = 1; round <= ROUNDS; round++) {
        workers(pids);
        pid_t victim = helper(); /* with it, its workers */
        if (_i)
            kill(victim, SIGKILL);
        for (int i = 0; i < WORKERS && !_i; i++)
            kill(pids[i], SIGKILL);
        RUN_UNTIL(lost, round * WORKERS);
        ck_assert_int_lt(dup(STDIN_FILENO), 0);
        RUN_UNTIL(there_are_workers, WORKERS);
        ck_assert_int_lt(dup(STDIN_FILENO), 0);
    }
    ck_assert_uint_eq(procpool_counts(pool).lost, LOST);
    free_pool_without_helper();
}
END_TEST

/* --- replacement as a habit --- */

START_TEST(after_max_jobs_comes_a_new_worker)
{
    make_pool_on(NULL, (struct procpool_options){.workers = 1, .queue_max = 20, .max_jobs = 3});
    for (int i = 0; i < 12; i++)
        ck_assert(submit(i, PID, 0));
    RUN_UNTIL(told, 12);
    for (int i = 0; i < 12; i++) {
        ck_assert_int_eq(tasks[i].end, PROCJOB_DONE);
        ck_assert_msg(i == 0 || (tasks[i].answer == tasks[i - 1].answer) == (i % 3 != 0),
                      "job %d was done by %lld, the one before by %lld", i, tasks[i].answer,
                      tasks[i - 1].answer);
    }
    ck_assert_uint_eq(procpool_counts(pool).lost, 4);
    free_pool();
}
END_TEST

START_TEST(without_max_jobs_workers_stay)
{
    make_pool(1, 300);
    for (int i = 0; i < 300; i++)
        ck_assert(submit(i, PID, 0));
    RUN_UNTIL(told, 300);
    for (int i = 1; i < 300; i++)
        ck_assert_int_eq(tasks[i].answer, tasks[0].answer);
    free_pool();
}
END_TEST

static bool helpers_children_are(int number)
{
    pid_t last;
    return children_of(the_helper, &last) == number;
}

START_TEST(a_hundred_replaced_workers_leave_nothing)
{
    make_pool_on(NULL, (struct procpool_options){.workers = 2, .queue_max = 300, .max_jobs = 2});
    RUN_UNTIL(there_are_workers, 2);
    int descriptors = process_descriptors(getpid());
    for (int i = 0; i < 300; i++)
        ck_assert(submit(i, i % 10 ? SQUARE : SEGV, i));
    RUN_UNTIL(told, 300);
    RUN_UNTIL(there_are_workers, 2);
    ck_assert(lost(100));
    ck_assert_int_eq(process_descriptors(getpid()), descriptors);
    if (there_is_proc() && !thread_sanitizer()) {
        helper();
        RUN_UNTIL(helpers_children_are, 2);
    }
    free_pool();
}
END_TEST

/* --- what workers have of the process that started them --- */

static void surroundings_told(void *arg, enum procjob_end end, const void *output, size_t length)
{
    ck_assert_int_eq(end, PROCJOB_DONE);
    ck_assert_uint_eq(length, sizeof(struct surroundings));
    memcpy(arg, output, length);
    told_in_all++;
}

START_TEST(a_worker_has_one_socket_and_no_signal_is_special)
{
    enum { ROUNDS = 3 };
    struct surroundings found;
    pid_t pids[WORKERS_MAX];
    make_pool(3, 10);
    RUN_UNTIL(there_are_workers, 3);
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0); /* like a client's */
    for (int i = 0; i < ROUNDS; i++) {
        workers(pids);
        kill(pids[0], SIGKILL); /* who comes next comes while that socket is open */
        RUN_UNTIL(lost, i + 1);
        RUN_UNTIL(there_are_workers, 3);
        submit(i, SURROUNDINGS, 0); /* the first worker gets it */
        tasks[i].job.done = surroundings_told;
        tasks[i].job.arg = &found;
        RUN_UNTIL(told, i + 1);
        ck_assert_int_eq(found.sockets, 1);
        ck_assert_int_eq(found.caught, 0);
        ck_assert_int_eq(found.ignored, 0);
        ck_assert_int_eq(found.blocked, 0);
    }
    close(ends[0]);
    close(ends[1]);
    free_pool();
}
END_TEST

START_TEST(interrupt_and_terminate_do_not_end_the_helper)
{
    make_pool(1, 10);
    RUN_UNTIL(there_are_workers, 1);
    kill(helper(), SIGINT);
    kill(the_helper, SIGTERM);
    ck_assert(submit(0, ABORT, 0)); /* it is needed for a new worker */
    ck_assert(submit(1, SQUARE, 1));
    RUN_UNTIL(told, 2);
    assert_done(1, 1);
    free_pool();
}
END_TEST

/* --- the helper --- */

START_TEST(a_helper_killed_while_idle_is_replaced)
{
    pid_t pids[WORKERS_MAX];
    make_pool(3, 10);
    for (int i = 0; i < 3; i++) {
        RUN_UNTIL(there_are_workers, 3);
        workers(pids);
        pid_t old = helper();
        kill(old, SIGKILL);
        RUN_UNTIL(lost, 3 * (i + 1));
        RUN_UNTIL(there_are_workers, 3);
        ck_assert_int_ne(helper(), old);
        ck_assert(are_gone(&old, 1));
        ck_assert(are_gone(pids, 3));
        ck_assert_ptr_null(procpool_error(pool));
    }
    free_pool_without_helper();
}
END_TEST

/* What was running is tried again, what waits goes on to wait. */
START_TEST(a_helper_killed_under_load_costs_a_try)
{
    make_pool(2, 10);
    RUN_UNTIL(there_are_workers, 2);
    helper();
    occupy(2);
    for (int i = 2; i < 6; i++)
        ck_assert(submit(i, SQUARE, i));
    kill(the_helper, SIGKILL);
    RUN_UNTIL(lost, 2);
    ck_assert_int_eq(told_in_all, 0);
    shared->permits = 2;
    RUN_UNTIL(told, 6);
    assert_done(0, 6);
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(shared->tries[i], i < 2 ? 2 : 1);
    free_pool_without_helper();
}
END_TEST

START_TEST(a_hundred_helpers_killed_under_load)
{
    enum { ROUNDS = 100, EACH = 10 };
    int done_in_all = 0;
    make_pool(2, 2 * ROUNDS * EACH);
    RUN_UNTIL(there_are_workers, 2);
    int descriptors = process_descriptors(getpid());
    for (int round = 0, next = 0; round < ROUNDS; round++) {
        RUN_UNTIL(there_are_workers, 2);
        helper();
        for (int i = 0; i < EACH; i++, next++)
            ck_assert(submit(next, i % 2 ? NAP : SQUARE, i));
        run_for((double)(round % 7) / 1000);
        kill(the_helper, SIGKILL);
        RUN_UNTIL(told, next);
    }
    for (int i = 0; i < ROUNDS * EACH; i++) {
        ck_assert_int_eq(tasks[i].told, 1);
        ck_assert(tasks[i].end == PROCJOB_DONE || tasks[i].end == PROCJOB_CRASHED);
        done_in_all += tasks[i].end == PROCJOB_DONE;
    }
    ck_assert_int_ge(done_in_all, ROUNDS * EACH / 2);
    RUN_UNTIL(there_are_workers, 2);
    ck_assert_int_eq(process_descriptors(getpid()), descriptors);
    ck_assert_ptr_null(procpool_error(pool));
    free_pool_without_helper();
}
END_TEST

/* It does what a dead one does: nothing. So it is treated as one, after a while. */
START_TEST(a_stopped_helper_is_replaced)
{
    pid_t pids[WORKERS_MAX];
    make_pool(2, 10);
    RUN_UNTIL(there_are_workers, 2);
    pid_t old = helper();
    workers(pids);
    kill(old, SIGSTOP);
    for (int i = 0; i < 2; i++)
        kill(pids[i], SIGKILL);
    RUN_UNTIL(lost, 2);
    ck_assert(submit(0, SQUARE, 7));
    RUN_UNTIL(told, 1);
    assert_done(0, 1);
    ck_assert(are_gone(&old, 1));
    free_pool_without_helper();
}
END_TEST

static const enum what last_jobs[] = {SQUARE, HANG, SPIN, HANG_DEAF};

START_TEST(a_stopped_helper_does_not_hold_up_the_end)
{
    pid_t pids[WORKERS_MAX];
    make_pool(3, 10);
    RUN_UNTIL(there_are_workers, 3);
    pid_t old = helper();
    workers(pids);
    for (int i = 0; i < 3; i++)
        ck_assert(submit(i, last_jobs[_i], 0));
    run_for(0.03);
    kill(old, SIGSTOP);
    double start = now();
    procpool_free(pool);
    ck_assert_double_lt(now() - start, 0.2 + patience() / 10.0);
    ck_assert(are_gone(pids, 3));
    ck_assert(is_gone(old));
    loop_free(loop);
    munmap(shared, sizeof *shared);
}
END_TEST

/* This user may have no more processes than that, from now on: this one, and those of the pool. */
static void set_limit_of_processes(rlim_t number)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NPROC, &limit);
    limit.rlim_cur = number < limit.rlim_max ? number : limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NPROC, &limit), 0);
}

/* Workers cannot be forked; or not even the helper can be started. */
START_TEST(no_processes_for_a_while)
{
    pid_t child = 0;
    /* as somebody who has no other processes (ThreadSanitizer has a thread of its own); root may
     * have as many as it likes */
    if (!there_is_proc() || thread_sanitizer() || setuid(100000 + (uid_t)getpid()) < 0)
        return;
    set_limit_of_processes(_i ? RLIM_INFINITY : 2);
    make_pool_on(NULL, (struct procpool_options){.workers = 2, .queue_max = 9, .timeout_ms = 2000});
    ck_assert(submit(0, SQUARE, 0)); /* before anything is known */
    if (_i) {
        RUN_UNTIL(told, 1);
        set_limit_of_processes(1);
        kill(helper(), SIGKILL);
    }
    RUN_UNTIL(no_worker_can_be_had, true);
    ck_assert_msg(strstr(procpool_error(pool), strerror(EAGAIN)) != NULL, "%s",
                  procpool_error(pool));
    ck_assert(!submit(1, SQUARE, 1));
    RUN_UNTIL(told, 1);
    ck_assert_int_eq(tasks[0].end, _i ? PROCJOB_DONE : PROCJOB_NO_WORKER);
    ck_assert(there_are_workers(0));
    set_limit_of_processes(RLIM_INFINITY);
    if (_i == 0) { /* the helper has its limit from before */
        ck_assert_int_eq(children_of(getpid(), &child), 1);
        kill(child, SIGKILL);
    }
    RUN_UNTIL(there_are_workers, 2);
    ck_assert_ptr_null(procpool_error(pool));
    ck_assert(submit(2, SQUARE, 2));
    RUN_UNTIL(told, 2);
    assert_done(2, 1);
    free_pool_without_helper();
}
END_TEST

/* --- the end --- */

static bool accepted_at_the_end;

static void submit_at_the_end(void *arg, enum procjob_end end, const void *output, size_t length)
{
    done(arg, end, output, length);
    accepted_at_the_end = accepted_at_the_end || submit(TASKS_MAX - 1, SQUARE, 1);
}

static const int occupied[] = {0, 1, 3};

START_TEST(what_is_left_is_dropped_and_told_once)
{
    pid_t pids[WORKERS_MAX];
    enum { JOBS = 10 };
    int busy = occupied[_i];
    make_pool(3, JOBS);
    occupy(busy);
    for (int i = busy; busy == 3 && i < JOBS; i++)
        ck_assert(submit(i, SQUARE, i));
    for (int i = 0; i < JOBS; i++)
        tasks[i].job.done = submit_at_the_end;
    pid_t its_helper = busy == 3 ? 0 : helper();
    workers(pids);
    free_pool();
    int left = busy == 3 ? JOBS : busy;
    ck_assert_int_eq(told_in_all, left);
    for (int i = 0; i < left; i++) {
        ck_assert_int_eq(tasks[i].told, 1);
        ck_assert_int_eq(tasks[i].end, PROCJOB_DROPPED);
    }
    ck_assert(!accepted_at_the_end);
    for (int i = 0; i < 3; i++)
        ck_assert_msg(is_gone(pids[i]), "worker %ld is still there", (long)pids[i]);
    ck_assert(its_helper == 0 || is_gone(its_helper));
}
END_TEST

START_TEST(freed_before_its_workers_have_come)
{
    make_pool(20, 10);
    ck_assert(submit(0, SQUARE, 0));
    free_pool();
    ck_assert_int_eq(tasks[0].told, 1);
    ck_assert_int_eq(tasks[0].end, PROCJOB_DROPPED);
}
END_TEST

START_TEST(freed_while_workers_are_replaced)
{
    pid_t pids[WORKERS_MAX];
    make_pool(3, 10);
    occupy(3);
    workers(pids);
    for (int i = 0; i < 3; i++)
        kill(pids[i], SIGKILL);
    RUN_UNTIL(lost, 1 + _i);
    free_pool();
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(tasks[i].told, 1);
}
END_TEST

/* In a process of its own: makes a pool, tells who is there, and waits to be killed. */
static _Noreturn void own_a_pool(int out, enum what what)
{
    pid_t pids[WORKERS_MAX] = {0};
    make_pool(3, 10);
    RUN_UNTIL(there_are_workers, 3);
    helper();
    for (int i = 0; i < 3; i++)
        submit(i, what, 0);
    run_for(0.03);
    pids[3] = the_helper;
    workers(pids);
    if (write(out, pids, 4 * sizeof pids[0]) < 0)
        _exit(1);
    wait_for_ever();
    _exit(0);
}

START_TEST(nobody_survives_the_pools_owner)
{
    pid_t pids[4];
    int ends[2];
#ifdef __linux__
    prctl(PR_SET_CHILD_SUBREAPER, 1);
#endif
    ck_assert_int_eq(pipe(ends), 0);
    pid_t owner = fork();
    if (owner == 0)
        own_a_pool(ends[1], last_jobs[_i]);
    ck_assert_int_eq(read(ends[0], pids, sizeof pids), sizeof pids);
    for (int i = 0; i < 4; i++)
        ck_assert(!is_gone(pids[i]));
    kill(owner, SIGKILL);
    waitpid(owner, NULL, 0);
    ck_assert(are_gone(pids, 4));
}
END_TEST

/* --- the suite --- */

static void add_case(Suite *suite, TCase *tcase)
{
    tcase_set_timeout(tcase, PLENTY);
    suite_add_tcase(suite, tcase);
}

static void add_failing(TCase *failing)
{
    tcase_add_loop_test(failing, what_a_job_does_costs_that_job_only, 0, COUNT(crashes));
    tcase_add_test(failing, a_frame_is_known_by_its_magic);
    tcase_add_test(failing, a_job_gets_a_second_chance_and_first);
    tcase_add_loop_test(failing, a_hanging_job_is_ended_and_not_tried_again, 0, COUNT(hanging));
    tcase_add_test(failing, the_time_in_the_queue_does_not_count_when_a_worker_has_it);
    tcase_add_test(failing, the_time_in_the_queue_is_limited);
    tcase_add_test(failing, workers_that_die_before_they_read_their_job_do_not_prolong_its_wait);
    tcase_add_test(failing, a_job_that_is_done_has_no_time_limit);
    tcase_add_test(failing, time_that_is_over_costs_nobody_else);
    tcase_add_test(failing, all_of_many_workers_are_replaced_at_once);
    tcase_add_test(failing, a_worker_killed_while_idle_is_replaced);
    tcase_add_loop_test(failing, killed_while_idle_is_no_try, 0, 2);
    tcase_add_loop_test(failing, killed_together_with_idle_ones_is_one_try, 0, 2);
    tcase_add_test(failing, no_descriptors_at_all_for_a_while);
    tcase_add_loop_test(failing, places_among_the_descriptors_are_kept, 0, 2);
}

static Suite *procpool_suite(void)
{
    Suite *suite = suite_create("procpool");
    TCase *jobs = tcase_create("jobs"), *cancel = tcase_create("cancel");
    TCase *failing = tcase_create("failing"), *replacing = tcase_create("replacing");
    TCase *surrounded = tcase_create("surroundings"), *ending = tcase_create("ending");
    TCase *helping = tcase_create("helper");
    tcase_add_loop_test(jobs, a_thousand_results_each_to_its_own_job, 0, COUNT(backends));
    tcase_add_test(jobs, from_no_bytes_to_as_many_as_there_may_be);
    tcase_add_test(jobs, an_answer_of_no_bytes);
    tcase_add_test(jobs, one_job_a_worker_at_a_time);
    tcase_add_loop_test(jobs, workers_and_queue_is_all_that_is_accepted, 0, COUNT(rooms));
    tcase_add_test(jobs, first_come_first_served);
    tcase_add_test(jobs, the_loop_goes_on_while_workers_work);
    tcase_add_test(jobs, five_thousand_jobs_that_do_nothing);
    tcase_add_test(jobs, done_submits_the_same_job_again);
    add_case(suite, jobs);

    tcase_add_test(cancel, what_waits_can_be_taken_back);
    tcase_add_test(cancel, a_job_that_waits_for_its_second_try_can_be_taken_back);
    add_case(suite, cancel);

    add_failing(failing);
    add_case(suite, failing);

    tcase_add_test(replacing, after_max_jobs_comes_a_new_worker);
    tcase_add_test(replacing, without_max_jobs_workers_stay);
    tcase_add_test(replacing, a_hundred_replaced_workers_leave_nothing);
    add_case(suite, replacing);

    tcase_add_test(surrounded, a_worker_has_one_socket_and_no_signal_is_special);
    tcase_add_test(surrounded, interrupt_and_terminate_do_not_end_the_helper);
    add_case(suite, surrounded);

    tcase_add_test(helping, a_helper_killed_while_idle_is_replaced);
    tcase_add_test(helping, a_helper_killed_under_load_costs_a_try);
    tcase_add_test(helping, a_hundred_helpers_killed_under_load);
    tcase_add_test(helping, a_stopped_helper_is_replaced);
    tcase_add_loop_test(helping, a_stopped_helper_does_not_hold_up_the_end, 0, COUNT(last_jobs));
    tcase_add_loop_test(helping, no_processes_for_a_while, 0, 2);
    add_case(suite, helping);

    tcase_add_loop_test(ending, what_is_left_is_dropped_and_told_once, 0, COUNT(occupied));
    tcase_add_test(ending, freed_before_its_workers_have_come);
    tcase_add_loop_test(ending, freed_while_workers_are_replaced, 0, 3);
    tcase_add_loop_test(ending, nobody_survives_the_pools_owner, 0, COUNT(last_jobs));
    add_case(suite, ending);
    return suite;
}

int main(int argc, char **argv)
{
    (void)argc;
    if (getenv(STILLBORN))
        pthread_atfork(NULL, NULL, end_at_birth);
    helper_main(argv, work);
    SRunner *runner = srunner_create(procpool_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
