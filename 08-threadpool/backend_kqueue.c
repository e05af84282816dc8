/* Chapter 06 in five calls: register once, O(ready). macOS and the BSDs. */
#include "backend.h"

#if __has_include(<sys/event.h>)
#include <errno.h>
#include <stdlib.h>
#include <sys/event.h>
#include <time.h>
#include <unistd.h>

enum { MAX_EVENTS = 256 }; /* taken from one wait; what does not fit comes with the next */

struct state {
    int kqueue;
    struct kevent events[MAX_EVENTS];
};

static bool kqueue_open(struct loop *loop)
{
    struct state *state = malloc(sizeof *state);
    if (!state)
        return false;
    state->kqueue = kqueue(); /* not inherited by a child */
    if (state->kqueue < 0) {
        free(state);
        return false;
    }
    loop->state = state;
    return true;
}

static void kqueue_close(struct loop *loop)
{
    struct state *state = loop->state;
    close(state->kqueue);
    free(state);
}

/* Reading and writing are watched by a filter each, which comes and goes by itself. */
static bool change_filter(struct loop *loop, int fd, short filter, bool before, bool after)
{
    struct state *state = loop->state;
    struct kevent change;
    if (before == after)
        return true;
    EV_SET(&change, (uintptr_t)fd, filter, after ? EV_ADD : EV_DELETE, 0, 0, NULL);
    return kevent(state->kqueue, &change, 1, NULL, 0, NULL) == 0;
}

static bool kqueue_change(struct loop *loop, int fd, unsigned before, unsigned after)
{
    if (!change_filter(loop, fd, EVFILT_READ, before & LOOP_READ, after & LOOP_READ))
        return false;
    if (change_filter(loop, fd, EVFILT_WRITE, before & LOOP_WRITE, after & LOOP_WRITE))
        return true;
    int reason = errno;
    change_filter(loop, fd, EVFILT_READ, after & LOOP_READ, before & LOOP_READ);
    errno = reason;
    return false;
}

static bool kqueue_wait(struct loop *loop, int timeout_ms)
{
    struct state *state = loop->state;
    struct timespec timeout = {.tv_sec = timeout_ms / 1000,
                               .tv_nsec = timeout_ms % 1000 * 1000000L};
    int ready =
        kevent(state->kqueue, NULL, 0, state->events, MAX_EVENTS, timeout_ms < 0 ? NULL : &timeout);
    for (int i = 0; i < ready; i++) {
        const struct kevent *event = &state->events[i];
        backend_ready(loop, (int)event->ident,
                      event->filter == EVFILT_READ ? LOOP_READ : LOOP_WRITE);
    }
    return ready >= 0;
}

const struct backend backend_kqueue = {"kqueue", kqueue_open, kqueue_close, kqueue_change,
                                       kqueue_wait};
#else
const struct backend backend_kqueue = {.name = "kqueue"};
#endif
