/*
 * The loop itself. A round is: wait, then call whose descriptor is ready, whose timer is due, and
 * what was put off. How to wait is the back end's matter.
 */
#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { NS_PER_MS = 1000 * 1000 };
enum { RETRY_MS = 100 };                        /* until a wait that has failed is tried again */
static const int64_t FAR_MS = INT64_C(1) << 42; /* 139 years: so that no sum overflows */

int64_t loop_clock(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time); /* no jumps when somebody sets the clock */
    return (int64_t)time.tv_sec * 1000 * NS_PER_MS + time.tv_nsec;
}

/* Everybody waits meanwhile: only for when nothing else can be done. A signal ends it. */
static void pause_for(int ms)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)ms * NS_PER_MS}, NULL);
}

/* --- descriptors --- */

static bool make_room(struct loop *loop, int fd)
{
    if (fd < loop->watch_count)
        return true;
    size_t old = (size_t)loop->watch_count, count = old ? old : 64;
    while (count <= (size_t)fd)
        count *= 2;
    struct watch *watches = realloc(loop->watches, count * sizeof *watches);
    if (!watches)
        return false;
    memset(watches + old, 0, (count - old) * sizeof *watches);
    loop->watches = watches;
    int *batch = realloc(loop->batch, count * sizeof *batch);
    if (!batch)
        return false;
    loop->batch = batch;
    loop->watch_count = (int)count;
    return true;
}

bool loop_watch(struct loop *loop, int fd, unsigned events, loop_watcher *callback, void *arg)
{
    if (fd < 0) {
        errno = EBADF;
        return false;
    }
    if (!make_room(loop, fd))
        return false;
    struct watch *watch = &loop->watches[fd];
    if (events != watch->events && !loop->backend->change(loop, fd, watch->events, events))
        return false;
    watch->events = (unsigned char)events;
    watch->callback = callback;
    watch->arg = arg;
    return true;
}

void loop_unwatch(struct loop *loop, int fd)
{
    if (fd < 0 || fd >= loop->watch_count)
        return;
    if (loop->watches[fd].events)
        loop->backend->change(loop, fd, loop->watches[fd].events, 0);
    loop->watches[fd] = (struct watch){0}; /* also what it had ready: see dispatch() */
}

void backend_ready(struct loop *loop, int fd, unsigned events)
{
    if (!loop->watches[fd].ready)
        loop->batch[loop->batch_length++] = fd;
    loop->watches[fd].ready |= (unsigned char)events;
}

/* What is told comes from the table, not from the kernel's list, which may be out of date by now:
 * a callback may have closed a descriptor further down, and its number may have a new owner. */
static void dispatch(struct loop *loop)
{
    for (int i = 0; i < loop->batch_length; i++) {
        int fd = loop->batch[i];
        struct watch watch = loop->watches[fd];
        loop->watches[fd].ready = 0;
        unsigned events = watch.ready & watch.events;
        if (events && loop->running)
            watch.callback(loop, fd, events, watch.arg);
    }
    loop->batch_length = 0;
}

/* --- timers: a binary heap, the timer that is due next on top --- */

static bool earlier(const struct timer *a, const struct timer *b)
{
    return a->due != b->due ? a->due < b->due : a->sequence < b->sequence;
}

static void put(struct loop *loop, struct timer *timer, size_t place)
{
    loop->timers[place] = timer;
    timer->place = place;
}

/* Moves the timer up or down from place, which is free, to where it belongs. */
static void settle(struct loop *loop, struct timer *timer, size_t place)
{
    for (; place > 1 && earlier(timer, loop->timers[place / 2]); place /= 2)
        put(loop, loop->timers[place / 2], place);
    for (size_t child; (child = 2 * place) <= loop->timer_count; place = child) {
        if (child < loop->timer_count && earlier(loop->timers[child + 1], loop->timers[child]))
            child++;
        if (!earlier(loop->timers[child], timer))
            break;
        put(loop, loop->timers[child], place);
    }
    put(loop, timer, place);
}

void timer_stop(struct loop *loop, struct timer *timer)
{
    size_t place = timer->place;
    if (place == 0)
        return;
    timer->place = 0;
    struct timer *last = loop->timers[loop->timer_count--];
    if (last != timer)
        settle(loop, last, place);
}

