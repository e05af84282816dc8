/* Chapter 03 in five calls: everywhere, at most FD_SETSIZE descriptors, and O(n). */
#include "backend.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/select.h>

struct state {
    fd_set readers, writers;
    int highest; /* descriptor in either set; -1: none */
};

static bool select_open(struct loop *loop)
{
    struct state *state = malloc(sizeof *state);
    if (!state)
        return false;
    FD_ZERO(&state->readers);
    FD_ZERO(&state->writers);
    state->highest = -1;
    loop->state = state;
    return true;
}

static void select_close(struct loop *loop)
{
    free(loop->state);
}

static bool select_change(struct loop *loop, int fd, unsigned before, unsigned after)
{
    (void)before;
    struct state *state = loop->state;
    if (fd >= FD_SETSIZE) { /* FD_SET() would write past the end of the set */
        errno = ERANGE;
        return false;
    }
    FD_CLR(fd, &state->readers);
    FD_CLR(fd, &state->writers);
    if (after & LOOP_READ)
        FD_SET(fd, &state->readers);
    if (after & LOOP_WRITE)
        FD_SET(fd, &state->writers);
    if (after && fd > state->highest)
        state->highest = fd;
    while (state->highest >= 0 && !FD_ISSET(state->highest, &state->readers) &&
           !FD_ISSET(state->highest, &state->writers))
        state->highest--;
    return true;
}

static bool select_wait(struct loop *loop, int timeout_ms)
{
    struct state *state = loop->state;
    fd_set readable = state->readers, writable = state->writers; /* select() overwrites them */
    struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000L};
    int ready =
        select(state->highest + 1, &readable, &writable, NULL, timeout_ms < 0 ? NULL : &timeout);
    for (int fd = 0; ready > 0 && fd <= state->highest; fd++) {
        unsigned events = (FD_ISSET(fd, &readable) ? LOOP_READ : 0U) |
                          (FD_ISSET(fd, &writable) ? LOOP_WRITE : 0U);
        if (events)
            backend_ready(loop, fd, events);
    }
    return ready >= 0;
}

const struct backend backend_select = {"select", select_open, select_close, select_change,
                                       select_wait};
