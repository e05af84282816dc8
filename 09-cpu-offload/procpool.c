/*
 * The server's side. A worker is a socket: a job goes out, its result comes back, and the end of
 * the stream means that the worker is dead. Nothing here ever waits.
 *
 * A worker's life:   ABSENT -> ordered from the helper -> its socket comes -> IDLE <-> BUSY
 *                       ^------------- end of stream, time-out, nonsense ---------------'
 */
#include "procpool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    RETRY_MS = 100
}; /* until a worker that could not be started, or died at once, is tried again */

struct worker {
    struct procpool *pool;
    int fd; /* -1: absent */
    pid_t pid;
    struct procjob *job;
    int jobs; /* done by this one */
    struct timer deadline;
    size_t sent, got; /* of the job's frame, and of the result's, head included */
    char out[sizeof(struct frame) + FRAME_MAX], in[sizeof(struct frame) + FRAME_MAX];
};

struct procpool {
    struct loop *loop;
    struct procpool_options options;
    int helper; /* -1: it is dead, and no worker can be had any more */
    pid_t helper_pid;
    int ordered;        /* workers that the helper has been told to start, and has not sent yet */
    struct timer retry; /* runs while there are fewer workers than there should be */
    struct procjob *first, **end;
    int queued, busy;
    uint64_t last_id;
    unsigned long long done, lost;
    struct worker workers[];
};

static void fill_up(struct procpool *pool);
static void give_jobs(struct procpool *pool);

/* --- the queue --- */

static void append(struct procpool *pool, struct procjob *job)
{
    job->next = NULL;
    job->link = pool->end;
    *pool->end = job;
    pool->end = &job->next;
    pool->queued++;
}

static void put_first(struct procpool *pool, struct procjob *job)
{
    job->next = pool->first;
    job->link = &pool->first;
    if (job->next)
        job->next->link = &job->next;
    else
        pool->end = &job->next;
    pool->first = job;
    pool->queued++;
}

static void take_out(struct procpool *pool, struct procjob *job)
{
    *job->link = job->next;
    if (job->next)
        job->next->link = job->link;
    else
        pool->end = job->link;
    job->link = NULL;
    pool->queued--;
}

/* --- a worker's end --- */

/* Closes the worker's socket, which ends it if it is waiting, and kills it if it is not. */
static void dismiss(struct worker *worker)
{
    struct procpool *pool = worker->pool;
    struct order order = {.what = 'k', .pid = worker->pid};
    loop_unwatch(pool->loop, worker->fd);
    close(worker->fd);
    worker->fd = -1;
    timer_stop(pool->loop, &worker->deadline);
    if (pool->helper >= 0 && send(pool->helper, &order, sizeof order, MSG_DONTWAIT) < 0)
        shutdown(pool->helper, SHUT_RDWR); /* helper_readable() sees the end of it */
}

static void job_over(struct worker *worker, enum procjob_end end, const void *output, size_t length)
{
    struct procjob *job = worker->job;
    worker->job = NULL;
    worker->pool->busy--;
    job->worker = NULL;
    job->done(job->arg, end, output, length);
}

/* The worker is dead or not to be trusted. Its job gets a second chance, before those that wait, if
 * it was not the job's own fault that it took too long. */
static void lose(struct worker *worker, bool timed_out)
{
    struct procpool *pool = worker->pool;
    struct procjob *job = worker->job;
    dismiss(worker);
    pool->lost++;
    if (job && !timed_out && !job->tried && pool->helper >= 0) {
        worker->job = NULL;
        pool->busy--;
        job->worker = NULL;
        job->tried = true;
        put_first(pool, job);
    } else if (job) {
        job_over(worker, timed_out ? PROCJOB_TIMED_OUT : PROCJOB_CRASHED, NULL, 0);
    }
    /* one that dies before it has done anything may do so again: not at once, then */
    if (worker->jobs > 0 || job)
        fill_up(pool);
    else
        timer_start(pool->loop, &pool->retry, RETRY_MS);
    give_jobs(pool);
}

static void time_is_up(struct loop *loop, void *arg)
{
    (void)loop;
    lose(arg, true);
}

/* --- a job's way --- */

static void worker_ready(struct loop *loop, int fd, unsigned events, void *arg);