bool timer_start(struct loop *loop, struct timer *timer, int64_t ms)
{
    timer_stop(loop, timer);
    if (loop->timer_count + 1 >= loop->timer_room) {
        size_t room = loop->timer_room ? 2 * loop->timer_room : 64;
        struct timer **timers = realloc(loop->timers, room * sizeof(struct timer *));
        if (!timers)
            return false;
        loop->timers = timers;
        loop->timer_room = room;
    }
    int64_t delay = ms < 0 ? 0 : ms > FAR_MS ? FAR_MS : ms;
    timer->due = loop_clock() + delay * NS_PER_MS;
    timer->sequence = loop->timer_sequence++;
    settle(loop, timer, ++loop->timer_count);
    return true;
}

static void run_timers(struct loop *loop)
{
    if (loop->timer_count == 0)
        return;
    int64_t now = loop_clock();
    uint64_t started = loop->timer_sequence; /* what is started from here on has to wait its turn */
    while (loop->running && loop->timer_count > 0) {
        struct timer *timer = loop->timers[1];
        if (timer->due > now || timer->sequence >= started)
            break;
        timer_stop(loop, timer);
        timer->callback(loop, timer->arg);
    }
}

/* --- calls put off --- */

void loop_defer(struct loop *loop, struct deferred *deferred)
{
    if (deferred->link)
        return;
    deferred->round = loop->round;
    deferred->next = NULL;
    deferred->link = loop->deferred_end;
    *loop->deferred_end = deferred;
    loop->deferred_end = &deferred->next;
}

void loop_defer_cancel(struct loop *loop, struct deferred *deferred)
{
    if (!deferred->link)
        return;
    *deferred->link = deferred->next;
    if (deferred->next)
        deferred->next->link = deferred->link;
    else
        loop->deferred_end = deferred->link;
    deferred->link = NULL;
}

static void run_deferred(struct loop *loop)
{
    loop->round++;
    while (loop->running && loop->deferred && loop->deferred->round < loop->round) {
        struct deferred *deferred = loop->deferred;
        loop_defer_cancel(loop, deferred);
        deferred->callback(loop, deferred->arg);
    }
}

/* --- waking the loop: the self-pipe trick --- */

void wakeup_add(struct loop *loop, struct wakeup *wakeup)
{
    wakeup->loop = loop;
    atomic_init(&wakeup->sent, false);
    wakeup->next = loop->wakeups;
    loop->wakeups = wakeup;
}

void wakeup_remove(struct wakeup *wakeup)
{
    struct loop *loop = wakeup->loop;
    struct wakeup **link = &loop->wakeups;
    while (*link && *link != wakeup)
        link = &(*link)->next;
    if (!*link)
        return;
    *link = wakeup->next;
    if (loop->next_wakeup == wakeup)
        loop->next_wakeup = wakeup->next;
}

/* EAGAIN: the pipe is full, so the loop is about to wake up anyway. Nothing else should happen; if
 * it does, there is no harm in trying a few times more. */
static void ring(struct loop *loop)
{
    for (int tries = 0; write(loop->pipe[1], "", 1) < 0 && errno != EAGAIN && tries < 8; tries++)
        ;
}

void wakeup_send(struct wakeup *wakeup)
{
    int saved = errno; /* of what a signal has interrupted */
    if (!atomic_exchange(&wakeup->sent, true))
        ring(wakeup->loop);
    errno = saved;
}

/* All that the pipe is for is to end the wait. */
static void empty_pipe(struct loop *loop, int fd, unsigned events, void *arg)
{
    (void)loop;
    (void)events;
    (void)arg;
    char bytes[256];
    ssize_t n;
    while ((n = read(fd, bytes, sizeof bytes)) == sizeof bytes)
        ;
    if (n < 0 && errno != EAGAIN) /* should not happen; but then every wait would end at once */
        pause_for(RETRY_MS);
}

/* After every wait, whatever the pipe says: were a write to it lost, anything else that ends the
 * wait would do, say the signal. And after the pipe was emptied: what is sent in between rings once
 * more. */
static void run_wakeups(struct loop *loop)
{
    for (struct wakeup *wakeup = loop->wakeups; wakeup; wakeup = loop->next_wakeup) {
        loop->next_wakeup = wakeup->next;
        if (!atomic_load(&wakeup->sent))
            continue;
        if (!loop->running) { /* the next run sees to it */
            ring(loop);
            return;
        }
        atomic_exchange(&wakeup->sent, false); /* reads, too: sees what its sender wrote before */
        wakeup->callback(loop, wakeup->arg);
    }
}

