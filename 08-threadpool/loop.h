/*
 * The event loop, also called reactor: it waits until a watched descriptor is ready or a timer is
 * due, calls whoever asked to be called, and waits again.
 *
 * One thread runs a loop, and all these functions belong to that thread, except wakeup_send().
 * A callback may call any of them, and may watch, unwatch, close and free anything, its own
 * descriptor included. What is passed by pointer (timers, deferred calls, wake-ups) belongs to the
 * caller, usually as a member of something larger: zeroed before it is first used, and staying
 * where it is until it has been called or stopped. Descriptors have to be non-blocking: between
 * their being ready and the callback, another one may have taken what was there; and when the wait
 * fails, all are said to be ready.
 */
#ifndef LOOP_H
#define LOOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;

/* Returns a new loop on the named back end: "epoll", "kqueue", "poll" or "select"; NULL: the best
 * one there is. NULL with errno set on failure, EINVAL if this program has no such back end. The
 * caller frees it with loop_free(). */
struct loop *loop_new(const char *backend);

/* Frees the loop, not what it watched. Not from within loop_run(). NULL is allowed. */
void loop_free(struct loop *loop);

/* The name of the loop's back end, and the names of all that this program has: "epoll, poll". */
const char *loop_backend(const struct loop *loop);
const char *loop_backends(void);

/* Calls back until loop_stop(). A wait that fails does not end it: it is tried again, every 100 ms.
 * Returns 0, or -1 with errno EBUSY within a callback. */
int loop_run(struct loop *loop);

/* Makes loop_run() return after the callback that is running. */
void loop_stop(struct loop *loop);

/* --- descriptors --- */

enum { LOOP_READ = 1, LOOP_WRITE = 2 };

/* events: LOOP_READ, LOOP_WRITE or both: which of what was asked for will not block now. An error
 * or a hang-up counts as both; the call that is then made says which it is. */
typedef void loop_watcher(struct loop *loop, int fd, unsigned events, void *arg);

/* Watches fd, or changes how it is watched; events 0: not for now. Level-triggered: what is ready
 * is told in every round. Returns false with errno set: ENOMEM, or the back end's own reason
 * (ERANGE for a descriptor that does not fit select's set); fd is then watched as it was before. */
bool loop_watch(struct loop *loop, int fd, unsigned events, loop_watcher *callback, void *arg);

/* Stops watching fd, if it is watched. To be called before fd is closed: what this round still has
 * to tell about it is forgotten, so whoever gets the same number next is not told by mistake. */
void loop_unwatch(struct loop *loop, int fd);

/* --- timers --- */

struct timer {
    void (*callback)(struct loop *loop, void *arg);
    void *arg;
    /* the loop's own: */
    int64_t due;       /* on the monotonic clock, in nanoseconds */
    uint64_t sequence; /* among timers due at the same time the first started is the first called */
    size_t place;      /* in the heap, counted from 1; 0: not running */
};

/* Calls timer->callback(loop, timer->arg) once, ms milliseconds from now or as soon after that as
 * the loop is free. A running timer is started anew. Returns false with errno ENOMEM. O(log n) in
 * the number of running timers, like timer_stop(). */
bool timer_start(struct loop *loop, struct timer *timer, int64_t ms);

/* Nothing happens if the timer is not running. */
void timer_stop(struct loop *loop, struct timer *timer);

/* --- calls put off --- */

struct deferred {
    void (*callback)(struct loop *loop, void *arg);
    void *arg;
    /* the loop's own: */
    struct deferred *next, **link; /* link: what points at this one; NULL: not waiting */
    uint64_t round;                /* of the loop, in which it was deferred */
};

/* Calls deferred->callback(loop, deferred->arg) once, after this round's descriptors and timers;
 * what is deferred by a deferred call, after the next round's. Once only, if already waiting. */
void loop_defer(struct loop *loop, struct deferred *deferred);
void loop_defer_cancel(struct loop *loop, struct deferred *deferred);

/* --- waking the loop from elsewhere --- */

struct wakeup {
    void (*callback)(struct loop *loop, void *arg);
    void *arg;
    /* the loop's own: */
    struct loop *loop;
    atomic_bool sent;
    struct wakeup *next;
};

/* Makes wakeup ready to be sent, until wakeup_remove(), by when all who send it must have finished.
 */
void wakeup_add(struct loop *loop, struct wakeup *wakeup);
void wakeup_remove(struct wakeup *wakeup);

/* Has wakeup->callback(loop, wakeup->arg) called in the loop's thread, soon. From any thread and
 * from a signal handler. Sent again before it was called, it is called once: so a burst costs one
 * system call. What the sender wrote before is seen by the callback. */
void wakeup_send(struct wakeup *wakeup);

/* --- how late it is --- */

/* What the monotonic clock says, in nanoseconds. From any thread. */
int64_t loop_clock(void);

/* Loop lag: how long the loop has been away from its wait, in nanoseconds; for that long nobody
 * was served. In its last finished round, and the most so far. */
struct lag {
    int64_t last, max;
};
struct lag loop_lag(const struct loop *loop);

#endif
