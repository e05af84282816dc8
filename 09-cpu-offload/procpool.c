/*
 * The server's side. A worker is a socket: a job goes out, its result comes back, and the end of
 * the stream means that the worker is dead. The helper is one, too. Nothing here ever waits.
 *
 * A worker's life:   ABSENT -> ordered from the helper -> its socket comes -> IDLE <-> BUSY
 *                       ^------------- end of stream, time-out, nonsense ---------------'
 *
 * Each of these sockets has a place in the table of descriptors. While it is not there a
 * placeholder is, a copy of stdin, so that accept() cannot take the place: else a server that is
 * out of descriptors would not get its workers back before clients leave.
 */
#include "procpool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    RETRY_MS = 100,     /* until what failed is tried again */
    SILENT_MAX = 50,    /* so many times RETRY_MS may the helper leave an order unanswered */
    IDLE_MS = 86400000, /* nothing is to be tried again */
    END_MS = 200,       /* the time that the helper has to end */
    SPARES = 3          /* to start a helper takes four places, one of which it keeps: a pair of
                           sockets, and a pipe where posix_spawn() makes one (musl) */
};

struct worker {
    struct procpool *pool;
    int fd;    /* its socket, or a placeholder; -1: not even that could be had */
    pid_t pid; /* 0: absent */
    struct procjob *job;
    int jobs;         /* done by this one */
    size_t sent, got; /* of the job's frame, and of the result's, head included */
    char out[sizeof(struct frame) + FRAME_MAX], in[sizeof(struct frame) + FRAME_MAX];
};

struct helper {
    int fd;      /* its socket, or a placeholder, as a worker's */
    pid_t pid;   /* 0: none, or collected */
    bool there;  /* false, with a pid: about to end */
    bool proved; /* a worker has come from this one */
    int silent;  /* for so many ticks of the timer */
};

struct procpool {
    struct loop *loop;
    struct procpool_options options;
    struct helper helper;
    int spares[SPARES];   /* more placeholders */
    struct order *orders; /* that its socket had no room for: at most two for each worker, to kill
                             it and to start the next, which comes only after both */
    size_t order_count;
    int ordered;        /* workers that the helper has been told to start, and has not sent yet */
    struct timer retry; /* always runs: to start it anew takes no memory, see retry_due() */
    char error[96];     /* see procpool_error(); empty: NULL */
    struct procjob *first, **end;
    int alive, queued, busy;
    uint64_t last_id;
    unsigned long long done, lost;
    struct worker workers[];
};

static void fill_up(struct procpool *pool);
static void helper_ready(struct loop *loop, int socket, unsigned events, void *arg);
static void give_jobs(struct procpool *pool);

static void retry_in(struct procpool *pool, int64_t ms)
{
    timer_start(pool->loop, &pool->retry, ms);
}

/* --- places among the descriptors --- */

