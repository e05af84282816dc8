/*
 * What threadpool.h promises. A program of its own, for it calls the pool directly. Where a test
 * needs a thread to be busy, its job waits at a gate: nothing depends on how long anything takes.
 */
#include "backend.h" /* only to count rounds: users of the loop cannot */
#include "harness.h"
#include "threadpool.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PLENTY = 120 };     /* seconds a test may take on a slow, busy machine */
enum { TASKS_MAX = 1000 }; /* in most tests */

/* --- what the tests share --- */

static struct loop *loop;
static struct threadpool *pool;

/* Where jobs wait, each for a permit. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t permitted;
    int inside, most; /* how many wait there, and the most so far */
    int permits;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .permitted = PTHREAD_COND_INITIALIZER};

static void pass_gate(void)
{
    pthread_mutex_lock(&gate.lock);
    if (++gate.inside > gate.most)
        gate.most = gate.inside;
    while (gate.permits == 0)
        pthread_cond_wait(&gate.permitted, &gate.lock);
    gate.permits--;
    gate.inside--;
    pthread_mutex_unlock(&gate.lock);
}

static void permit(int count)
{
    pthread_mutex_lock(&gate.lock);
    gate.permits += count;
    pthread_cond_broadcast(&gate.permitted);
    pthread_mutex_unlock(&gate.lock);
}

static int inside_gate(void)
{
    pthread_mutex_lock(&gate.lock);
    int inside = gate.inside;
    pthread_mutex_unlock(&gate.lock);
    return inside;
}

static int busy(void)
{
    return threadpool_counts(pool).busy;
}

static int queued(void)
{
    return threadpool_counts(pool).queued;
}

static int ran_so_far(void)
{
    return (int)threadpool_counts(pool).done;
}

/* Waits until count() is that number. */
static void await(int (*count)(void), int number)
{
    for (double end = now() + patience(); count() != number; sleep_for(0.001))
        ck_assert_msg(now() < end, "%d where %d was to come", count(), number);
}

/* One job, and what has become of it. */
struct task {
    struct job job;
    int number, worked, told;
    bool gated, ran;
    pthread_t worker, teller;
};
static struct task tasks[TASKS_MAX];

static int started[TASKS_MAX]; /* task numbers, in the order in which they began */
static int started_count;
static int told_in_all, told_to_stop; /* the loop is stopped when so many have been told */

static void work(void *arg)
{
    struct task *task = arg;
    pthread_mutex_lock(&gate.lock);
    if (started_count < TASKS_MAX)
        started[started_count++] = task->number;
    pthread_mutex_unlock(&gate.lock);
    task->worker = pthread_self();
    if (task->gated)
        pass_gate();
    task->worked++;
}

static void count_told(void)
{
    if (++told_in_all == told_to_stop)
        loop_stop(loop);
}

static void done(void *arg, bool ran)
{
    struct task *task = arg;
    task->teller = pthread_self();
    task->ran = ran;
    task->told++;
    count_told();
}

static void make_pool(int threads, int queue_max)
{
    loop = loop_new(NULL);
    ck_assert_ptr_nonnull(loop);
    pool = threadpool_new(loop, threads, queue_max);
    ck_assert_msg(pool != NULL, "no pool of %d threads: %s", threads, strerror(errno));
}

static void free_pool(bool finish)
{
    ck_assert(threadpool_free(pool, finish));
    loop_free(loop);
}

/* Submits tasks[number], which waits at the gate if gated. Returns whether it was accepted. */
static bool submit(int number, bool gated)
{
    struct task *task = &tasks[number];
    task->job.work = work;
    task->job.done = done;
    task->job.arg = task;
    task->number = number;
    task->gated = gated;
    return threadpool_submit(pool, &task->job);
}

/* Tasks 0 to threads - 1 take all threads, and wait at the gate. */
static void occupy(int threads)
{
    for (int i = 0; i < threads; i++)
        ck_assert(submit(i, true));
    await(inside_gate, threads);
}

static void stop_loop(struct loop *any_loop, void *arg)
{
    (void)arg;
    loop_stop(any_loop);
}

