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

/* Until a worker that could not be started, or died at once, is tried again. */
enum { RETRY_MS = 100 };

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
    struct order *orders; /* that its socket had no room for: at most two for each worker, to kill
                             it and to start the next, which comes only after both */
    size_t order_count;
    int ordered;        /* workers that the helper has been told to start, and has not sent yet */
    struct timer retry; /* runs while there are fewer workers than there should be */
    struct procjob *first, **end;
    int queued, busy;
    uint64_t last_id;
    unsigned long long done, lost;
    struct worker workers[];
};

static void fill_up(struct procpool *pool);
static void helper_ready(struct loop *loop, int socket, unsigned events, void *arg);
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
    *job->link = job->next; /* NOLINT(clang-analyzer-core.NullDereference): it is in the queue */
    if (job->next)
        job->next->link = job->link;
    else
        pool->end = job->link;
    job->link = NULL;
    pool->queued--;
}

/* --- orders to the helper --- */

static void send_orders(struct procpool *pool)
{
    size_t sent = 0;
    while (sent < pool->order_count && send(pool->helper, &pool->orders[sent], sizeof(struct order),
                                            MSG_DONTWAIT) == sizeof(struct order))
        sent++; /* never a part of one: they are smaller than what a socket makes room for */
    pool->order_count -= sent;
    memmove(pool->orders, pool->orders + sent, pool->order_count * sizeof(struct order));
    unsigned events = LOOP_READ | (pool->order_count > 0 ? LOOP_WRITE : 0U);
    loop_watch(pool->loop, pool->helper, events, helper_ready, pool);
}

static void give_order(struct procpool *pool, int32_t what, pid_t pid)
{
    if (pool->helper < 0)
        return;
    pool->orders[pool->order_count++] = (struct order){.what = what, .pid = (int32_t)pid};
    send_orders(pool);
}

/* --- a worker's end --- */

/* Closes the worker's socket, which ends it if it is waiting, and kills it if it is not. */
static void dismiss(struct worker *worker)
{
    struct procpool *pool = worker->pool;
    loop_unwatch(pool->loop, worker->fd);
    close(worker->fd);
    worker->fd = -1;
    timer_stop(pool->loop, &worker->deadline);
    give_order(pool, 'k', worker->pid);
}

static void job_over(struct worker *worker, enum procjob_end end, const void *output, size_t length)
{
    struct procjob *job = worker->job;
    worker->job = NULL;
    worker->pool->busy--;
    job->worker = NULL;
    job->done(job->arg, end, output, length);
}

enum loss {
    LOST_BEFORE, /* it was dead before it had read its job */
    LOST_AT_WORK,
    LOST_TIMED_OUT
};

/* Who tries next: the job goes before all that wait. */
static void give_back(struct worker *worker)
{
    struct procjob *job = worker->job;
    worker->job = NULL;
    worker->pool->busy--;
    job->worker = NULL;
    put_first(worker->pool, job);
}

/* The worker is dead or not to be trusted. Its job gets a second chance, if it has not had one, and
 * does not take too long. */
static void lose(struct worker *worker, enum loss loss)
{
    struct procpool *pool = worker->pool;
    struct procjob *job = worker->job;
    dismiss(worker);
    pool->lost++;
    bool again = loss == LOST_BEFORE || (loss == LOST_AT_WORK && job && !job->tried);
    if (job && again && pool->helper >= 0) {
        job->tried = job->tried || loss == LOST_AT_WORK;
        give_back(worker);
    } else if (job) {
        job_over(worker, loss == LOST_TIMED_OUT ? PROCJOB_TIMED_OUT : PROCJOB_CRASHED, NULL, 0);
    }
    /* one that dies before it has done anything may do so again: not at once, then */
    if (worker->jobs > 0 || (job && loss != LOST_BEFORE))
        fill_up(pool);
    else
        timer_start(pool->loop, &pool->retry, RETRY_MS);
    give_jobs(pool);
}

static void time_is_up(struct loop *loop, void *arg)
{
    (void)loop;
    lose(arg, LOST_TIMED_OUT);
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
        lose(worker, LOST_BEFORE);
        return;
    }
    if (!(events & LOOP_READ))
        return;
    ssize_t n = recv(fd, worker->in + worker->got, sizeof worker->in - worker->got, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) { /* ECONNRESET: its end was closed with our frame unread, see unix(7) */
        lose(worker, LOST_BEFORE);
        return;
    }
    worker->got += (size_t)n;
    int complete = n > 0 ? check_result(worker, &frame) : -1;
    if (complete < 0)
        lose(worker, LOST_AT_WORK);
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
        lose(worker, LOST_BEFORE);
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
    int missing = -pool->ordered;
    for (int i = 0; i < pool->options.workers; i++)
        missing += pool->workers[i].fd < 0;
    for (; missing > 0 && pool->helper >= 0; missing--) {
        pool->ordered++;
        give_order(pool, 's', 0);
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
        lose(worker, LOST_BEFORE);
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

static void helper_ready(struct loop *loop, int socket, unsigned events, void *arg)
{
    struct procpool *pool = arg;
    if (events & LOOP_WRITE)
        send_orders(pool);
    if (!(events & LOOP_READ))
        return;
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
    size_t workers = (size_t)options->workers;
    struct procpool *pool = calloc(1, sizeof *pool + workers * sizeof pool->workers[0]);
    struct order *orders = calloc(2 * workers, sizeof *orders);
    if (!pool || !orders || !loop_watch(loop, helper, LOOP_READ, helper_ready, pool)) {
        free(pool);
        free(orders);
        return NULL;
    }
    pool->orders = orders;
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
    free(pool->orders);
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