/* Gives the place to whoever asks next: to be called right before that. */
static void free_place(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Puts a placeholder where a socket was, in one step; or where nothing is, if one can be had. */
static void keep_place(struct procpool *pool, int *fd)
{
    if (*fd >= 0 && dup2(STDIN_FILENO, *fd) < 0)
        free_place(fd);
    if (*fd < 0)
        *fd = dup(STDIN_FILENO);
    if (*fd < 0)
        retry_in(pool, RETRY_MS);
    else
        fcntl(*fd, F_SETFD, FD_CLOEXEC);
}

static bool has_place(struct procpool *pool, int *fd)
{
    if (*fd < 0)
        keep_place(pool, fd);
    return *fd >= 0;
}

/* Has all places again that were lost. Returns false if one is missing. */
static bool keep_places(struct procpool *pool)
{
    bool all = has_place(pool, &pool->helper.fd);
    for (int i = 0; i < SPARES; i++)
        all = has_place(pool, &pool->spares[i]) && all;
    for (int i = 0; i < pool->options.workers; i++)
        all = has_place(pool, &pool->workers[i].fd) && all;
    return all;
}

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

/* If the helper's socket fails its end is read next, as if the helper had died. */
static void send_orders(struct procpool *pool)
{
    size_t sent = 0, size = sizeof(struct order);
    ssize_t n = 0;
    /* never a part of one: they are smaller than what a socket makes room for */
    while (sent < pool->order_count &&
           (n = send(pool->helper.fd, &pool->orders[sent], size, MSG_DONTWAIT)) == (ssize_t)size)
        sent++;
    pool->order_count -= sent;
    memmove(pool->orders, pool->orders + sent, pool->order_count * size);
    unsigned events = LOOP_READ | (pool->order_count > 0 ? LOOP_WRITE : 0U);
    if ((n < 0 && errno != EAGAIN && errno != EINTR) ||
        !loop_watch(pool->loop, pool->helper.fd, events, helper_ready, pool))
        shutdown(pool->helper.fd, SHUT_RDWR);
}

static void give_order(struct procpool *pool, int32_t what, pid_t pid)
{
    if (!pool->helper.there)
        return;
    pool->orders[pool->order_count++] = (struct order){.what = what, .pid = (int32_t)pid};
    send_orders(pool);
}

/* --- a worker's end --- */

/* Closes the worker's socket, which ends it if it is waiting, and kills it if it is not. */
static void dismiss(struct worker *worker)
{
    struct procpool *pool = worker->pool;
    pid_t pid = worker->pid;
    loop_unwatch(pool->loop, worker->fd);
    keep_place(pool, &worker->fd);
    worker->pid = 0;
    pool->alive--;
    give_order(pool, 'k', pid);
}

static void job_over(struct worker *worker, enum procjob_end end, const void *output, size_t length)
{
    struct procjob *job = worker->job;
    worker->job = NULL;
    worker->pool->busy--;
    job->worker = NULL;
    timer_stop(worker->pool->loop, &job->timer);
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

/* The time in the queue begins. Returns false without memory. */
static bool begin_waiting(struct procpool *pool, struct procjob *job)
{
    job->give_up = loop_clock() + pool->options.timeout_ms * INT64_C(1000000);
    return timer_start(pool->loop, &job->timer, pool->options.timeout_ms);
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
    if (job && again) {
        if (loss == LOST_AT_WORK) {
            job->tried = true;
            begin_waiting(pool, job);
        } else { /* it goes on waiting */
            timer_start(pool->loop, &job->timer, (job->give_up - loop_clock()) / 1000000);
        }
        give_back(worker);
    } else if (job) {
        job_over(worker, loss == LOST_TIMED_OUT ? PROCJOB_TIMED_OUT : PROCJOB_CRASHED, NULL, 0);
    }
    /* one that dies before it has done anything may do so again: not at once, then */
    if (worker->jobs > 0 || (job && loss != LOST_BEFORE))
        fill_up(pool);
    else
        retry_in(pool, RETRY_MS);
    give_jobs(pool);
}

static void time_is_up(struct loop *loop, void *arg)
{
    (void)loop;
    struct procjob *job = arg;
    if (job->worker) {
        lose(job->worker, LOST_TIMED_OUT);
    } else {
        take_out(job->pool, job);
        job->done(job->arg, PROCJOB_NO_WORKER, NULL, 0);
    }
}

/* --- a job's way --- */

static void worker_ready(struct loop *loop, int fd, unsigned events, void *arg);

/* Sends what is left of the job's frame. When all of it has gone out, the job's other time begins.
 * False: the worker is dead. */
static bool send_job(struct worker *worker)
{
    struct procpool *pool = worker->pool;
    size_t length = sizeof(struct frame) + worker->job->length;
    while (worker->sent < length) {
        ssize_t n =
            send(worker->fd, worker->out + worker->sent, length - worker->sent, MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (n < 0)
            break;
        worker->sent += (size_t)n;
    }
    if (worker->sent == length) /* it runs already, so this takes no memory */
        timer_start(pool->loop, &worker->job->timer, pool->options.timeout_ms);
    unsigned events = LOOP_READ | (worker->sent < length ? LOOP_WRITE : 0U);
    return loop_watch(pool->loop, worker->fd, events, worker_ready, worker);
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
    ssize_t n = recv(fd, worker->in + worker->got, sizeof worker->in - worker->got, MSG_DONTWAIT);
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
    if (!send_job(worker))
        lose(worker, LOST_BEFORE);
}

static void give_jobs(struct procpool *pool)
{
    for (int i = 0; i < pool->options.workers && pool->first; i++)
        if (pool->workers[i].pid && !pool->workers[i].job)
            give_job(&pool->workers[i], pool->first);
}

bool procpool_submit(struct procpool *pool, struct procjob *job)
{
    job->pool = pool;
    job->worker = NULL;
    job->tried = false;
    job->timer = (struct timer){.callback = time_is_up, .arg = job};
    if (procpool_error(pool) ||
        pool->queued + pool->busy >= pool->options.queue_max + pool->options.workers ||
        !begin_waiting(pool, job))
        return false;
    append(pool, job);
    give_jobs(pool);
    return true;
}

bool procpool_cancel(struct procpool *pool, struct procjob *job)
{
    if (!job->link || job->worker)
        return false;
    timer_stop(pool->loop, &job->timer);
    take_out(pool, job);
    return true;
}

/* --- new workers --- */

/* One line; or none, if stderr is a pipe that is full. */
static void complain(const char *error)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&out, 1, 0) > 0)
        fprintf(stderr, "server: no worker can be had, trying again and again: %s\n", error);
}