static bool open_pipe(struct loop *loop)
{
    if (pipe(loop->pipe) < 0)
        return false;
    for (int i = 0; i < 2; i++)
        if (fcntl(loop->pipe[i], F_SETFL, O_NONBLOCK) < 0 ||
            fcntl(loop->pipe[i], F_SETFD, FD_CLOEXEC) < 0)
            return false;
    return loop_watch(loop, loop->pipe[0], LOOP_READ, empty_pipe, NULL);
}

/* --- the loop --- */

/* Best first, in the order of Python's selectors.DefaultSelector. (That one asks for kqueue before
 * epoll; no system has both, except where one is made of the other.) */
static const struct backend *const backends[] = {&backend_epoll, &backend_kqueue, &backend_poll,
                                                 &backend_select};
enum { BACKENDS = sizeof backends / sizeof backends[0] };

const char *loop_backends(void)
{
    static char names[64];
    names[0] = '\0';
    for (int i = 0; i < BACKENDS; i++)
        if (backends[i]->open)
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s",
                     names[0] ? ", " : "", backends[i]->name);
    return names;
}

static const struct backend *find_backend(const char *name)
{
    for (int i = 0; i < BACKENDS; i++)
        if (backends[i]->open && (!name || strcmp(name, backends[i]->name) == 0))
            return backends[i];
    return NULL;
}

struct loop *loop_new(const char *backend)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return NULL;
    loop->pipe[0] = loop->pipe[1] = -1;
    loop->deferred_end = &loop->deferred;
    loop->backend = find_backend(backend);
    if (!loop->backend) {
        free(loop);
        errno = EINVAL;
        return NULL;
    }
    if (!loop->backend->open(loop) || !open_pipe(loop)) {
        int reason = errno;
        loop_free(loop);
        errno = reason;
        return NULL;
    }
    return loop;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    for (int i = 0; i < 2; i++)
        if (loop->pipe[i] >= 0)
            close(loop->pipe[i]);
    if (loop->state)
        loop->backend->close(loop);
    free(loop->watches);
    free(loop->batch);
    free(loop->timers);
    free(loop);
}

const char *loop_backend(const struct loop *loop)
{
    return loop->backend->name;
}

/* How long the wait may last, in milliseconds: until the next timer is due; -1: for ever. Rounded
 * up, for a round before that time would find nothing to do. */
static int wait_ms(const struct loop *loop, int64_t now)
{
    if (loop->deferred)
        return 0;
    if (loop->timer_count == 0)
        return -1;
    int64_t ns = loop->timers[1]->due - now;
    int64_t ms = ns <= 0 ? 0 : (ns + NS_PER_MS - 1) / NS_PER_MS;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

/* The wait itself has failed: without memory, or poll() with more descriptors than the program may
 * have since its limit was lowered. Nobody knows who is ready then; so, after a moment, everybody
 * is asked, as in chapter 02. */
static void ask_everybody(struct loop *loop, int timeout_ms)
{
    pause_for(timeout_ms < 0 || timeout_ms > RETRY_MS ? RETRY_MS : timeout_ms);
    for (int fd = 0; fd < loop->watch_count; fd++)
        if (loop->watches[fd].events)
            backend_ready(loop, fd, loop->watches[fd].events);
}

int loop_run(struct loop *loop)
{
    if (loop->running) { /* a callback cannot wait for what only the loop can do */
        errno = EBUSY;
        return -1;
    }
    loop->running = true;
    int64_t now = loop_clock();
    while (loop->running) {
        int timeout_ms = wait_ms(loop, now);
        if (!loop->backend->wait(loop, timeout_ms) && errno != EINTR)
            ask_everybody(loop, timeout_ms);
        int64_t woken = loop_clock();
        dispatch(loop);
        run_wakeups(loop);
        run_timers(loop);
        run_deferred(loop);
        now = loop_clock();
        loop->lag.last = now - woken;
        if (loop->lag.last > loop->lag.max)
            loop->lag.max = loop->lag.last;
    }
    return 0;
}

void loop_stop(struct loop *loop)
{
    loop->running = false;
}

struct lag loop_lag(const struct loop *loop)
{
    return loop->lag;
}
