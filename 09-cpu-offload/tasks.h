/*
 * The job queue's other half: tasks that were accepted, and what became of
 * them. Whoever posted one comes back with its id and asks (in the articles:
 * Celery and Redis, here: a table in memory). All functions belong to the
 * loop's thread.
 */
#ifndef TASKS_H
#define TASKS_H

#include "procpool.h"

enum {
    TASK_ID_SIZE = 33,         /* 128 random bits in hexadecimal, and the NUL */
    TASKS_KEPT = 10000,        /* results; the oldest makes room for a new one */
    TASK_KEPT_MS = 600 * 1000, /* results; ten minutes */
    TASK_RESULT_SIZE = 64
};

struct tasks;

enum task_state { TASK_PROCESSING, TASK_DONE, TASK_FAILED };

struct task {
    char id[TASK_ID_SIZE];
    enum task_state state;
    char result[TASK_RESULT_SIZE]; /* or why it failed */
    /* the table's own */
    struct tasks *tasks;
    struct task *next_in_row;    /* of the hash table */
    struct task *next_to_expire; /* among the results */
    int64_t finished;            /* loop_clock() */
    struct procjob job;
    uint64_t n;
};

/* Tasks are done by the pool, which has to be freed first. NULL: no memory. */
struct tasks *tasks_new(struct loop *loop, struct procpool *pool);
void tasks_free(struct tasks *tasks);

/* Accepts a task for the number n. Returns it, or NULL when the pool does not
 * take it (errno EAGAIN) or there is no memory (ENOMEM). An accepted task ends
 * as done or failed, whatever happens. */
const struct task *tasks_post(struct tasks *tasks, uint64_t n);

/* Returns the task, or NULL if there is none of that id (any more). */
const struct task *tasks_find(struct tasks *tasks, const char *id);

struct tasks_counts {
    unsigned processing, kept;
};
struct tasks_counts tasks_counts(const struct tasks *tasks);

#endif
