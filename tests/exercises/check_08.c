/*
 * The exercises of chapter 08. Where threads have to be taken, long pings take them: no check waits
 * for their end, and what the program counts in /stats is exact, however slow the machine.
 */
#include "exercise.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* --- asking --- */

/* What to suspect if the program crashes, or does not answer; "": nothing special. */
static const char *suspicion = "";

/* What the last call came to, short enough for a sentence: status and body, or what was wrong. */
static const char *outcome(const struct http_client *client)
{
    static char text[200];
    if (*client->problem)
        snprintf(text, sizeof text, "%.120s%s", client->problem, suspicion);
    else if (!client->body)
        snprintf(text, sizeof text, "the end of the connection%s", suspicion);
    else
        snprintf(text, sizeof text, "%d %.180s", client->status, client->body);
    return text;
}

static void expect_answer(struct http_client *client, int wanted, const char *when)
{
    int status = http_receive(client);
    expect(status == wanted, "%s, expected %d, but got: %.200s", when, wanted, outcome(client));
}

static bool says_when_to_retry(const struct http_client *client)
{
    const char *later = http_field(client, "Retry-After");
    return later && strtol(later, NULL, 10) > 0;
}

/* A number of /stats. */
static int stat_of(const char *name)
{
    struct http_client client = connect_http();
    int status = http_get(&client, "/stats");
    double number = status == 200 ? json_number(client.body, name) : -1;
    expect(number >= 0, "asked for /stats, expected \"%s\" among its numbers, but got: %.200s",
           name, outcome(&client));
    http_close(&client);
    return (int)number;
}

static void await_stat(const char *name, int number)
{
    expect(becomes_true(stat_of(name) == number), "\"%s\" in /stats is %d and does not become %d",
           name, stat_of(name), number);
}

/* Asks for a ping of so many milliseconds, on a connection that is accepted already, and returns
 * when the program has read that: who asks after this call comes later, on every back end. */
static struct http_client ask_ping(int ms)
{
    char target[64];
    struct http_client client = http_connect(server.port), other = http_connect(server.port);
    expect(client.fd >= 0 && other.fd >= 0, "the program can be connected to no longer%s",
           suspicion);
    snprintf(target, sizeof target, "/good-ping?ms=%d", ms);
    bool healthy = http_get(&client, "/health") == 200 && http_ask(&client, target);
    for (int i = 0; i < 2; i++) /* the first may come from the round that reads the ping */
        healthy = healthy && http_get(&other, "/health") == 200;
    expect(healthy, "while pings were under way, expected 200 for /health at once, but got: %.200s",
           outcome(&other));
    http_close(&other);
    return client;
}

static void ask_pings(struct http_client *clients, int count, int ms)
{
    for (int i = 0; i < count; i++)
        clients[i] = ask_ping(ms);
}

static void close_all(struct http_client *clients, int count)
{
    for (int i = 0; i < count; i++)
        http_close(&clients[i]);
}

/* Leaves by a reset (RST). */
static void leave_rudely(struct http_client *client)
{
    client_reset(client->fd);
    client->fd = -1;
    http_close(client);
}

static int random_from(int least, int most)
{
    static bool seeded;
    if (!seeded)
        srand((unsigned)(now() * 1e6));
    seeded = true;
    return least + (int)((double)rand() / ((double)RAND_MAX + 1) * (most - least + 1));
}

/* --- cheap --- */

__extension__ typedef unsigned __int128 wide;

/* Both have to be so, says the exercise; in between the border is the program's. */
enum { SMALL = 1000, LARGE = 1000000 };

/* Asks for the sum, which has to be right, in any white space. */
static void expect_sum(struct http_client *client, int n, const char *when)
{
    char target[64], digits[48] = "", *digit = digits + 47;
    wide rest = n ? (wide)(n - 1) * (wide)n * (2 * (wide)n - 1) / 6 : 0;
    do
        *--digit = (char)('0' + (int)(rest % 10));
    while ((rest /= 10) > 0);
    snprintf(target, sizeof target, "/sum?n=%d", n);
    int status = http_get(client, target);
    expect(status == 200, "%s, expected the sum for %s, but got: %.200s", when, target,
           outcome(client));
    const char *result = strstr(client->body, "\"result\"");
    result = result ? result + strcspn(result, ":") : "";
    result += strspn(result, ": ");
    size_t length = strspn(result, "0123456789");
    expect(length == strlen(digit) && strncmp(result, digit, length) == 0,
           "%s, expected {\"result\":%s} for %s, but got: %.150s", when, digit, target,
           client->body);
}