/* Sends what is left of the job's frame. False: the worker is dead. */
static bool send_job(struct worker *worker)
{
    size_t length = sizeof(struct frame) + worker->job->length;
    while (worker->sent < length) {
        ssize_t n = send(worker->fd, worker->out + worker->sent, length - worker->sent, 0);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (n < 0)
            break;
        worker->sent += (size_t)n;
    }
    unsigned events = LOOP_READ | (worker->sent < length ? LOOP_WRITE : 0U);
    return loop_watch(worker->pool->loop, worker->fd, events, worker_ready, worker);
}

/* Looks at the result as far as it has come. Returns -1 if it is nonsense, 0 if more has to come,
 * 1 if it is complete. */
static int check_result(const struct worker *worker, struct frame *frame)
{
    uint64_t id;
    if (worker->got < sizeof *frame)
        return 0;
    memcpy(frame, worker->in, sizeof *frame);
    memcpy(&id, worker->out + offsetof(struct frame, job), sizeof id);
    size_t length = sizeof *frame + frame->length;
    if (!worker->job || frame->magic != FRAME_MAGIC || frame->length > FRAME_MAX ||
        frame->job != id || worker->got > length)
        return -1;
    return worker->got == length;
}

static void result_came(struct worker *worker, const struct frame *frame)
{
    struct procpool *pool = worker->pool;
    timer_stop(pool->loop, &worker->deadline);
    worker->jobs++;
    worker->got = 0;
    pool->done++;
    bool recycle = pool->options.max_jobs > 0 && worker->jobs >= pool->options.max_jobs;
    if (recycle) { /* its memory goes back to the system, whatever it has leaked */
        dismiss(worker);
        pool->lost++;
    }
    job_over(worker, PROCJOB_DONE, worker->in + sizeof *frame, frame->length);
    if (recycle)
        fill_up(pool);
    give_jobs(pool);
}

static void worker_ready(struct loop *loop, int fd, unsigned events, void *arg)
{
    (void)loop;
    struct worker *worker = arg;
    struct frame frame;
    if ((events & LOOP_WRITE) && worker->job && !send_job(worker)) {
        lose(worker, false);
        return;
    }
    if (!(events & LOOP_READ))
        return;
    /* one byte more than there may be: a worker that says too much is found out */
    ssize_t n = recv(fd, worker->in + worker->got, sizeof worker->in - worker->got, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    worker->got += n > 0 ? (size_t)n : 0;
    int complete = n > 0 ? check_result(worker, &frame) : -1;
    if (complete < 0)
        lose(worker, false);
    else if (complete > 0)
        result_came(worker, &frame);
}

static void give_job(struct worker *worker, struct procjob *job)
{
    struct procpool *pool = worker->pool;
    struct frame frame = {
        .magic = FRAME_MAGIC, .length = (uint32_t)job->length, .job = ++pool->last_id};
    take_out(pool, job);
    pool->busy++;
    job->worker = worker;
    worker->job = job;
    worker->sent = worker->got = 0;
    memcpy(worker->out, &frame, sizeof frame);
    memcpy(worker->out + sizeof frame, job->input, job->length);
    if (!timer_start(pool->loop, &worker->deadline, pool->options.timeout_ms) || !send_job(worker))
        lose(worker, false);
}

static void give_jobs(struct procpool *pool)
{
    for (int i = 0; i < pool->options.workers && pool->first; i++)
        if (pool->workers[i].fd >= 0 && !pool->workers[i].job)
            give_job(&pool->workers[i], pool->first);
}

bool procpool_submit(struct procpool *pool, struct procjob *job)
{
    if (pool->helper < 0 ||
        pool->queued + pool->busy >= pool->options.queue_max + pool->options.workers)
        return false;
    job->worker = NULL;
    job->tried = false;
    append(pool, job);
    give_jobs(pool);
    return true;
}

bool procpool_cancel(struct procpool *pool, struct procjob *job)
{
    if (!job->link || job->worker)
        return false;
    take_out(pool, job);
    return true;
}

/* --- new workers --- */

static void retry_due(struct loop *loop, void *arg)
{
    (void)loop;
    fill_up(arg);
}

/* Orders as many workers as are missing. */
static void fill_up(struct procpool *pool)
{
    struct order order = {.what = 's'};
    int missing = -pool->ordered;
    for (int i = 0; i < pool->options.workers; i++)
        missing += pool->workers[i].fd < 0;
    for (; missing > 0 && pool->helper >= 0; missing--) {
        if (send(pool->helper, &order, sizeof order, MSG_DONTWAIT) != sizeof order)
            return;
        pool->ordered++;
    }
}

/* Receives a reply, and the descriptor that comes with it (-1: none, or no room for it here). */
static ssize_t receive_reply(int socket, struct reply *reply, int *fd)
{
    union {
        struct cmsghdr header; /* for its alignment */
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec data = {.iov_base = reply, .iov_len = sizeof *reply};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control.bytes};
    *fd = -1;
    ssize_t n = recvmsg(socket, &message, MSG_DONTWAIT);
    struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(header), sizeof *fd);
    return n;
}

