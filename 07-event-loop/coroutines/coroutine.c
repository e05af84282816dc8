/*
 * What happens at an await: the coroutine asks the loop for a call back (a timer, a descriptor to
 * watch), and switches to the loop's stack. To the loop it looks as if a callback had returned; it
 * goes on with others. Its call back, resume(), switches to the coroutine's stack again, and there
 * the function that waited returns. So the loop needs to know nothing of coroutines.
 */
#ifdef __APPLE__ /* has ucontext, which is no longer in POSIX, for those who ask for it */
#define _XOPEN_SOURCE 600
#define _DARWIN_C_SOURCE
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
#endif
#include "coroutine.h"
#include "stack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>

struct task {
    struct loop *loop;
    void (*fn)(void *arg);
    void *arg;
    struct stack stack;
    struct deferred wake;      /* resumes it, soon */
    struct task *next, **link; /* in the list of those that have not ended */
    struct task *gatherer;     /* waits in co_gather() for this one to end; NULL: nobody does */
    size_t missing;            /* how many it waits for in co_gather() itself */
    bool ended, detached, cancelled;
};

static _Thread_local struct stack loop_stack;     /* where the loop was left */
static _Thread_local struct task *current;        /* the one that is running; NULL: the loop is */
static _Thread_local struct task *living, *first; /* all that have not ended; co_run()'s own */
static _Thread_local bool shutting_down;

/* --- to and fro --- */

/* Lets the loop go on, until it calls resume(). Returns false if the caller is cancelled. */
static bool give_way(void)
{
    struct task *self = current;
    if (!self->cancelled)
        stack_switch(&self->stack, &loop_stack, false);
    if (self->cancelled)
        errno = ECANCELED;
    return !self->cancelled;
}

/* What each new stack starts with. Nothing lies below it to return to. */
static void run_task(void)
{
    struct task *self = current;
    stack_entered(&loop_stack);
    self->fn(self->arg);
    self->ended = true;
    stack_switch(&self->stack, &loop_stack, true);
}

static void task_ended(struct task *task)
{
    stack_free(&task->stack);
    *task->link = task->next;
    if (task->next)
        task->next->link = task->link;
    if (task->gatherer && --task->gatherer->missing == 0)
        co_wake(task->gatherer);
    if (task == first || (shutting_down && !living))
        loop_stop(task->loop);
    if (task->detached)
        free(task);
}

/* The loop's callback for all that coroutines wait for. It comes from the loop's stack only: no
 * coroutine is run from within another, so they cannot pile up. */
static void resume(struct loop *loop, void *arg)
{
    struct task *task = arg;
    loop_defer_cancel(loop, &task->wake); /* or it would be resumed once more, for nothing */
    current = task;
    stack_switch(&loop_stack, &task->stack, false);
    current = NULL;
    if (task->ended) /* only now nobody stands on its stack any more */
        task_ended(task);
}

/* --- waiting --- */

bool co_sleep(int64_t ms)
{
    struct task *self = current;
    struct timer timer = {.callback = resume,
                          .arg = self}; /* our stack stays, so it may lie here */
    bool slept = timer_start(self->loop, &timer, ms) && give_way();
    timer_stop(self->loop, &timer);
    return slept;
}

static void on_ready(struct loop *loop, int fd, unsigned events, void *arg)
{
    (void)fd;
    (void)events;
    resume(loop, arg);
}

/* To watch anew each time costs two system calls on epoll, but no descriptor stays with the loop
 * while nobody waits for it: so everybody may use it, and close it, as ever. */
static bool wait_for(int fd, unsigned events)
{
    struct task *self = current;
    bool ready = loop_watch(self->loop, fd, events, on_ready, self) && give_way();
    int reason = errno;
    loop_unwatch(self->loop, fd);
    errno = reason;
    return ready;
}

ssize_t co_read(int fd, void *bytes, size_t size)
{
    ssize_t n;
    do
        n = wait_for(fd, LOOP_READ) ? read(fd, bytes, size) : -1;
    while (n < 0 && (errno == EAGAIN || errno == EINTR));
    return n;
}

bool co_write(int fd, const void *bytes, size_t length)
{
    const char *next = bytes;
    while (length > 0) {
        ssize_t n = write(fd, next, length); /* there is nearly always room: no need to ask first */
        if (n >= 0) {
            next += n;
            length -= (size_t)n;
        } else if (errno == EAGAIN ? !wait_for(fd, LOOP_WRITE) : errno != EINTR) {
            return false;
        }
    }
    return true;
}

int co_accept(int listener)
{
    int fd, lost = 0;
    do /* ECONNABORTED: that one has left before we got to it; on to the next */
        fd = wait_for(listener, LOOP_READ) ? accept(listener, NULL, NULL) : -1;
    while (fd < 0 && (errno == EAGAIN || (errno == ECONNABORTED && ++lost < SOMAXCONN)));
    if (fd >= 0 && fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* --- tasks --- */

struct task *co_start(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    struct task *task = calloc(1, sizeof *task);
    if (!task || !stack_make(&task->stack, CO_STACK_SIZE, run_task)) {
        free(task);
        return NULL;
    }
    task->loop = loop;
    task->fn = fn;
    task->arg = arg;
    task->cancelled = shutting_down;
    task->wake = (struct deferred){.callback = resume, .arg = task};
    task->next = living;
    task->link = &living;
    if (living)
        living->link = &task->next;
    living = task;
    co_wake(task);
    return task;
}

struct task *co_current(void)
{
    return current;
}

void co_detach(struct task *task)
{
    if (task && task->ended)
        free(task);
    else if (task)
        task->detached = true;
}

void co_wake(struct task *task)
{
    if (!task->ended)
        loop_defer(task->loop, &task->wake);
}

void co_cancel(struct task *task)
{
    task->cancelled = true;
    co_wake(task);
}

bool co_gather(struct task *const tasks[], size_t count)
{
    struct task *self = current;
    bool complete = true;
    for (size_t i = 0; i < count; i++) {
        if (tasks[i] && !tasks[i]->ended) {
            tasks[i]->gatherer = self;
            self->missing++;
        }
        complete = complete && tasks[i];
    }
    while (self->missing > 0 && give_way())
        ; /* the last one that ends wakes us */
    for (size_t i = 0; i < count && self->missing > 0; i++)
        if (tasks[i])
            co_cancel(tasks[i]);
    while (self->missing > 0) /* cancelled or not: they may be using variables of the caller's */
        stack_switch(&self->stack, &loop_stack, false);
    for (size_t i = 0; i < count; i++)
        free(tasks[i]);
    return complete && !self->cancelled;
}

int co_run(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    struct task *task = co_start(loop, fn, arg);
    if (!task)
        return -1;
    first = task;
    int result = loop_run(loop);
    shutting_down = true;
    for (task = living; task; task = task->next)
        co_cancel(task);
    while (living && result == 0)
        result = loop_run(loop);
    shutting_down = false;
    co_detach(first);
    first = NULL;
    return result;
}
