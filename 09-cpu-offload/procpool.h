/*
 * Processes for what computes: a fixed number of workers, each with one job at
 * a time, and a bounded queue in front of them. A worker that crashes, hangs or
 * talks nonsense is replaced, and costs its own job only. So is the helper that
 * starts them. Descriptors for all of them are kept back from the beginning: no
 * client can take them.
 *
 * The program's main() has to begin with helper_main() (worker.h), and to ignore
 * SIGPIPE, which sending to a dead worker would raise.
 *
 * All functions belong to the loop's thread. Jobs belong to the caller, usually
 * as a member of something larger, and have to stay where they are from
 * procpool_submit() until `done` is called or procpool_cancel() has succeeded.
 */
#ifndef PROCPOOL_H
#define PROCPOOL_H

#include "loop.h"
#include "worker.h"

struct procpool;

enum procjob_end {
    PROCJOB_DONE,
    PROCJOB_CRASHED,   /* its worker died, and so did the one that tried again */
    PROCJOB_TIMED_OUT, /* it took longer than allowed; its worker was killed */
    PROCJOB_NO_WORKER, /* it has waited for a worker for longer than allowed */
    PROCJOB_DROPPED    /* the pool was freed */
};

struct procjob {
    const void *input; /* of the worker's function; as long-lived as the job */
    size_t length;     /* bytes, at most FRAME_MAX */
    /* Once. output is what the worker's function wrote, length bytes of it, and
     * lasts until done returns; only with PROCJOB_DONE. */
    void (*done)(void *arg, enum procjob_end end, const void *output, size_t length);
    void *arg;
    /* the pool's own: */
    struct procjob *next, **link;
    struct procpool *pool;
    struct worker *worker; /* who does it; NULL: it waits */
    struct timer timer;    /* how long it may wait, then how long it may take */
    int64_t give_up;       /* on loop_clock(): by then a worker has to have it */
    bool tried;            /* a worker has died of it already */
};

struct procpool_options {
    int workers;    /* how many, 1 or more */
    int queue_max;  /* jobs that may wait, 1 or more */
    int timeout_ms; /* for each job: in the queue, and again when a worker has it */
    int max_jobs;   /* after so many a worker is replaced; 0: never */
};

/* Starts the helper, which starts the workers one after the other, and again
 * whenever one is lost. Returns NULL with errno set on failure. */
struct procpool *procpool_new(struct loop *loop, const struct procpool_options *options);

/* Kills all workers, waits for the helper to end, and kills it if it does not at
 * once. `done` is called for each job that was left. */
void procpool_free(struct procpool *pool);

/* Returns false if the queue is full, there is no memory, or no worker can be
 * had. */
bool procpool_submit(struct procpool *pool, struct procjob *job);

/* Why no worker can be had at the moment, as a text that lasts until the loop
 * goes on. NULL: there is one, or nothing says that there cannot be. It is tried
 * again and again; the first time is told on stderr, too. */
const char *procpool_error(const struct procpool *pool);

/* Takes back a job that no worker has yet. Returns false if it is too late:
 * done will be called. */
bool procpool_cancel(struct procpool *pool, struct procjob *job);

struct procpool_counts {
    int size, alive, busy, queued; /* workers wanted, there, with a job; jobs that wait */
    unsigned long long done;       /* jobs that were answered so far */
    unsigned long long lost;       /* workers that had to be replaced, for whatever reason */
};
struct procpool_counts procpool_counts(const struct procpool *pool);

/* The process ids of the workers there are, and whether each has a job; at most
 * room of them. Returns how many. For the live page. */
int procpool_workers(const struct procpool *pool, pid_t pids[], bool busy[], int room);

#endif