/* error: an errno; 0: what says it all. */
static void attempt_failed(struct procpool *pool, const char *what, int error)
{
    char why[sizeof pool->error];
    retry_in(pool, RETRY_MS);
    if (pool->alive > 0)
        return;
    snprintf(why, sizeof why, "%s%s%s", what, error ? ": " : "", error ? strerror(error) : "");
    if (!pool->error[0])
        complain(why);
    memcpy(pool->error, why, sizeof why);
}

const char *procpool_error(const struct procpool *pool)
{
    return pool->error[0] ? pool->error : NULL;
}

/* Returns false with errno set on failure. */
static bool start_helper(struct procpool *pool)
{
    struct helper *helper = &pool->helper;
    free_place(&helper->fd);
    for (int i = 0; i < SPARES; i++)
        free_place(&pool->spares[i]);
    *helper = (struct helper){0};
    helper->fd = helper_start(&helper->pid);
    helper->there =
        helper->fd >= 0 && loop_watch(pool->loop, helper->fd, LOOP_READ, helper_ready, pool);
    int error = errno;
    if (helper->fd < 0)
        helper->pid = 0;
    else if (!helper->there)
        keep_place(pool, &helper->fd); /* which closes its socket, and ends it */
    keep_places(pool);
    errno = error;
    return helper->there;
}

