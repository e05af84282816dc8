/* Chapter 04 in five calls: no limit, and O(n), for each wait hands all of the list over. */
#include "backend.h"

#include <poll.h>
#include <stdlib.h>

struct state {
    struct pollfd *list; /* without gaps */
    int *places;         /* by descriptor: where in the list it is */
    int count, room;     /* room for how many, and for which descriptors */
};

static bool poll_open(struct loop *loop)
{
    loop->state = calloc(1, sizeof(struct state));
    return loop->state;
}

static void poll_close(struct loop *loop)
{
    struct state *state = loop->state;
    free(state->list);
    free(state->places);
    free(state);
}

static bool make_room(struct state *state, int room)
{
    struct pollfd *list = realloc(state->list, (size_t)room * sizeof *list);
    if (list)
        state->list = list;
    int *places = realloc(state->places, (size_t)room * sizeof *places);
    if (places)
        state->places = places;
    if (!list || !places)
        return false;
    state->room = room;
    return true;
}

static bool poll_change(struct loop *loop, int fd, unsigned before, unsigned after)
{
    struct state *state = loop->state;
    if (fd >= state->room && !make_room(state, loop->watch_count))
        return false; /* but to change and to remove what is there never fails */
    if (!before)
        state->places[fd] = state->count++;
    int place = state->places[fd];
    if (after) {
        short events =
            (short)((after & LOOP_READ ? POLLIN : 0) | (after & LOOP_WRITE ? POLLOUT : 0));
        state->list[place] = (struct pollfd){.fd = fd, .events = events};
    } else { /* the last one fills the gap */
        state->list[place] = state->list[--state->count];
        state->places[state->list[place].fd] = place;
    }
    return true;
}

static bool poll_wait(struct loop *loop, int timeout_ms)
{
    struct state *state = loop->state;
    int ready = poll(state->list, (nfds_t)state->count, timeout_ms);
    for (int i = 0, left = ready; left > 0; i++) {
        unsigned events = 0;
        if (state->list[i].revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL))
            events |= LOOP_READ;
        if (state->list[i].revents & (POLLOUT | POLLHUP | POLLERR | POLLNVAL))
            events |= LOOP_WRITE;
        if (events) {
            backend_ready(loop, state->list[i].fd, events);
            left--;
        }
    }
    return ready >= 0;
}

const struct backend backend_poll = {"poll", poll_open, poll_close, poll_change, poll_wait};
