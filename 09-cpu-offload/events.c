#include "events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVENT_MAX = 8 * 1024, OWED_MAX = 32 * 1024 }; /* bytes: of an event, and not taken yet */

struct listener {
    struct events *events;
    struct client *client;
    struct listener *next, **link;
};

struct events {
    struct loop *loop;
    int64_t period_ms;
    void (*tell)(char *out, size_t size);
    struct timer timer;
    struct listener *listeners;
    unsigned long long
        id; /* of the last event: a listener that was cut off names the last it saw */
};

static void remove_listener(struct listener *listener)
{
    *listener->link = listener->next;
    if (listener->next)
        listener->next->link = listener->link;
    free(listener);
}

static void gone(void *arg)
{
    remove_listener(arg);
}

static void send_event(struct listener *listener, const char *event, size_t length)
{
    struct client *client = listener->client;
    if (client_owed(client) > OWED_MAX) {
        remove_listener(listener);
        client_drop(client);
    } else {
        client_write(client, event, length);
    }
}

static size_t write_event(struct events *events, char *out, size_t size)
{
    char data[EVENT_MAX];
    events->tell(data, sizeof data);
    return (size_t)snprintf(out, size, "id: %llu\ndata: %s\n\n", events->id, data);
}

static void tick(struct loop *loop, void *arg)
{
    struct events *events = arg;
    char event[EVENT_MAX + 64];
    if (!events->listeners)
        return;
    events->id++;
    size_t length = write_event(events, event, sizeof event);
    for (struct listener *listener = events->listeners, *next; listener; listener = next) {
        next = listener->next; /* this one may be gone afterwards, but no other */
        send_event(listener, event, length);
    }
    timer_start(loop, &events->timer, events->period_ms);
}

struct events *events_new(struct loop *loop, int64_t period_ms,
                          void (*tell)(char *out, size_t size))
{
    struct events *events = calloc(1, sizeof *events);
    if (!events)
        return NULL;
    events->loop = loop;
    events->period_ms = period_ms;
    events->tell = tell;
    events->timer = (struct timer){.callback = tick, .arg = events};
    return events;
}

void events_free(struct events *events)
{
    timer_stop(events->loop, &events->timer);
    free(events);
}

void events_answer(struct events *events, struct client *client, const struct http_parser *request)
{
    static const struct waiter waiter = {.gone = gone};
    static const struct answer head = {.status = 200,
                                       .headers = "Cache-Control: no-store\r\n",
                                       .type = "text/event-stream",
                                       .length = -1};
    char first[EVENT_MAX + 64] = "retry: 1000\n";
    bool has_body = strcmp(request->method, "HEAD") != 0;
    struct listener *listener = malloc(sizeof *listener);
    if (!listener || (events->timer.place == 0 &&
                      !timer_start(events->loop, &events->timer, events->period_ms))) {
        free(listener);
        client_answer_error(client, 500, NULL, "out of memory");
        return;
    }
    *listener = (struct listener){.events = events, .client = client};
    listener->link = &events->listeners;
    listener->next = events->listeners;
    if (listener->next)
        listener->next->link = &listener->next;
    events->listeners = listener;
    client_wait(client, &waiter, listener);
    size_t length = strlen(first);
    length += write_event(events, first + length, sizeof first - length);
    client_begin(client, &head);
    if (has_body) {
        client_write(client, first, length);
    } else {
        remove_listener(listener);
        client_end(client);
    }
}