static void sums_are_exact(void)
{
    const int wanted[] = {0,
                          1,
                          2,
                          random_from(3, SMALL),
                          random_from(SMALL, 20000),
                          random_from(20000, LARGE),
                          3810777,
                          3810778, /* 64 bits overflow */
                          random_from(4000000, 20000000)};
    start("");
    struct http_client client = connect_http();
    for (int i = 0; i < COUNT(wanted); i++)
        expect_sum(&client, wanted[i], "with nothing else to do");
    http_close(&client);
}

/* The queue is full as well: what goes to the pool is refused, and nobody has to wait long to see
 * who does. */
static void small_sums_need_no_thread(void)
{
    enum { THREADS = 2, QUEUE = 2 };
    struct http_client pings[THREADS + QUEUE], client;
    char target[64];
    const int wanted[] = {100, 0, 1, random_from(2, SMALL), SMALL};
    start("--threads 2 --queue 2");
    ask_pings(pings, THREADS + QUEUE, 60000);
    await_stat("busy", THREADS);
    await_stat("queued", QUEUE);
    client = connect_http();
    for (int i = 0; i < COUNT(wanted); i++)
        expect_sum(&client, wanted[i], "with all threads asleep and the queue full");
    int n = random_from(LARGE + 1, 2 * LARGE);
    snprintf(target, sizeof target, "/sum?n=%d", n);
    int status = http_get(&client, target);
    expect(status == 503,
           "with all threads asleep and the queue full, expected 503 for %s, but got %d: who adds "
           "up a million squares on the loop holds up everybody",
           target, status);
    http_close(&client);
    close_all(pings, THREADS + QUEUE);
}

static void pool_gets_the_large_only(void)
{
    enum { SMALL_ONES = 30, LARGE_ONES = 3 };
    start("");
    struct http_client client = connect_http();
    for (int i = 0; i < SMALL_ONES; i++)
        expect_sum(&client, random_from(0, SMALL), "with nothing else to do");
    int done = stat_of("done");
    expect(done == 0, "after %d sums of n <= %d, expected no job of the pool's, but %d are done",
           SMALL_ONES, SMALL, done);
    for (int i = 0; i < LARGE_ONES; i++)
        expect_sum(&client, random_from(LARGE + 1, 2 * LARGE), "with nothing else to do");
    done = stat_of("done");
    expect(done == LARGE_ONES,
           "after %d sums of n >= %d, expected as many jobs of the pool's, but %d are done",
           LARGE_ONES, LARGE, done);
    http_close(&client);
}

/* True if /health was answered five times before the sum. */
static bool health_comes_first(int n)
{
    char target[64];
    struct http_client health = connect_http(), sum = connect_http();
    snprintf(target, sizeof target, "/sum?n=%d", n);
    bool first = http_get(&health, "/health") == 200 && http_ask(&sum, target);
    sleep_for(0.05); /* the program should have begun */
    for (int i = 0; i < 5; i++)
        first = http_get(&health, "/health") == 200 && first;
    first = first && !client_has_input(sum.fd, 0);
    expect_answer(&sum, 200, "after a large n for /sum");
    http_close(&sum);
    http_close(&health);
    return first;
}

/* n grows until the sum takes half a second here; of three tries one has to do, as something else
 * may hold up the machine. */
