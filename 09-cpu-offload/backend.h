/*
 * Between loop.c and its back ends: what is watched, and the calls that each back end makes of its
 * system's own. Not for users of the loop.
 */
#ifndef BACKEND_H
#define BACKEND_H

#include "loop.h"

/* One descriptor, in a table by its number: the kernel gives the lowest free one. */
struct watch {
    loop_watcher *callback;
    void *arg;
    unsigned char events; /* what to watch for; 0: nothing */
    unsigned char ready;  /* what this round has still to tell */
};

struct loop {
    const struct backend *backend;
    void *state;           /* the back end's own */
    struct watch *watches; /* by descriptor */
    int *batch;            /* the descriptors that the last wait found ready */
    int watch_count;       /* how many descriptors there is room for, in both */
    int batch_length;

    struct timer **timers; /* a binary heap, its first element at 1 */
    size_t timer_count, timer_room;
    uint64_t timer_sequence;

    struct deferred *deferred, **deferred_end;
    uint64_t round;

    struct wakeup *wakeups, *next_wakeup;
    int pipe[2];

    struct lag lag;
    bool running;
};

/* Where the system has no such interface, open is NULL. */
struct backend {
    const char *name;
    /* Makes loop->state. Returns false with errno set. */
    bool (*open)(struct loop *loop);
    void (*close)(struct loop *loop);
    /* fd was watched for the events `before`, and is now to be watched for `after`; 0: not at all.
     * The two differ. Returns false with errno set; then nothing has changed. */
    bool (*change)(struct loop *loop, int fd, unsigned before, unsigned after);
    /* Waits until something is ready, at most timeout_ms milliseconds (-1: for ever), and passes
     * all of it to backend_ready(). Returns false with errno set, EINTR for a signal. */
    bool (*wait)(struct loop *loop, int timeout_ms);
};
extern const struct backend backend_epoll, backend_kqueue, backend_poll, backend_select;

/* Notes that fd is ready for these events. */
void backend_ready(struct loop *loop, int fd, unsigned events);

#endif
