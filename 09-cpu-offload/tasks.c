#include "tasks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if __has_include(<sys/random.h>)
#include <sys/random.h> /* getentropy(), where <unistd.h> does not have it */
#endif

enum { ROWS = 16384 }; /* of the hash table: a power of two */

struct tasks {
    struct loop *loop;
    struct procpool *pool;
    struct timer expiry; /* for the oldest result */
    struct task *oldest, **newest;
    struct tasks_counts counts;
    struct task *rows[ROWS];
};

/* The id is random already: its first digits will do. */
static struct task **row_of(struct tasks *tasks, const char *id)
{
    char digits[5] = "";
    memcpy(digits, id, strnlen(id, 4));
    return &tasks->rows[strtoul(digits, NULL, 16) % ROWS];
}

static void forget(struct task *task)
{
    struct task **link = row_of(task->tasks, task->id);
    while (*link != task)
        link = &(*link)->next_in_row;
    *link = task->next_in_row;
    free(task);
}

static void forget_oldest(struct tasks *tasks)
{
    struct task *task = tasks->oldest;
    tasks->oldest = task->next_to_expire;
    if (!tasks->oldest)
        tasks->newest = &tasks->oldest;
    tasks->counts.kept--;
    forget(task);
}

static void expire(struct loop *loop, void *arg)
{
    struct tasks *tasks = arg;
    const int64_t now = loop_clock(), kept = (int64_t)TASK_KEPT_MS * 1000000;
    while (tasks->oldest && now - tasks->oldest->finished >= kept)
        forget_oldest(tasks);
    if (tasks->oldest)
        timer_start(loop, &tasks->expiry, (tasks->oldest->finished + kept - now) / 1000000 + 1);
}

/* The result joins those that are kept. */
static void task_over(void *arg, enum procjob_end end, const void *output, size_t length)
{
    static const char *const reasons[] = {
        [PROCJOB_CRASHED] = "its worker died, and so did the one that tried again",
        [PROCJOB_TIMED_OUT] = "it took too long; its worker was killed",
        [PROCJOB_NO_WORKER] = "no worker had time for it",
        [PROCJOB_DROPPED] = "the server has ended",
    };
    struct task *task = arg;
    struct tasks *tasks = task->tasks;
    bool done = end == PROCJOB_DONE && length < sizeof task->result;
    task->state = done ? TASK_DONE : TASK_FAILED;
    if (done)
        memcpy(task->result, output, length);
    else
        snprintf(task->result, sizeof task->result, "%s",
                 end == PROCJOB_DONE ? "its result is too long" : reasons[end]);
    task->finished = loop_clock();
    task->next_to_expire = NULL;
    *tasks->newest = task;
    tasks->newest = &task->next_to_expire;
    tasks->counts.processing--;
    tasks->counts.kept++;
    if (tasks->counts.kept > TASKS_KEPT)
        forget_oldest(tasks);
    if (tasks->expiry.place == 0)
        expire(tasks->loop, tasks);
}

struct tasks *tasks_new(struct loop *loop, struct procpool *pool)
{
    struct tasks *tasks = calloc(1, sizeof *tasks);
    if (!tasks)
        return NULL;
    tasks->loop = loop;
    tasks->pool = pool;
    tasks->newest = &tasks->oldest;
    tasks->expiry = (struct timer){.callback = expire, .arg = tasks};
    return tasks;
}

void tasks_free(struct tasks *tasks)
{
    timer_stop(tasks->loop, &tasks->expiry);
    while (tasks->oldest)
        forget_oldest(tasks);
    free(tasks);
}

/* An id that cannot be guessed: whoever knows it may see the result. */
static bool make_id(char id[TASK_ID_SIZE])
{
    unsigned char bits[16];
    if (getentropy(bits, sizeof bits) < 0)
        return false;
    for (size_t i = 0; i < sizeof bits; i++)
        snprintf(id + 2 * i, 3, "%02x", bits[i]);
    return true;
}

const struct task *tasks_post(struct tasks *tasks, uint64_t n)
{
    struct task *task = calloc(1, sizeof *task);
    if (!task || !make_id(task->id)) {
        free(task);
        errno = ENOMEM;
        return NULL;
    }
    task->tasks = tasks;
    task->n = n;
    task->job = (struct procjob){
        .input = &task->n, .length = sizeof task->n, .done = task_over, .arg = task};
    struct task **row = row_of(tasks, task->id);
    task->next_in_row = *row;
    *row = task;
    tasks->counts.processing++;
    if (procpool_submit(tasks->pool, &task->job))
        return task;
    tasks->counts.processing--;
    forget(task);
    errno = EAGAIN;
    return NULL;
}

const struct task *tasks_find(struct tasks *tasks, const char *id)
{
    struct task *task = *row_of(tasks, id);
    while (task && strcmp(task->id, id) != 0)
        task = task->next_in_row;
    return task;
}

struct tasks_counts tasks_counts(const struct tasks *tasks)
{
    return tasks->counts;
}