static void large_sums_hold_up_nobody(void)
{
    const int most = 1000000000;
    double took = 0;
    char target[64];
    int n = LARGE;
    start("");
    struct http_client client = connect_http();
    while (took < 0.5 && n < most) {
        double begun = now();
        n = n < most / 3 ? 3 * n : most;
        snprintf(target, sizeof target, "/sum?n=%d", n);
        int status = http_get(&client, target);
        expect(status == 200, "asked for %s, expected 200, but got: %.200s", target,
               outcome(&client));
        took = now() - begun;
    }
    http_close(&client);
    expect(
        took > 0.02,
        "asked for %s, the answer was there after %.0f ms: the adding up itself is to stay as it "
        "is, or there is no long work to be seen",
        target, took * 1000);
    bool first = false;
    for (int i = 0; i < 3 && !first; i++)
        first = health_comes_first(n);
    expect(first,
           "while /sum?n=%d was under way, expected /health at once, but it had to wait for "
           "the sum: large sums are for the pool",
           n);
}

/* --- queue --- */

/* How long the ping runs that everybody waits for; on a right program nobody does. */
enum { LONG_MS = 20000 };

/* Receives answers as they come: all have to be 200, and in this order. */
static void expect_in_order(struct http_client *clients, int count)
{
    const char *when = "after more pings than the pool has room for, one by one";
    struct pollfd waits[16];
    for (int i = 0; i < count; i++)
        waits[i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
    for (int first = 0; first < count; first++) {
        expect(poll(waits, (nfds_t)count, patience() * 1000) > 0,
               "of %d pings, one by one, only %d were answered within %d s", count, first,
               patience());
        for (int i = count - 1; i > first; i--) {
            if (!waits[i].revents || client_has_input(clients[first].fd, 0))
                continue;
            expect_answer(&clients[i], 200, when);
            expect(false,
                   "ping %d of %d was answered before ping %d, which came earlier: expected the "
                   "order of arrival",
                   i + 1, count, first + 1);
        }
        expect_answer(&clients[first], 200, when);
        waits[first].fd = -1;
    }
}

static void all_are_served_in_order(void)
{
    struct http_client clients[8];
    int count = random_from(5, COUNT(clients));
    start("--threads 1 --queue 1");
    ask_pings(clients, count, 150);
    expect_in_order(clients, count);
    close_all(clients, count);
    int done = stat_of("done");
    expect(done == count, "after %d pings, expected as many jobs done, but /stats says %d", count,
           done);
}

/* Has one ping run for long, and more pings wait for it: clients[1] in the queue, which has one
 * place, and the others outside. */
static void fill(struct http_client *clients, int count)
{
    clients[0] = ask_ping(LONG_MS);
    await_stat("busy", 1);
    for (int i = 1; i < count; i++) {
        clients[i] = ask_ping(0);
        expect(!client_has_input(clients[0].fd, 0),
               "while request %d waited for a place, expected /health at once, but it had to wait "
               "for a ping's end: the loop must not block",
               i + 1);
        if (client_has_input(clients[i].fd, 0)) {
            http_receive(&clients[i]);
            expect(false,
                   "with thread and queue taken, expected request %d to wait, but it got: "
                   "%.200s",
                   i + 1, outcome(&clients[i]));
        }
    }
}

/* Fails unless /stats says so before the ping that runs has ended. */
static void expect_while_runs(const struct http_client *runs, const char *name, int number,
                              const char *when)
{
    int is = stat_of(name);
    for (double end = now() + patience(); is != number && now() < end; is = stat_of(name)) {
        if (client_has_input(runs->fd, 0))
            break;
        sleep_for(0.01);
    }
    expect(is == number, "%s, expected \"%s\":%d in /stats, but it is %d", when, name, number, is);
}

/* In the pool as many as it has room for, the others outside, /health meanwhile (see fill()), and
 * no CPU for waiting. */
static void waiting_is_outside_and_free(void)
{
    struct http_client clients[6];
    int count = random_from(4, COUNT(clients));
    const char *when = "with one thread, a queue of one and more pings than that";
    start("--threads 1 --queue 1");
    fill(clients, count);
    expect_while_runs(&clients[0], "waiting", count - 2, when);
    expect_while_runs(&clients[0], "queued", 1, when);
    double share = process_runnable_share(server.pid, 0.3);
    expect(share < 0.5,
           "while %d requests waited, expected no CPU time, but the program ran for "
           "%.0f %% of the time: who waits has to be told, not to ask",
           count - 2, 100 * share);
    close_all(clients, count);
}

static void who_is_too_many_is_refused(void)
{
    struct http_client clients[4], late[2], next;
    start("--threads 1 --queue 1 --waiting 2");
    fill(clients, COUNT(clients));
    for (int i = 0; i < COUNT(late); i++) {
        late[i] = ask_ping(0);
        expect(client_has_input(late[i].fd, 2), "with --waiting 2 and two waiting, expected 503 "
                                                "for one more at once, but nothing came");
        expect_answer(&late[i], 503, "with --waiting 2 and two waiting already");
        expect(says_when_to_retry(&late[i]), "a 503 came without Retry-After: SECONDS");
        expect(http_get(&late[i], "/health") == 200,
               "after 503, the connection should serve on, but got: %.200s", outcome(&late[i]));
    }
    http_close(&clients[2]);
    expect_while_runs(&clients[0], "waiting", 1, "when one of two that waited had left");
    next = ask_ping(0);
    expect(!client_has_input(next.fd, 0), "when one of two that waited had left, expected the next "
                                          "one to wait in its place, but it was refused");
    expect_while_runs(&clients[0], "waiting", 2, "when another one had come in its place");
    http_close(&next);
    close_all(late, COUNT(late));
    http_close(&clients[0]);
}

/* Of those who wait, one closes and one resets, then the one in the queue closes. All that while
 * the first runs: when it is done, everybody moves up anyway. */
static void who_leaves_frees_the_place(void)
{
    struct http_client runs, pings[5];
    start("--threads 1 --queue 1");
    runs = ask_ping(subject.sanitized ? 4000 : 2000);
    await_stat("busy", 1);
    ask_pings(pings, COUNT(pings), 0);
    expect_while_runs(&runs, "waiting", 4, "with one running, one queued and four more");
    http_close(&pings[2]);
    expect_while_runs(&runs, "waiting", 3, "after one of 4 that waited had closed its connection");
    leave_rudely(&pings[3]);
    expect_while_runs(&runs, "waiting", 2, "after one of 3 that waited had reset its connection");
    http_close(&pings[0]);
    expect_while_runs(&runs, "waiting", 1,
                      "after the one in the queue had left, and the next had taken its place");
    expect_while_runs(&runs, "queued", 1,
                      "after the one in the queue had left, and the next had taken its place");
    expect_answer(&pings[1], 200, "after those before it had left");
    expect_answer(&pings[4], 200, "after those before it had left");
    int done = stat_of("done");
    expect(done == 3,
           "after 6 pings of which 3 left before their turn, expected 3 jobs done, but "
           "/stats says %d",
           done);
    http_close(&pings[1]);
    http_close(&pings[4]);
    http_close(&runs);
}

/* A client sends two requests at once. Its second comes up in the very moment in which the first is
 * done, and there is a place: which is for those who have waited. Returns false if the first was
 * done too early to tell. */
static bool second_request_waits_its_turn(int ms)
{
    char target[64];
    struct http_client hasty = connect_http(), others[3];
    snprintf(target, sizeof target, "/good-ping?ms=%d", ms);
    expect(http_ask(&hasty, target) && http_ask(&hasty, "/good-ping?ms=0"),
           "the program did not take two requests in a row");
    await_stat("busy", 1);
    ask_pings(others, COUNT(others), 200); /* long enough to see who was first */
    bool can_tell = !client_has_input(hasty.fd, 0);
    for (int i = 0; i < 2; i++)
        expect_answer(&hasty, 200, "after two requests in a row");
    for (int i = 0; can_tell && i < COUNT(others); i++)
        expect(client_has_input(others[i].fd, 0),
               "when a ping was done, its client's next request got the free place, though %d "
               "others waited for one: expected the order of arrival",
               COUNT(others) - i);
    for (int i = 0; i < COUNT(others); i++)
        expect_answer(&others[i], 200, "after more pings than the pool has room for");
    close_all(others, COUNT(others));
    http_close(&hasty);
    return can_tell;
}

static void nobody_overtakes(void)
{
    start("--threads 1 --queue 1");
    for (int ms = 500; ms <= 2000 && !second_request_waits_its_turn(ms);)
        ms *= 2;
}

/* SIGTERM while one runs, one is queued and others wait. */
static void ends_with_clients_waiting(void)
{
    struct http_client clients[6];
    start("--threads 1 --queue 1");
    fill(clients, COUNT(clients));
    expect_while_runs(&clients[0], "waiting", 4, "with one running, one queued and four more");
    double begun = now();
    int status = process_end(&server, SIGTERM);
    expect(status == 0,
           "after SIGTERM with 4 requests waiting, expected exit status 0, but it is "
           "%d; stderr: %.250s",
           status, server.errors);
    expect(now() - begun < LONG_MS / 1000.0 - 1,
           "after SIGTERM with 4 requests waiting, expected an end at once, but it took %.1f s",
           now() - begun);
    close_all(clients, COUNT(clients));
}

/* All come at once, so that most of them wait while jobs end, and a few leave again. */
static void queue_without_a_race(void)
{
    struct http_client clients[32];
    int served = 0, wanted = 0;
    if (!start_racing("--threads 3 --queue 2"))
        return;
    for (int i = 0; i < COUNT(clients); i++)
        clients[i] = connect_asking("/good-ping?ms=40");
    for (int i = 7; i < COUNT(clients); i += 8)
        http_close(&clients[i]);
    for (int i = 0; i < COUNT(clients); i++) {
        wanted += i % 8 != 7;
        served += i % 8 != 7 && http_receive(&clients[i]) == 200;
    }
    for (int i = 0; i < COUNT(clients); i++)
        http_close(&clients[i]);
    end_racing(); /* says more than the count, if it has crashed */
    expect(served == wanted, "of %d pings at once, only %d were answered 200", wanted, served);
}

static void queue_ends_in_order(void)
{
    ends_with_clients_waiting();
    queue_without_a_race();
}

static void serves_and_ends(void)
{
    ends_in_order("");
}

/* --- cancel --- */

/* A ping, and when it was asked for. */
struct asked {
    struct http_client client;
    double at;
};

static struct asked ask_at(int ms)
{
    double at = now();
    return (struct asked){ask_ping(ms), at};
}

/* Fails the check if the ping that runs for long has been answered. NULL: no matter here. */
static void expect_running(struct http_client *runs, double waited)
{
    if (!runs || !client_has_input(runs->fd, 0))
        return;
    expect_answer(runs, 200, "after a ping that ran for longer than --max-wait");
    expect(false,
           "a ping waited in the queue for %.1f s, until another one's end: expected 503 as soon "
           "as --max-wait was over, not when a thread is free",
           waited);
}

/* Receives a 503, which has to come before the running ping's answer, and not before the client has
 * waited so long (it is a little less than --max-wait). */
static void expect_too_late(struct asked *asked, double at_least, struct http_client *runs)
{
    while (!client_has_input(asked->client.fd, 0.02)) {
        expect_running(runs, now() - asked->at);
        expect(now() - asked->at < patience(),
               "a ping had waited in the queue for %.1f s, and nothing came: expected 503 as soon "
               "as --max-wait was over%s",
               now() - asked->at, suspicion);
    }
    double waited = now() - asked->at;
    expect_running(runs, waited);
    expect_answer(&asked->client, 503, "after --max-wait in the queue");
    expect(says_when_to_retry(&asked->client), "a 503 came without Retry-After: SECONDS");
    expect(waited >= at_least,
           "a ping got 503 after %.0f ms in the queue, which is less than --max-wait: each has its "
           "own time, from its own request on",
           1000 * waited);
    http_close(&asked->client);
}

static void too_late_is_told_at_once(void)
{
    struct asked waiting[3];
    start("--threads 1 --max-wait 300");
    struct http_client runs = ask_ping(LONG_MS);
    await_stat("busy", 1);
    for (int i = 0; i < COUNT(waiting); i++)
        waiting[i] = ask_at(i);
    for (int i = 0; i < COUNT(waiting); i++)
        expect_too_late(&waiting[i], 0.25, &runs);
    http_close(&runs);
}

static void taken_back_never_runs(void)
{
    struct asked waiting[6];
    int count = random_from(2, COUNT(waiting));
    start("--threads 1 --max-wait 300");
    struct http_client runs = ask_ping(1500);
    await_stat("busy", 1);
    for (int i = 0; i < count; i++)
        waiting[i] = ask_at(0);
    for (int i = 0; i < count; i++)
        expect_too_late(&waiting[i], 0.25, &runs);
    int queued = stat_of("queued");
    expect(queued == 0,
           "after 503 for all %d that were queued, /stats still has %d in the queue: "
           "expected their jobs to be taken back",
           count, queued);
    expect_answer(&runs, 200, "after a ping that ran longer than --max-wait");
    struct http_client next = ask_ping(0);
    expect_answer(&next, 200, "after a ping when the thread was free again");
    int done = stat_of("done");
    expect(done == 2,
           "of %d pings %d got 503, so expected 2 jobs done, but /stats says %d: those "
           "whose clients were sent away have run",
           count + 2, count, done);
    http_close(&next);
    http_close(&runs);
}

static void what_runs_is_left_alone(void)
{
    start("--threads 1 --max-wait 1000");
    double begun = now();
    struct http_client runs = ask_ping(1400), queued;
    expect_answer(&runs, 200, "after a ping that ran longer than --max-wait");
    expect(now() - begun > 1.3,
           "a ping of 1.4 s was answered after %.1f s: expected what runs to "
           "be left alone, however long",
           now() - begun);
    http_close(&runs);
    runs = ask_ping(100);
    queued = ask_ping(0);
    expect_answer(&runs, 200, "after a ping with a thread free");
    expect_answer(&queued, 200, "after a ping that was queued for less than --max-wait");
    http_close(&runs);
    http_close(&queued);
}

/* A stream of newcomers: neither does the first one's time begin anew with each, nor does its end
 * take the others with it. */
static void each_has_its_own_clock(void)
{
    enum { NEWCOMERS = 24 };
    struct asked first, others[NEWCOMERS];
    int count = 0;
    start("--threads 1 --max-wait 500");
    struct http_client runs = ask_ping(LONG_MS);
    await_stat("busy", 1);
    first = ask_at(0);
    while (count < NEWCOMERS && !client_has_input(first.client.fd, 0.1))
        others[count++] = ask_at(0);
    expect(count < NEWCOMERS,
           "with --max-wait 500, the first in the queue got no answer for %.1f s while others came "
           "every 100 ms: expected its time to run on, whoever comes",
           now() - first.at);
    expect_too_late(&first, 0.45, NULL);
    for (int i = 0; i < count; i++)
        expect_too_late(&others[i], 0.45, NULL);
    http_close(&runs);
}

static void many_are_taken_back(void)
{
    enum { MANY = 100 };
    static struct asked waiting[MANY];
    const char *args = "--threads 1 --queue 100 --max-wait 300";
    bool racing = start_racing(args);
    if (!racing)
        start(args);
    struct http_client runs = ask_ping(LONG_MS);
    await_stat("busy", 1);
    for (int i = 0; i < MANY; i++) {
        waiting[i].at = now();
        waiting[i].client = connect_asking("/good-ping?ms=0");
    }
    for (int i = 0; i < MANY; i++)
        expect_too_late(&waiting[i], 0.25, NULL);
    int done = stat_of("done"), queued = stat_of("queued");
    expect(done == 0 && queued == 0,
           "after 503 for all %d that were queued, expected none queued and none done while the "
           "first still runs, but /stats has %d and %d",
           MANY, queued, done);
    http_close(&runs);
    if (racing)
        end_racing();
}

/* Timers must not outlive what they belong to: pings that are done in time, and clients that leave.
 * Who comes next gets the memory of those, and would be told by their timers. */
static void no_timer_of_old_pings(void)
{
    enum { PINGS = 20 };
    struct asked pings[PINGS];
    start("--threads 1 --max-wait 400");
    for (int i = 0; i < PINGS; i++) {
        pings[i] = ask_at(0);
        expect_answer(&pings[i].client, 200, "after a ping with a thread free");
        http_close(&pings[i].client);
    }
    struct http_client runs = ask_ping(LONG_MS);
    await_stat("busy", 1);
    for (int i = 0; i < PINGS; i++)
        pings[i] = ask_at(0);
    for (int i = 0; i < PINGS; i += 2)
        if (i % 4 == 0)
            http_close(&pings[i].client);
        else
            leave_rudely(&pings[i].client);
    sleep_for(0.1);
    for (int i = 0; i < PINGS; i += 2)
        pings[i] = ask_at(0);
    for (int i = 0; i < PINGS; i++)
        expect_too_late(&pings[i], 0.35, &runs);
    int done = stat_of("done"), queued = stat_of("queued");
    expect(done == PINGS && queued == 0,
           "after %d pings that were done and %d that left or were too late, expected %d jobs done "
           "and none queued, but /stats has %d and %d",
           PINGS, PINGS + PINGS / 2, PINGS, done, queued);
    http_close(&runs);
}

/* A ping that finds the queue full never waits. They are many, so that the C library uses the
 * memory of some again, or has overwritten it. */
static void no_timer_of_refused_pings(void)
{
    struct http_client refused[24];
    start("--threads 1 --queue 1 --max-wait 400");
    struct http_client runs = ask_ping(LONG_MS);
    await_stat("busy", 1);
    struct asked queued = ask_at(0);
    for (int i = 0; i < COUNT(refused); i++) {
        refused[i] = ask_ping(0);
        expect_answer(&refused[i], 503, "with the thread taken and the queue full");
    }
    expect_too_late(&queued, 0.35, NULL);
    sleep_for(0.6);
    for (int i = 0; i < COUNT(refused); i++) {
        bool silent = !client_has_input(refused[i].fd, 0);
        int status = http_get(&refused[i], "/health");
        expect(silent && status == 200,
               "when --max-wait was over for pings that had been refused (503: the queue was "
               "full), expected 200 for /health on their connections, and nothing else, but got: "
               "%.200s",
               outcome(&refused[i]));
    }
    close_all(refused, COUNT(refused));
    http_close(&runs);
}

static void no_timer_is_left(void)
{
    suspicion = ": did a timer ring after its nap was freed?";
    no_timer_of_old_pings();
    finish_check();
    no_timer_of_refused_pings();
}

const struct exercise exercises_08[] = {
    {"08-threadpool/cheap",
     20,
     true,
     {{"small sums are answered though no thread is free", small_sums_need_no_thread, 2, false},
      {"the pool gets the large sums, and only those", pool_gets_the_large_only, 1, false},
      {"a large sum holds up nobody", large_sums_hold_up_nobody, 1, true},
      {"sums are exact", sums_are_exact, 1, true}}},
    {"08-threadpool/queue",
     90,
     true,
     {{"when the pool is full, all wait and are served in order", all_are_served_in_order, 4,
       false},
      {"who waits is outside the pool, and costs nothing", waiting_is_outside_and_free, 3, false},
      {"beyond --waiting it is 503", who_is_too_many_is_refused, 2, false},
      {"who leaves frees the place", who_leaves_frees_the_place, 3, false},
      {"nobody overtakes those who wait", nobody_overtakes, 1, false},
      {"it ends in order while clients wait", queue_ends_in_order, 1, false},
      {"it serves, and ends in order", serves_and_ends, 1, true}}},
    {"08-threadpool/cancel",
     60,
     true,
     {{"who has waited too long is told so at once", too_late_is_told_at_once, 3, false},
      {"what is taken back never runs", taken_back_never_runs, 2, false},
      {"each has its own clock", each_has_its_own_clock, 1, false},
      {"a hundred at once", many_are_taken_back, 1, false},
      {"no timer is left behind", no_timer_is_left, 1, false},
      {"what runs, and who is in time, is left alone", what_runs_is_left_alone, 1, true},
      {"it serves, and ends in order", serves_and_ends, 1, true}}},
    {0}};
