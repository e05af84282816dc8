/*
 * Threads for what blocks: a fixed number of them takes jobs from a bounded queue, and what each
 * has done is told to the loop, in the loop's thread.
 *
 * All functions belong to the loop's thread; only job->work runs elsewhere. Jobs belong to the
 * caller, usually as a member of something larger, and have to stay where they are from
 * threadpool_submit() until `done` is called or threadpool_cancel() has succeeded.
 */
#ifndef THREADPOOL_H
#define THREADPOOL_H

#include "loop.h"

struct threadpool;

struct job {
    void (*work)(void *arg); /* in a thread of the pool: may block, must not touch the loop */
    /* In the loop's thread, once: the work is done, or, if ran is false, never will be, for the
     * pool was freed. What work has written is seen here. */
    void (*done)(void *arg, bool ran);
    void *arg;
    /* the pool's own: */
    struct job *next, **link; /* link: what points at this one, while it waits; else NULL */
    bool ran;
};

/* Starts that many threads (1 or more). Besides those that run, at most queue_max jobs (1 or more)
 * are accepted. Returns NULL with errno set when there is no memory or a thread cannot be started.
 * Fork before, not after: a child has only the thread that called fork(), and whatever lock another
 * one held stays locked there for ever. */
struct threadpool *threadpool_new(struct loop *loop, int threads, int queue_max);

/* Ends the pool. With finish set all jobs are done first, however long that takes; otherwise those
 * that wait are dropped, and those that run have half a second to end. Then calls `done` for all
 * that had not been told. Returns false if a job runs on: nobody can stop it, so the pool stays,
 * and neither the loop nor what that job uses may be freed. The program can then end with _exit(0),
 * or call this again later. */
bool threadpool_free(struct threadpool *pool, bool finish);

/* Has job->work(job->arg) called by a thread, and then job->done() by the loop. Returns false if
 * the queue is full. */
bool threadpool_submit(struct threadpool *pool, struct job *job);

/* Takes back a job that no thread has started yet. Returns false if it is too late (or the job was
 * never submitted): a job that runs cannot be stopped, and `done` will be called. */
bool threadpool_cancel(struct threadpool *pool, struct job *job);

/* The same for somebody who may not be there any more, and costs nothing while there is a thread
 * for everybody: takes the job back only if there are more jobs than threads. */
bool threadpool_give_up(struct threadpool *pool, struct job *job);

struct threadpool_counts {
    int size, busy, queued;  /* threads, jobs that run, jobs that wait */
    unsigned long long done; /* jobs that have run so far */
};
struct threadpool_counts threadpool_counts(struct threadpool *pool);

#endif
