/* Chapter 05 in five calls: register once, O(ready). Linux. */
#include "backend.h"

#if __has_include(<sys/epoll.h>)
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { MAX_EVENTS = 256 }; /* taken from one wait; what does not fit comes with the next */

struct state {
    int epoll;
    struct epoll_event events[MAX_EVENTS];
};

static bool epoll_open(struct loop *loop)
{
    struct state *state = malloc(sizeof *state);
    if (!state)
        return false;
    state->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (state->epoll < 0) {
        free(state);
        return false;
    }
    loop->state = state;
    return true;
}

static void epoll_close(struct loop *loop)
{
    struct state *state = loop->state;
    close(state->epoll);
    free(state);
}

/* Not watched means deleted: with no events asked for, epoll would still report hang-ups. */
static bool epoll_change(struct loop *loop, int fd, unsigned before, unsigned after)
{
    struct state *state = loop->state;
    struct epoll_event event = {.data.fd = fd};
    event.events = (after & LOOP_READ ? EPOLLIN : 0U) | (after & LOOP_WRITE ? EPOLLOUT : 0U);
    int operation = !before ? EPOLL_CTL_ADD : after ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
    return epoll_ctl(state->epoll, operation, fd, &event) == 0;
}

static bool epoll_wait_ready(struct loop *loop, int timeout_ms)
{
    struct state *state = loop->state;
    int ready = epoll_wait(state->epoll, state->events, MAX_EVENTS, timeout_ms);
    for (int i = 0; i < ready; i++) {
        unsigned got = state->events[i].events, events = 0;
        if (got & (EPOLLIN | EPOLLHUP | EPOLLERR))
            events |= LOOP_READ;
        if (got & (EPOLLOUT | EPOLLHUP | EPOLLERR))
            events |= LOOP_WRITE;
        backend_ready(loop, state->events[i].data.fd, events);
    }
    return ready >= 0;
}

const struct backend backend_epoll = {"epoll", epoll_open, epoll_close, epoll_change,
                                      epoll_wait_ready};
#else
const struct backend backend_epoll = {.name = "epoll"};
#endif