/* Runs the loop until so many have been told since the test began. */
static void run_until_told(int count)
{
    struct timer end = {.callback = stop_loop};
    told_to_stop = count;
    ck_assert(timer_start(loop, &end, patience() * INT64_C(1000)));
    if (told_in_all < count)
        ck_assert_int_eq(loop_run(loop), 0);
    timer_stop(loop, &end);
    ck_assert_msg(told_in_all == count, "%d told, not %d", told_in_all, count);
}

/* Each of tasks[first] to tasks[end - 1] has been worked on and told so many times. */
static void assert_tasks(int first, int end, int worked, int told)
{
    for (int i = first; i < end; i++) {
        ck_assert_msg(tasks[i].worked == worked, "%d: worked on %d times", i, tasks[i].worked);
        ck_assert_msg(tasks[i].told == told, "%d: told %d times", i, tasks[i].told);
        ck_assert_msg(told == 0 || tasks[i].ran == (worked > 0), "%d: ran is wrong", i);
    }
}

static bool sanitized(void)
{
    const char *sanitizers = getenv("SAN");
    return sanitizers && *sanitizers;
}

/* How many threads this program has; -1 where nobody tells, or with ThreadSanitizer, which has one
 * of its own. A thread that was joined may be on the list for a moment still. */
static int threads_now(void)
{
    int count = -2; /* "." and ".." */
    DIR *folder = sanitized() ? NULL : opendir("/proc/self/task");
    if (!folder)
        return -1;
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void await_threads(int number)
{
    if (threads_now() >= 0)
        await(threads_now, number);
}

/* --- where things are called --- */

START_TEST(work_on_a_thread_done_on_the_loops)
{
    make_pool(4, 100);
    for (int i = 0; i < 100; i++)
        ck_assert(submit(i, false));
    run_until_told(100);
    assert_tasks(0, 100, 1, 1);
    for (int i = 0; i < 100; i++) {
        ck_assert(!pthread_equal(tasks[i].worker, pthread_self()));
        ck_assert(pthread_equal(tasks[i].teller, pthread_self()));
    }
    free_pool(true);
}
END_TEST

START_TEST(nothing_is_told_within_submit)
{
    make_pool(1, 10);
    ck_assert(submit(0, false));
    await(ran_so_far, 1);
    ck_assert(submit(1, false));
    await(ran_so_far, 2);
    ck_assert_int_eq(told_in_all, 0); /* that is for the loop */
    run_until_told(2);
    free_pool(true);
}
END_TEST

static int rings;

static void ring(struct loop *its_loop, void *arg)
{
    if (++rings == 20)
        permit(1);
    else
        ck_assert(timer_start(its_loop, arg, 1));
}

/* The job waits until the loop has rung its timer twenty times. */
START_TEST(the_loop_is_free_while_a_job_blocks)
{
    struct timer timer = {.callback = ring, .arg = &timer};
    make_pool(1, 1);
    ck_assert(submit(0, true));
    ck_assert(timer_start(loop, &timer, 1));
    run_until_told(1);
    ck_assert_int_eq(rings, 20);
    free_pool(true);
}
END_TEST

/* --- how many --- */

static const int sizes[] = {1, 2, 7, 40};

START_TEST(as_many_at_once_as_there_are_threads)
{
    int threads = sizes[_i], before = threads_now();
    make_pool(threads, 2 * threads);
    for (int i = 0; i < 3 * threads; i++)
        ck_assert(submit(i, true));
    for (int round = 0; round < 3; round++) {
        await(inside_gate, threads);
        ck_assert_int_eq(busy(), threads);
        int waiting = (2 - round) * threads;
        ck_assert_int_eq(queued(), waiting);
        permit(threads);
        await(ran_so_far, 3 * threads - waiting);
    }
    ck_assert_int_eq(gate.most, threads);
    await_threads(before < 0 ? -1 : before + threads); /* no more have been started */
    run_until_told(3 * threads);
    assert_tasks(0, 3 * threads, 1, 1);
    free_pool(true);
    await_threads(before);
}
END_TEST

static const struct {
    int threads, queue;
} rooms[] = {{1, 1}, {1, 5}, {2, 1}, {3, 10}, {40, 100}};

START_TEST(threads_and_queue_is_all_that_is_accepted)
{
    int room = rooms[_i].threads + rooms[_i].queue;
    make_pool(rooms[_i].threads, rooms[_i].queue);
    for (int i = 0; i < room; i++) /* however few of them a thread has taken by now */
        ck_assert_msg(submit(i, true), "%d of %d was refused", i + 1, room);
    ck_assert(!submit(room, true));
    await(busy, rooms[_i].threads);
    ck_assert(!submit(room, true)); /* and the same when all threads have taken one */
    ck_assert_int_eq(queued(), rooms[_i].queue);

    permit(1); /* one leaves, one may come */
    await(ran_so_far, 1);
    ck_assert(submit(room, true));
    ck_assert(!submit(room + 1, true));
    permit(room);
    run_until_told(room + 1);
    assert_tasks(0, room + 1, 1, 1);
    assert_tasks(room + 1, room + 2, 0, 0);
    free_pool(true);
}
END_TEST

START_TEST(first_come_first_served)
{
    make_pool(1, 200);
    occupy(1);
    for (int i = 1; i < 200; i++)
        ck_assert(submit(i, false));
    permit(1);
    run_until_told(200);
    for (int i = 0; i < 200; i++)
        ck_assert_int_eq(started[i], i);
    free_pool(true);
}
END_TEST

START_TEST(counts_add_up)
{
    make_pool(2, 10);
    struct threadpool_counts counts = threadpool_counts(pool);
    ck_assert_int_eq(counts.size, 2);
    ck_assert_int_eq(counts.busy + counts.queued + (int)counts.done, 0);
    occupy(2);
    for (int i = 2; i < 7; i++)
        ck_assert(submit(i, true));
    ck_assert(threadpool_cancel(pool, &tasks[6].job));
    for (int ran = 0; ran <= 6; ran++) {
        await(ran_so_far, ran);
        await(inside_gate, ran <= 4 ? 2 : 6 - ran);
        counts = threadpool_counts(pool);
        ck_assert_int_eq(counts.busy, ran <= 4 ? 2 : 6 - ran);
        ck_assert_int_eq(counts.queued, ran <= 4 ? 4 - ran : 0);
        ck_assert_int_eq(counts.size, 2);
        permit(1);
    }
    run_until_told(6);
    ck_assert_int_eq(ran_so_far(), 6); /* one that was cancelled has not run */
    free_pool(true);
}
END_TEST

/* --- no wake-up lost, and none too many --- */

START_TEST(a_burst_costs_one_wake_up)
{
    enum { BURST = 1000 };
    int bytes = 0;
    make_pool(4, BURST);
    for (int i = 0; i < BURST; i++)
        ck_assert(submit(i, false));
    await(ran_so_far, BURST); /* all are finished before the loop comes round */
    ck_assert_int_eq(ioctl(loop->pipe[0], FIONREAD, &bytes), 0);
    ck_assert_msg(bytes == 1, "%d bytes in the pipe", bytes);
    run_until_told(BURST);
    ck_assert_msg(loop->round <= 2, "%d rounds of the loop", (int)loop->round);
    assert_tasks(0, BURST, 1, 1);
    free_pool(true);
}
END_TEST

enum { TINY = 50000 };
static struct {
    struct job jobs[TINY];
    unsigned char worked[TINY], told[TINY];
    int next; /* to be submitted */
} tiny;

static void tiny_work(void *arg)
{
    (*(unsigned char *)arg)++;
}

static void submit_tiny(void);

static void tiny_done(void *arg, bool ran)
{
    ck_assert(ran && *(unsigned char *)arg == 1);
    tiny.told[(unsigned char *)arg - tiny.worked]++;
    submit_tiny();
    count_told();
}

/* As many as there is room for. */
static void submit_tiny(void)
{
    for (; tiny.next < TINY; tiny.next++) {
        struct job *job = &tiny.jobs[tiny.next];
        *job = (struct job){.work = tiny_work, .done = tiny_done};
        job->arg = &tiny.worked[tiny.next];
        if (!threadpool_submit(pool, job))
            return;
    }
}

static const struct {
    int threads, queue;
} crowds[] = {{1, 1}, {1, TINY}, {2, 1}, {4, 100}, {40, 1024}};

START_TEST(fifty_thousand_tiny_jobs)
{
    make_pool(crowds[_i].threads, crowds[_i].queue);
    submit_tiny();
    run_until_told(TINY);
    ck_assert_int_eq(ran_so_far(), TINY);
    for (int i = 0; i < TINY; i++)
        ck_assert_msg(tiny.worked[i] == 1 && tiny.told[i] == 1, "%d: %d times, told %d times", i,
                      tiny.worked[i], tiny.told[i]);
    occupy(crowds[_i].threads); /* all of them are still there */
    permit(crowds[_i].threads);
    free_pool(true);
}
END_TEST

static void done_again(void *arg, bool ran)
{
    struct task *task = arg;
    ck_assert(ran);
    task->told++;
    ck_assert_int_eq(task->worked, task->told);
    if (task->told < 10000)
        ck_assert(threadpool_submit(pool, &task->job));
    count_told();
}

/* The loop sleeps before each, and nothing else would wake it. */
START_TEST(done_submits_the_same_job_again)
{
    make_pool(1, 1);
    tasks[0].job = (struct job){.work = work, .done = done_again, .arg = &tasks[0]};
    ck_assert(threadpool_submit(pool, &tasks[0].job));
    run_until_told(10000);
    ck_assert_int_eq(tasks[0].worked, 10000);
    ck_assert_int_eq(tasks[0].told, 10000);
    free_pool(true);
}
END_TEST

static void done_once_more(void *arg, bool ran)
{
    struct task *task = arg;
    done(arg, ran);
    ck_assert(task->told == 2 || threadpool_submit(pool, &task->job));
}

/* The others of the same burst are still to be told then. */
START_TEST(done_submits_again_in_a_burst)
{
    make_pool(2, 50);
    for (int i = 0; i < 50; i++) {
        tasks[i].job = (struct job){.work = work, .done = done_once_more, .arg = &tasks[i]};
        ck_assert(threadpool_submit(pool, &tasks[i].job));
    }
    await(ran_so_far, 50);
    run_until_told(100);
    assert_tasks(0, 50, 2, 2);
    free_pool(true);
}
END_TEST

static void done_and_freed(void *arg, bool ran)
{
    ck_assert(ran);
    free(arg);
    count_told();
}

static void free_nothing(void *arg)
{
    (void)arg;
}

START_TEST(done_may_free_the_job)
{
    make_pool(4, 100);
    for (int i = 0; i < 100; i++) {
        struct job *job = calloc(1, sizeof *job);
        ck_assert_ptr_nonnull(job);
        *job = (struct job){.work = free_nothing, .done = done_and_freed, .arg = job};
        ck_assert(threadpool_submit(pool, job));
    }
    await(ran_so_far, 100); /* so that one list holds them all */
    run_until_told(100);
    free_pool(true);
}
END_TEST

START_TEST(two_pools_on_one_loop)
{
    make_pool(2, 10);
    struct threadpool *first = pool;
    pool = threadpool_new(loop, 3, 10);
    ck_assert_ptr_nonnull(pool);
    ck_assert(submit(0, false) && submit(1, false));
    struct threadpool *second = pool;
    pool = first;
    ck_assert(submit(2, false));
    run_until_told(3);
    ck_assert_int_eq((int)threadpool_counts(first).done, 1);
    ck_assert_int_eq((int)threadpool_counts(second).done, 2);
    threadpool_free(second, true);
    ck_assert(submit(3, false)); /* the other one is not troubled */
    run_until_told(4);
    free_pool(true);
}
END_TEST

/* --- taking back --- */

/* Tasks 1 to 5 wait; those in `which` are taken back, in that order. */
static const char *const taken_back[] = {"1", "3", "5", "15", "51", "24", "54321", "12345", "314"};

START_TEST(what_waits_can_be_taken_back)
{
    const char *which = taken_back[_i];
    int expected = 7;
    make_pool(1, 6);
    occupy(1);
    for (int i = 1; i <= 5; i++)
        ck_assert(submit(i, false));
    for (const char *digit = which; *digit; digit++, expected--) {
        int before = queued();
        ck_assert(threadpool_cancel(pool, &tasks[*digit - '0'].job));
        ck_assert_int_eq(queued(), before - 1);
        ck_assert(!threadpool_cancel(pool, &tasks[*digit - '0'].job)); /* it is not there now */
    }
    ck_assert(submit(6, false)); /* behind what is left */
    permit(1);
    run_until_told(expected);
    for (int i = 0, last = -1; i < expected; last = started[i++])
        ck_assert_int_gt(started[i], last);
    for (int i = 1; i <= 5; i++) {
        bool left = !strchr(which, '0' + i);
        assert_tasks(i, i + 1, left, left);
    }
    assert_tasks(6, 7, 1, 1);
    free_pool(true);
    ck_assert_int_eq(told_in_all, expected);
}
END_TEST

START_TEST(taking_back_frees_the_place)
{
    make_pool(1, 2);
    occupy(1);
    ck_assert(submit(1, false) && submit(2, false) && !submit(3, false));
    ck_assert(threadpool_cancel(pool, &tasks[1].job));
    ck_assert(submit(3, false));
    ck_assert(!submit(1, false));
    ck_assert(threadpool_cancel(pool, &tasks[3].job));
    ck_assert(submit(1, false)); /* a job that was taken back may come again */
    permit(1);
    run_until_told(3);
    assert_tasks(0, 3, 1, 1);
    assert_tasks(3, 4, 0, 0);
    free_pool(true);
}
END_TEST

START_TEST(what_has_run_may_come_again)
{
    make_pool(1, 2);
    ck_assert(submit(1, false));
    run_until_told(1);
    occupy(1);
    ck_assert(submit(1, false));
    ck_assert(threadpool_cancel(pool, &tasks[1].job)); /* this time it has not */
    ck_assert(submit(1, false));
    permit(1);
    free_pool(false); /* either finished or dropped: but not both */
    ck_assert_int_eq(tasks[1].told, 2);
    ck_assert_int_eq(tasks[1].ran, tasks[1].worked == 2);
}
END_TEST

START_TEST(too_late_to_take_back)
{
    make_pool(1, 1);
    ck_assert(!threadpool_cancel(pool, &tasks[0].job)); /* never submitted */
    occupy(1);
    ck_assert(!threadpool_cancel(pool, &tasks[0].job)); /* it runs */
    permit(1);
    await(ran_so_far, 1);
    ck_assert(!threadpool_cancel(pool, &tasks[0].job)); /* it has run, which is still to be told */
    run_until_told(1);
    ck_assert(!threadpool_cancel(pool, &tasks[0].job)); /* it was told */
    assert_tasks(0, 1, 1, 1);
    ck_assert_int_eq(queued(), 0);
    free_pool(true);
}
END_TEST

static void done_takes_back(void *arg, bool ran)
{
    done(arg, ran);
    for (int i = 0; i < 10; i++)
        ck_assert(!threadpool_cancel(pool, &tasks[i].job));
}

/* All ten have run, some have been told, the others are about to be. */
START_TEST(done_may_try_to_take_back_others)
{
    make_pool(1, 10);
    for (int i = 0; i < 10; i++) {
        tasks[i].job = (struct job){.work = work, .done = done_takes_back, .arg = &tasks[i]};
        ck_assert(threadpool_submit(pool, &tasks[i].job));
    }
    await(ran_so_far, 10);
    run_until_told(10);
    assert_tasks(0, 10, 1, 1);
    free_pool(true);
}
END_TEST

/* Taken back while the thread reaches for it: either it has run and was told, or neither. */
START_TEST(taken_back_or_told_never_both)
{
    int back = 0;
    make_pool(2, 10);
    for (int i = 0; i < 5000; i++) {
        ck_assert(submit(0, false));
        for (int spin = i % 50 * 20; spin > 0; spin--)
            __asm__ volatile("" ::: "memory");
        if (threadpool_cancel(pool, &tasks[0].job))
            back++;
        else
            run_until_told(i - back + 1);
    }
    free_pool(true);
    ck_assert_int_eq(tasks[0].worked, 5000 - back);
    ck_assert_int_eq(tasks[0].told, 5000 - back);
}
END_TEST

/* --- the end --- */

START_TEST(an_idle_pool_ends)
{
    int before = threads_now();
    for (int i = 0; i < 20; i++) { /* some are freed before all their threads have begun */
        make_pool(40, 1);
        free_pool(i % 2);
    }
    await_threads(before);
}
END_TEST

/* A thread of its own, since the test's is in threadpool_free(). */
static void *permit_later(void *arg)
{
    sleep_for(0.2);
    permit(*(int *)arg);
    return NULL;
}

static void free_while_working(bool finish, int permits)
{
    pthread_t helper;
    ck_assert_int_eq(pthread_create(&helper, NULL, permit_later, &permits), 0);
    while (!threadpool_free(pool, finish)) /* a busy machine may be late with the permits */
        ck_assert(!finish);
    loop_free(loop);
    ck_assert_int_eq(inside_gate(), 0); /* waited for */
    pthread_join(helper, NULL);
}

START_TEST(what_waits_is_finished)
{
    make_pool(2, 50);
    occupy(2);
    for (int i = 2; i < 50; i++)
        ck_assert(submit(i, i % 2));
    free_while_working(true, 50);
    assert_tasks(0, 50, 1, 1);
}
END_TEST

START_TEST(what_waits_is_dropped)
{
    make_pool(2, 50);
    occupy(2);
    for (int i = 2; i < 50; i++)
        ck_assert(submit(i, i % 2));
    free_while_working(false, 50);
    assert_tasks(0, 2, 1, 1);
    assert_tasks(2, 50, 0, 1);
    for (int i = 0; i < 50; i++)
        ck_assert(pthread_equal(tasks[i].teller, pthread_self()));
}
END_TEST

/* Nobody can stop it, and the program is to end: within one second in all. */
START_TEST(a_job_that_blocks_is_not_waited_for)
{
    make_pool(2, 50);
    occupy(2);
    for (int i = 2; i < 50; i++)
        ck_assert(submit(i, false));
    double start = now();
    ck_assert(!threadpool_free(pool, false));
    double spent = now() - start;
    ck_assert_msg(spent > 0.3 && spent < 10, "%.1f s", spent);
    assert_tasks(2, 50, 0, 1);
    ck_assert_int_eq(told_in_all, 48);
    ck_assert(!submit(2, false));
    permit(2);
    await(inside_gate, 0);
    free_pool(false);
    assert_tasks(0, 2, 1, 1);
}
END_TEST

START_TEST(what_was_not_told_is_told_at_the_end)
{
    make_pool(1, 10);
    for (int i = 0; i < 5; i++)
        ck_assert(submit(i, false));
    await(ran_so_far, 5);
    free_pool(_i);
    assert_tasks(0, 5, 1, 1);
}
END_TEST

static bool accepted_at_the_end;

static void done_submits_at_the_end(void *arg, bool ran)
{
    done(arg, ran);
    accepted_at_the_end = accepted_at_the_end || submit(1, false);
}

/* No thread is left to do it: to accept it would be to forget it. */
START_TEST(nothing_is_accepted_at_the_end)
{
    make_pool(1, 10);
    tasks[0].job = (struct job){.work = work, .done = done_submits_at_the_end, .arg = &tasks[0]};
    ck_assert(threadpool_submit(pool, &tasks[0].job));
    await(ran_so_far, 1);
    free_pool(_i);
    ck_assert_int_eq(tasks[0].told, 1);
    ck_assert_int_eq(tasks[1].told, accepted_at_the_end);
}
END_TEST

static bool taken_back_at_the_end;

static void done_takes_back_at_the_end(void *arg, bool ran)
{
    done(arg, ran);
    if (arg == &tasks[1])
        taken_back_at_the_end =
            threadpool_cancel(pool, &tasks[2].job) || threadpool_cancel(pool, &tasks[3].job);
}

/* Dropped is dropped: they are told one by one, and none can be taken back in between. */
START_TEST(what_is_dropped_cannot_be_taken_back)
{
    make_pool(1, 10);
    occupy(1);
    for (int i = 1; i < 5; i++) {
        tasks[i].job = (struct job){.work = work, .done = done_takes_back_at_the_end};
        tasks[i].job.arg = &tasks[i];
        ck_assert(threadpool_submit(pool, &tasks[i].job));
    }
    free_while_working(false, 1);
    ck_assert(!taken_back_at_the_end);
    assert_tasks(1, 5, 0, 1);
}
END_TEST

/* --- signals, and not enough of everything --- */

static sigset_t blocked_in_work;
static volatile sig_atomic_t signals;
static pthread_t signalled;

static void look_at_mask(void *arg)
{
    (void)arg;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked_in_work);
}