/* Orders as many workers as are missing, from a new helper if there is none. */
static void fill_up(struct procpool *pool)
{
    struct helper *helper = &pool->helper;
    keep_places(pool);
    if (!helper->there && helper->pid && waitpid(helper->pid, NULL, WNOHANG) == 0) {
        retry_in(pool, RETRY_MS); /* the last one has not ended yet */
        return;
    }
    if (!helper->there && !start_helper(pool)) {
        attempt_failed(pool, "cannot start the helper process", errno);
        return;
    }
    int missing = pool->options.workers - pool->alive - pool->ordered;
    for (; missing > 0; missing--) {
        pool->ordered++;
        give_order(pool, 's', 0);
    }
    if (pool->ordered > 0)
        retry_in(pool, RETRY_MS); /* to see whether it answers */
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

/* Its socket is in its place. */
static void welcome(struct worker *worker, pid_t pid)
{
    struct procpool *pool = worker->pool;
    worker->pid = pid;
    worker->jobs = 0;
    worker->got = 0;
    pool->alive++;
    pool->helper.proved = true;
    if (fcntl(worker->fd, F_SETFD, FD_CLOEXEC) < 0 ||
        !loop_watch(pool->loop, worker->fd, LOOP_READ, worker_ready, worker)) {
        int error = errno;
        lose(worker, LOST_BEFORE);
        attempt_failed(pool, "cannot watch a worker", error);
        return;
    }
    pool->error[0] = '\0';
    give_jobs(pool);
}

/* And its workers with it, which are of its process group. Returns false if it cannot be killed. */
static bool kill_helper(struct procpool *pool)
{
    return kill(-pool->helper.pid, SIGKILL) == 0;
}

/* The helper is dead, or does not answer, or its socket is of no use. Its workers go with it: the
 * ends of their streams will tell. */
static void helper_lost(struct procpool *pool)
{
    struct helper *helper = &pool->helper;
    loop_unwatch(pool->loop, helper->fd);
    keep_place(pool, &helper->fd);
    helper->there = false;
    kill_helper(pool);
    pool->order_count = 0;
    pool->ordered = 0;
    retry_in(pool, RETRY_MS);
    if (!helper->proved)
        attempt_failed(pool, "the helper process ends at once", 0);
}

/* The timer's place is free now: it is started anew before anything else can take that, and so
 * needs no memory. */
static void retry_due(struct loop *loop, void *arg)
{
    (void)loop;
    struct procpool *pool = arg;
    retry_in(pool, IDLE_MS);
    if (pool->ordered > 0 && ++pool->helper.silent > SILENT_MAX)
        helper_lost(pool);
    else
        fill_up(pool);
}

/* The first that is absent; NULL: none was ordered. */
static struct worker *expected_worker(struct procpool *pool)
{
    struct worker *worker = pool->workers;
    while (pool->ordered > 0 && worker->pid)
        worker++;
    return pool->ordered > 0 ? worker : NULL;
}

static void helper_ready(struct loop *loop, int socket, unsigned events, void *arg)
{
    (void)loop;
    struct procpool *pool = arg;
    if (events & LOOP_WRITE)
        send_orders(pool);
    if (!(events & LOOP_READ))
        return;
    struct worker *worker = expected_worker(pool);
    struct reply reply;
    int fd;
    if (worker)
        free_place(&worker->fd);
    ssize_t n = receive_reply(socket, &reply, &fd);
    bool nothing = n < 0 && (errno == EAGAIN || errno == EINTR);
    if (worker) {
        worker->fd = fd;
        has_place(pool, &worker->fd);
    }
    if (nothing)
        return;
    if (n != sizeof reply || !worker) {
        if (worker)
            keep_place(pool, &worker->fd);
        else if (fd >= 0)
            close(fd);
        helper_lost(pool);
        return;
    }
    pool->ordered--;
    pool->helper.silent = 0;
    if (fd >= 0)
        welcome(worker, reply.pid);
    else /* without its socket, a worker ends by itself */
        attempt_failed(pool, "cannot start a worker", reply.pid < 0 ? reply.error : EMFILE);
}

/* --- the pool --- */

/* Closes the helper's socket, at which it kills the workers and ends. If it does not, for it may be
 * stopped, it is killed. */
static void end_helper(struct procpool *pool)
{
    struct helper *helper = &pool->helper;
    const int64_t end = loop_clock() + END_MS * INT64_C(1000000);
    loop_unwatch(pool->loop, helper->fd);
    free_place(&helper->fd);
    helper->there = false;
    while (helper->pid && waitpid(helper->pid, NULL, WNOHANG) == 0) {
        if (loop_clock() >= end && !kill_helper(pool))
            break;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

struct procpool *procpool_new(struct loop *loop, const struct procpool_options *options)
{
    size_t workers = (size_t)options->workers;
    struct procpool *pool = calloc(1, sizeof *pool + workers * sizeof pool->workers[0]);
    if (!pool)
        return NULL;
    pool->loop = loop;
    pool->options = *options;
    pool->end = &pool->first;
    pool->helper.fd = -1;
    for (int i = 0; i < SPARES; i++)
        pool->spares[i] = -1;
    for (int i = 0; i < options->workers; i++) {
        pool->workers[i].pool = pool;
        pool->workers[i].fd = -1;
    }
    pool->retry = (struct timer){.callback = retry_due, .arg = pool};
    pool->orders = calloc(2 * workers, sizeof *pool->orders);
    if (!pool->orders || !timer_start(loop, &pool->retry, IDLE_MS) || !keep_places(pool) ||
        !start_helper(pool)) {
        int error = errno;
        procpool_free(pool);
        errno = error;
        return NULL;
    }
    fill_up(pool);
    return pool;
}

void procpool_free(struct procpool *pool)
{
    snprintf(pool->error, sizeof pool->error, "the pool is about to end"); /* it takes no more */
    timer_stop(pool->loop, &pool->retry);
    for (int i = 0; i < pool->options.workers; i++) {
        loop_unwatch(pool->loop, pool->workers[i].fd);
        free_place(&pool->workers[i].fd);
    }
    end_helper(pool);
    for (int i = 0; i < SPARES; i++)
        free_place(&pool->spares[i]);
    while (pool->first) {
        struct procjob *job = pool->first;
        take_out(pool, job);
        timer_stop(pool->loop, &job->timer);
        job->done(job->arg, PROCJOB_DROPPED, NULL, 0);
    }
    for (int i = 0; i < pool->options.workers; i++)
        if (pool->workers[i].job)
            job_over(&pool->workers[i], PROCJOB_DROPPED, NULL, 0);
    free(pool->orders);
    free(pool);
}

struct procpool_counts procpool_counts(const struct procpool *pool)
{
    return (struct procpool_counts){.size = pool->options.workers,
                                    .alive = pool->alive,
                                    .busy = pool->busy,
                                    .queued = pool->queued,
                                    .done = pool->done,
                                    .lost = pool->lost};
}

int procpool_workers(const struct procpool *pool, pid_t pids[], bool busy[], int room)
{
    int count = 0;
    for (int i = 0; i < pool->options.workers && count < room; i++)
        if (pool->workers[i].pid) {
            busy[count] = pool->workers[i].job;
            pids[count++] = pool->workers[i].pid;
        }
    return count;
}
