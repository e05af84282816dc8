/*
 * Two lists and a lock. Jobs that wait are in one list, jobs that have run in the other; threads
 * move them from the first to the second, and the loop fills the first and empties the second.
 */
#include "threadpool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

enum { END_MS = 500 }; /* that a running job has when the pool is to end */

struct list {
    struct job *first, **end;
};

struct threadpool {
    struct loop *loop;
    struct wakeup finished_some;
    int room; /* jobs that are accepted, those that run included */

    /* Held for a few instructions at a time, never while a job runs or `done` is called. Guards all
     * below, and next, link and ran of every job in a list. */
    pthread_mutex_t lock;
    pthread_cond_t work_to_do; /* see wake_one(); and when stopping is set */
    pthread_cond_t job_ended;  /* told when stopping is set */
    struct list waiting, finished;
    int queued, busy;
    int asleep;  /* threads that wait for work_to_do */
    bool waking; /* one of them has been called, and has not come yet */
    unsigned long long done;
    bool stopping;

    int size;
    pthread_t threads[];
};

/* --- lists: to be called with the lock held --- */

static void append(struct list *list, struct job *job)
{
    job->next = NULL;
    job->link = list->end;
    *list->end = job;
    list->end = &job->next;
}

static void take_out(struct list *list, struct job *job)
{
    *job->link = job->next;
    if (job->next)
        job->next->link = job->link;
    else
        list->end = job->link;
    job->link = NULL;
}

/* To be called with the lock held. Calls one thread at a time: it calls the next one, if there is
 * still something to do when it comes. For jobs that block, all threads are up in a moment; of jobs
 * that are done at once, the first thread does them all, and the others sleep on. */
static void wake_one(struct threadpool *pool)
{
    if (pool->waiting.first && pool->asleep > 0 && !pool->waking) {
        pool->waking = true;
        pthread_cond_signal(&pool->work_to_do);
    }
}

/* --- in the threads --- */

static void *run_jobs(void *arg)
{
    struct threadpool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->waiting.first && !pool->stopping) {
            pool->asleep++;
            pthread_cond_wait(&pool->work_to_do, &pool->lock); /* gives the lock away meanwhile */
            pool->asleep--;
            pool->waking = false;
        }
        struct job *job = pool->waiting.first;
        if (!job)
            break;
        take_out(&pool->waiting, job);
        pool->queued--;
        pool->busy++;
        wake_one(pool);
        pthread_mutex_unlock(&pool->lock);

        job->work(job->arg);

        pthread_mutex_lock(&pool->lock);
        job->ran = true;
        pool->busy--;
        pool->done++;
        append(&pool->finished, job);
        if (pool->stopping)
            pthread_cond_signal(&pool->job_ended);
        wakeup_send(&pool->finished_some); /* once for all that finish until the loop comes */
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* --- in the loop's thread --- */

/* Takes the whole list at once, so that the threads are held up once a burst, and `done` may submit
 * new jobs. */
static void tell_finished(struct loop *loop, void *arg)
{
    (void)loop;
    struct threadpool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    struct job *job = pool->finished.first;
    pool->finished = (struct list){NULL, &pool->finished.first};
    pthread_mutex_unlock(&pool->lock);
    while (job) {
        struct job *next = job->next; /* `done` may free the job */
        job->link = NULL;
        job->done(job->arg, job->ran);
        job = next;
    }
}

bool threadpool_submit(struct threadpool *pool, struct job *job)
{
    pthread_mutex_lock(&pool->lock);
    bool room = !pool->stopping && pool->queued + pool->busy < pool->room;
    if (room) {
        job->ran = false;
        append(&pool->waiting, job);
        pool->queued++;
        wake_one(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    return room;
}

bool threadpool_cancel(struct threadpool *pool, struct job *job)
{
    pthread_mutex_lock(&pool->lock);
    bool waits = job->link && !job->ran && !pool->stopping;
    if (waits) {
        take_out(&pool->waiting, job);
        pool->queued--;
    }
    pthread_mutex_unlock(&pool->lock);
    return waits;
}

bool threadpool_give_up(struct threadpool *pool, struct job *job)
{
    struct threadpool_counts counts = threadpool_counts(pool);
    return counts.busy + counts.queued > counts.size && threadpool_cancel(pool, job);
}

struct threadpool_counts threadpool_counts(struct threadpool *pool)
{
    pthread_mutex_lock(&pool->lock);
    struct threadpool_counts counts = {pool->size, pool->busy, pool->queued, pool->done};
    pthread_mutex_unlock(&pool->lock);
    return counts;
}

/* Signals are for the thread of the loop: the others have them blocked from birth. */
static bool start_threads(struct threadpool *pool, int threads)
{
    sigset_t all, before;
    int error = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->size < threads && error == 0) {
        error = pthread_create(&pool->threads[pool->size], NULL, run_jobs, pool);
        pool->size += error == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return error == 0;
}

struct threadpool *threadpool_new(struct loop *loop, int threads, int queue_max)
{
    struct threadpool *pool = calloc(1, sizeof *pool + (size_t)threads * sizeof pool->threads[0]);
    if (!pool)
        return NULL;
    pool->loop = loop;
    pool->room = threads + queue_max;
    pool->waiting.end = &pool->waiting.first;
    pool->finished.end = &pool->finished.first;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work_to_do, NULL);
    pthread_cond_init(&pool->job_ended, NULL);
    pool->finished_some = (struct wakeup){.callback = tell_finished, .arg = pool};
    wakeup_add(loop, &pool->finished_some);
    if (!start_threads(pool, threads)) {
        int reason = errno;
        threadpool_free(pool, false);
        errno = reason;
        return NULL;
    }
    return pool;
}

/* To be called with the lock held. Waits until no job runs or waits any more: for ever if finish is
 * set, otherwise for END_MS. Returns whether that came. */
static bool wait_for_end(struct threadpool *pool, bool finish)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end); /* the clock of pthread_cond_timedwait() */
    end.tv_nsec += END_MS * 1000000L;
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    int error = 0;
    while ((pool->waiting.first || pool->busy > 0) && error == 0)
        error = finish ? pthread_cond_wait(&pool->job_ended, &pool->lock)
                       : pthread_cond_timedwait(&pool->job_ended, &pool->lock, &end);
    return error == 0;
}

bool threadpool_free(struct threadpool *pool, bool finish)
{
    pthread_mutex_lock(&pool->lock);
    while (!finish && pool->waiting.first) {
        struct job *job = pool->waiting.first;
        take_out(&pool->waiting, job);
        pool->queued--;
        append(&pool->finished, job);
    }
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work_to_do);
    bool ended = wait_for_end(pool, finish);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; ended && i < pool->size; i++)
        pthread_join(pool->threads[i], NULL);
    tell_finished(pool->loop, pool);
    if (!ended)
        return false;
    wakeup_remove(&pool->finished_some);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->work_to_do);
    pthread_cond_destroy(&pool->job_ended);
    free(pool);
    return true;
}