static void on_signal(int number)
{
    (void)number;
    signals++;
    signalled = pthread_self();
}

START_TEST(signals_are_the_loops)
{
    static const int ours[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGALRM, SIGCHLD};
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    make_pool(8, 10);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    tasks[0].job = (struct job){.work = look_at_mask, .done = done, .arg = &tasks[0]};
    ck_assert(threadpool_submit(pool, &tasks[0].job));
    run_until_told(1);
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        ck_assert(sigismember(&blocked_in_work, ours[i]) == 1);
        ck_assert_int_eq(sigismember(&after, ours[i]), sigismember(&before, ours[i]));
    }
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_signal}, NULL);
    for (int i = 1; i <= 100; i++) {
        kill(getpid(), SIGUSR1); /* to the process: any thread would do that lets it through */
        ck_assert_int_eq(signals, i);
        ck_assert(pthread_equal(signalled, pthread_self()));
    }
    free_pool(true);
}
END_TEST

/* A thread needs address space for its stack. Some can be started here, a thousand cannot. */
START_TEST(threads_that_cannot_be_started)
{
    struct rlimit limit;
    if (sanitized()) /* they need more of it than is left */
        return;
    int before = threads_now();
    loop = loop_new(NULL);
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &limit), 0);
    limit.rlim_cur = (rlim_t)1 << 28;
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
    errno = 0;
    ck_assert_ptr_null(threadpool_new(loop, 1000, 1));
    ck_assert_int_eq(errno, EAGAIN);
    await_threads(before);
    pool = threadpool_new(loop, 2, 1); /* and nothing is broken */
    ck_assert_ptr_nonnull(pool);
    ck_assert(submit(0, false));
    run_until_told(1);
    free_pool(true);
}
END_TEST