static void welcome(struct procpool *pool, pid_t pid, int fd)
{
    struct worker *worker = pool->workers;
    while (worker->fd >= 0)
        worker++; /* there is one: no more are ordered than are missing */
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    worker->fd = fd;
    worker->pid = pid;
    worker->jobs = 0;
    worker->got = 0;
    if (!loop_watch(pool->loop, fd, LOOP_READ, worker_ready, worker)) {
        lose(worker, false);
        return;
    }
    give_jobs(pool);
}

/* The helper is gone, which nobody but an administrator can have done. What is running goes on, if
 * it can; what waits will not be done. */
static void helper_lost(struct procpool *pool)
{
    loop_unwatch(pool->loop, pool->helper);
    close(pool->helper);
    pool->helper = -1;
    waitpid(pool->helper_pid, NULL, 0);
    while (pool->first) {
        struct procjob *job = pool->first;
        take_out(pool, job);
        job->done(job->arg, PROCJOB_DROPPED, NULL, 0);
    }
}

static void helper_readable(struct loop *loop, int socket, unsigned events, void *arg)
{
    (void)events;
    struct procpool *pool = arg;
    struct reply reply;
    int fd;
    ssize_t n = receive_reply(socket, &reply, &fd);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != sizeof reply) {
        helper_lost(pool);
        return;
    }
    pool->ordered--;
    if (fd >= 0)
        welcome(pool, reply.pid, fd);
    else /* out of processes, or out of descriptors here: that worker has ended by now */
        timer_start(loop, &pool->retry, RETRY_MS);
}

/* --- the pool --- */

struct procpool *procpool_new(struct loop *loop, int helper, pid_t pid,
                              const struct procpool_options *options)
{
    struct procpool *pool =
        calloc(1, sizeof *pool + (size_t)options->workers * sizeof pool->workers[0]);
    if (!pool || !loop_watch(loop, helper, LOOP_READ, helper_readable, pool)) {
        free(pool);
        return NULL;
    }
    pool->loop = loop;
    pool->options = *options;
    pool->helper = helper;
    pool->helper_pid = pid;
    pool->retry = (struct timer){.callback = retry_due, .arg = pool};
    pool->end = &pool->first;
    for (int i = 0; i < options->workers; i++) {
        pool->workers[i].pool = pool;
        pool->workers[i].fd = -1;
        pool->workers[i].deadline =
            (struct timer){.callback = time_is_up, .arg = &pool->workers[i]};
    }
    fill_up(pool);
    return pool;
}

void procpool_free(struct procpool *pool)
{
    timer_stop(pool->loop, &pool->retry);
    if (pool->helper >= 0)
        helper_lost(pool); /* it kills the workers, now that it is on its own */
    for (int i = 0; i < pool->options.workers; i++) {
        struct worker *worker = &pool->workers[i];
        if (worker->fd < 0)
            continue;
        dismiss(worker);
        if (worker->job)
            job_over(worker, PROCJOB_DROPPED, NULL, 0);
    }
    free(pool);
}

struct procpool_counts procpool_counts(const struct procpool *pool)
{
    return (struct procpool_counts){pool->options.workers, pool->busy, pool->queued, pool->done,
                                    pool->lost};
}

int procpool_workers(const struct procpool *pool, pid_t pids[], bool busy[], int room)
{
    int count = 0;
    for (int i = 0; i < pool->options.workers && count < room; i++)
        if (pool->workers[i].fd >= 0) {
            busy[count] = pool->workers[i].job;
            pids[count++] = pool->workers[i].pid;
        }
    return count;
}
