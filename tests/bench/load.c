#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier): memmem() */
#include "load.h"

#include "../harness.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Answers: beside so many, the 50 in flight at the ends do not count. */
enum { ENOUGH = 40 * ACTIVE };
enum { STEPS = 64, TWICE_STEPS = 2 * STEPS, BUCKETS = 40 * STEPS };
enum { ANSWER_MAX = 512 };
static const double GIVE_UP = 20; /* seconds */

/* As short as a request may be. What browsers add, some 500 bytes, costs the servers time, too. */
static const struct question {
    const char *request, *body; /* an end of line behind the body is allowed */
} QUESTIONS[] = {
    {"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", "{\"status\":\"ok\"}"},
    {"GET /good-ping?ms=0 HTTP/1.1\r\nHost: localhost\r\n\r\n", "{\"pong\":true}"},
};
enum { REQUEST_MAX = 64 };

/* --- latencies: counted in buckets 1.6 % wide, so that a long run takes no more memory --- */

struct histogram {
    uint64_t count, buckets[BUCKETS];
};

/* Up to TWICE_STEPS each number has a bucket; from there on, STEPS for each doubling. */
static void histogram_add(struct histogram *histogram, double seconds)
{
    uint64_t value = (uint64_t)(seconds * 1e9), shift = 0;
    while (value >> shift >= TWICE_STEPS)
        shift++;
    uint64_t bucket = shift * STEPS + (value >> shift);
    histogram->buckets[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    histogram->count++;
}

/* The value that this share of all values does not exceed. */
static double histogram_quantile(const struct histogram *histogram, double share)
{
    double rank = share * (double)histogram->count, seen = 0;
    uint64_t bucket = 0;
    while (bucket < BUCKETS - 1 && (seen += (double)histogram->buckets[bucket]) < rank)
        bucket++;
    uint64_t shift = bucket < TWICE_STEPS ? 0 : bucket / STEPS - 1;
    return (double)((bucket - shift * STEPS) << shift) / 1e9;
}

/* --- the load --- */

struct connection {
    int fd;
    double sent_at;
    int missing;           /* answers of the batch */
    size_t got, looked_at; /* bytes */
    char message[MESSAGE];
    char back[MAX_DEPTH * ANSWER_MAX];
};

struct load {
    const struct plan *plan;
    int epoll;
    struct connection active[ACTIVE];
    int *idle, idle_count;
    const struct question *question;
    size_t request_size;
    char requests[MAX_DEPTH * REQUEST_MAX];
    bool sending; /* answer each batch with the next one */
    int in_flight;
    uint64_t sent, answered;
    size_t answer_size;
    struct histogram latencies;
    const char *error; /* NULL as long as all is well */
};

static bool load_fail(struct load *load, const char *error)
{
    load->error = error;
    return false;
}

static bool send_batch(struct load *load, struct connection *connection)
{
    const char *bytes = load->requests;
    size_t length = (size_t)load->plan->depth * load->request_size;
    load->sent++;
    if (load->plan->depth == 0) { /* the number makes each message differ from all before it */
        memcpy(connection->message, &load->sent, sizeof load->sent);
        bytes = connection->message;
        length = MESSAGE;
    }
    connection->missing = load->plan->depth ? load->plan->depth : 1;
    connection->got = connection->looked_at = 0;
    connection->sent_at = now();
    if (!client_send(connection->fd, bytes, length))
        return load_fail(load, "cannot send");
    load->in_flight++;
    return true;
}

static bool look_at_echo(struct load *load, struct connection *connection)
{
    size_t length = connection->got;
    if (length > MESSAGE || memcmp(connection->back, connection->message, length) != 0)
        return load_fail(load, "the echo is not what was sent");
    if (length == MESSAGE) {
        connection->looked_at = load->answer_size = MESSAGE;
        connection->missing = 0;
    }
    return true;
}

/* Finds the end of the answer that begins at text: *size, or 0 if it is not whole yet. Returns
 * false if it is not the one that was asked for. */
static bool find_answer(const char *text, size_t length, const char *wanted, size_t *size)
{
    static const char status[] = "HTTP/1.1 200 ", field[] = "\r\nContent-Length: ";
    const char *head_end = memmem(text, length, "\r\n\r\n", 4);
    *size = 0;
    if (!head_end)
        return length < ANSWER_MAX;
    const char *body = head_end + 4;
    const char *value = memmem(text, (size_t)(head_end - text), field, sizeof field - 1);
    size_t wanted_size = strlen(wanted);
    size_t promised = value ? strtoul(value + sizeof field - 1, NULL, 10) : 0;
    if (promised < wanted_size || promised > wanted_size + 1 ||
        strncmp(text, status, sizeof status - 1) != 0)
        return false;
    size_t whole = (size_t)(body - text) + promised;
    if (whole > length)
        return true;
    *size = whole;
    return memcmp(body, wanted, wanted_size) == 0;
}

static bool look_at_answers(struct load *load, struct connection *connection)
{
    size_t size = 1;
    while (size > 0 && connection->looked_at < connection->got) {
        if (connection->missing == 0)
            return load_fail(load, "there are more answers than requests");
        if (!find_answer(connection->back + connection->looked_at,
                         connection->got - connection->looked_at, load->question->body, &size))
            return load_fail(load, "the answer is not the one that was asked for");
        connection->looked_at += size;
        if (size > 0) {
            load->answer_size = size;
            connection->missing--;
        }
    }
    return true;
}

static bool receive_answers(struct load *load, struct connection *connection)
{
    ssize_t n = recv(connection->fd, connection->back + connection->got,
                     sizeof connection->back - connection->got, 0);
    if (n <= 0)
        return load_fail(load, "the server closed a connection");
    connection->got += (size_t)n;
    if (!(load->plan->depth ? look_at_answers : look_at_echo)(load, connection))
        return false;
    if (connection->missing > 0)
        return true;
    histogram_add(&load->latencies, now() - connection->sent_at);
    load->answered += load->plan->depth ? (uint64_t)load->plan->depth : 1;
    load->in_flight--;
    return !load->sending || send_batch(load, connection);
}

/* Keeps batches going to and fro until that time, or until none is in flight any more. */
static bool exchange_until(struct load *load, double end)
{
    for (double left; load->in_flight > 0 && (left = end - now()) > 0;) {
        struct epoll_event events[ACTIVE];
        int ready = epoll_wait(load->epoll, events, ACTIVE, (int)(left * 1000) + 1);
        if (ready < 0 && errno != EINTR)
            return load_fail(load, "epoll_wait failed");
        for (int i = 0; i < ready; i++)
            if (!receive_answers(load, events[i].data.ptr))
                return false;
    }
    return true;
}

/* --- connecting --- */

/* Those who are idle have asked once: whatever the server keeps of that, it keeps for all. */
static bool ask_once(struct load *load)
{
    for (int i = 0; i < load->idle_count; i++)
        if (!client_send(load->idle[i], load->question->request, load->request_size))
            return load_fail(load, "cannot send");
    for (int i = 0; i < load->idle_count; i++) {
        char answer[ANSWER_MAX];
        ssize_t n = recv(load->idle[i], answer, sizeof answer, 0);
        size_t size;
        if (n <= 0 || !find_answer(answer, (size_t)n, load->question->body, &size) ||
            size != (size_t)n)
            return load_fail(load, "an idle connection was not answered");
    }
    return true;
}

static bool load_connect(struct load *load, int port)
{
    int idle = load->plan->idle;
    load->idle = calloc((size_t)idle + 1, sizeof *load->idle);
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!load->idle || load->epoll < 0)
        return load_fail(load, "no memory or descriptor for the load");
    while (load->idle_count < idle) {
        int fd = client_connect(port);
        if (fd < 0)
            return load_fail(load, "cannot connect");
        load->idle[load->idle_count++] = fd;
    }
    for (int i = 0; i < ACTIVE; i++) {
        struct connection *connection = &load->active[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        memset(connection->message, 'a' + i % 26, MESSAGE);
        connection->fd = client_connect(port);
        if (connection->fd < 0 || epoll_ctl(load->epoll, EPOLL_CTL_ADD, connection->fd, &event) < 0)
            return load_fail(load, "cannot connect");
    }
    return load->plan->depth == 0 || ask_once(load);
}

/* Resets all connections: thousands of ports in TIME_WAIT would be in the way of the next run. */
static void load_close(struct load *load)
{
    for (int i = 0; i < load->idle_count; i++)
        client_reset(load->idle[i]);
    for (int i = 0; i < ACTIVE; i++)
        if (load->active[i].fd >= 0)
            client_reset(load->active[i].fd);
    if (load->epoll >= 0)
        close(load->epoll);
    free(load->idle);
}

/* --- measuring --- */

/* Has the load go on for that long and takes the figures. Longer if other programs left no CPU to
 * us: a share of a handful of answers would say nothing. */
static bool load_measure(struct load *load, pid_t pid, double figures[FIGURES])
{
    load->answered = 0;
    load->latencies = (struct histogram){0};
    double start = now(), cpu_before = process_cpu(pid);
    do
        if (!exchange_until(load, now() + load->plan->seconds))
            return false;
    while (load->answered < ENOUGH && now() < start + GIVE_UP);
    double cpu = process_cpu(pid) - cpu_before, took = now() - start;
    if (load->answered == 0)
        return load_fail(load, "no answer came back");
    figures[RATE] = (double)load->answered / took;
    figures[CPU] = cpu * 1e9 / (double)load->answered;
    figures[HALF] = histogram_quantile(&load->latencies, 0.50);
    figures[MOST] = histogram_quantile(&load->latencies, 0.99);
    figures[ANSWER] = (double)load->answer_size;
    return true;
}

static bool send_to_all(struct load *load)
{
    for (int i = 0; i < ACTIVE; i++)
        if (!send_batch(load, &load->active[i]))
            return false;
    return true;
}

/* Waits for what is in flight, without sending more. */
static bool load_drain(struct load *load)
{
    load->sending = false;
    if (!exchange_until(load, now() + GIVE_UP))
        return false;
    return load->in_flight == 0 || load_fail(load, "answers do not come back");
}

/* One batch for everybody: as the active connections were the last to knock, all are accepted then,
 * and nobody is owed anything. After that the server warms up and is measured. */
static bool load_exchange(struct load *load, pid_t pid, long memory_before, double figures[FIGURES])
{
    int idle = load->plan->idle;
    if (!send_to_all(load) || !load_drain(load))
        return false;
    if (process_descriptors(pid) < ACTIVE + idle)
        return load_fail(load, "the server does not hold all connections");
    double grown = (double)(process_memory_kib(pid) - memory_before) * 1024;
    figures[MEMORY] = idle > 0 ? grown / idle : NAN;
    load->sending = true;
    return send_to_all(load) && exchange_until(load, now() + load->plan->seconds / 5) &&
           load_measure(load, pid, figures) && load_drain(load);
}

const char *load_run(int port, pid_t pid, const struct plan *plan, double figures[FIGURES])
{
    static struct load load; /* large for a stack */
    load = (struct load){.plan = plan, .epoll = -1, .question = &QUESTIONS[plan->pooled]};
    load.request_size = strlen(load.question->request);
    for (int i = 0; i < ACTIVE; i++)
        load.active[i].fd = -1;
    for (size_t i = 0; i < MAX_DEPTH; i++)
        memcpy(load.requests + i * load.request_size, load.question->request, load.request_size);
    long memory_before = process_memory_kib(pid);
    if (load_connect(&load, port))
        load_exchange(&load, pid, memory_before, figures);
    load_close(&load);
    return load.error;
}