/* --- the suite --- */

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

static void add_case(Suite *suite, TCase *tcase)
{
    tcase_set_timeout(tcase, PLENTY);
    suite_add_tcase(suite, tcase);
}

static Suite *threadpool_suite(void)
{
    Suite *suite = suite_create("threadpool");
    TCase *running = tcase_create("running"), *many = tcase_create("many");
    TCase *cancel = tcase_create("cancel"), *ending = tcase_create("ending");
    tcase_add_test(running, work_on_a_thread_done_on_the_loops);
    tcase_add_test(running, nothing_is_told_within_submit);
    tcase_add_test(running, the_loop_is_free_while_a_job_blocks);
    tcase_add_loop_test(running, as_many_at_once_as_there_are_threads, 0, COUNT(sizes));
    tcase_add_loop_test(running, threads_and_queue_is_all_that_is_accepted, 0, COUNT(rooms));
    tcase_add_test(running, first_come_first_served);
    tcase_add_test(running, counts_add_up);
    add_case(suite, running);

    tcase_add_test(many, a_burst_costs_one_wake_up);
    tcase_add_loop_test(many, fifty_thousand_tiny_jobs, 0, COUNT(crowds));
    tcase_add_test(many, done_submits_the_same_job_again);
    tcase_add_test(many, done_submits_again_in_a_burst);
    tcase_add_test(many, done_may_free_the_job);
    tcase_add_test(many, two_pools_on_one_loop);
    add_case(suite, many);

    tcase_add_loop_test(cancel, what_waits_can_be_taken_back, 0, COUNT(taken_back));
    tcase_add_test(cancel, taking_back_frees_the_place);
    tcase_add_test(cancel, what_has_run_may_come_again);
    tcase_add_test(cancel, too_late_to_take_back);
    tcase_add_test(cancel, done_may_try_to_take_back_others);
    tcase_add_test(cancel, taken_back_or_told_never_both);
    add_case(suite, cancel);

    tcase_add_test(ending, an_idle_pool_ends);
    tcase_add_test(ending, what_waits_is_finished);
    tcase_add_test(ending, what_waits_is_dropped);
    tcase_add_test(ending, a_job_that_blocks_is_not_waited_for);
    tcase_add_loop_test(ending, what_was_not_told_is_told_at_the_end, 0, 2);
    tcase_add_loop_test(ending, nothing_is_accepted_at_the_end, 0, 2);
    tcase_add_test(ending, what_is_dropped_cannot_be_taken_back);
    tcase_add_test(ending, signals_are_the_loops);
    tcase_add_test(ending, threads_that_cannot_be_started);
    add_case(suite, ending);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(threadpool_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
