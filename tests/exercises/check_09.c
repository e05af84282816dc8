/* 09: what computes goes to processes. */
#include "exercise.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* --- what the three have in common --- */

/* What the last http_receive() on this connection came to, in one line. */
static const char *came(const struct http_client *client)
{
    static char text[320];
    if (client->problem[0])
        snprintf(text, sizeof text, "%s", client->problem);
    else if (client->status == 0 || !client->body)
        snprintf(text, sizeof text, "the connection was closed");
    else
        snprintf(text, sizeof text, "%d %.250s", client->status, client->body);
    return text;
}

/* A connection, of which the program's death is told as any other failure. */
static struct http_client connect_alive(void)
{
    struct http_client client = http_connect(server.port);
    expect(client.fd >= 0, "it can be connected to no longer");
    return client;
}

/* The figures of /stats. */
struct figures {
    int busy, queued, done, lost;
};

static struct figures figures(void)
{
    struct http_client client = connect_alive();
    expect(http_get(&client, "/stats") == 200, "/stats was not answered with 200, but %s",
           came(&client));
    struct figures now_there = {
        (int)json_number(client.body, "busy"), (int)json_number(client.body, "queued"),
        (int)json_number(client.body, "done"), (int)json_number(client.body, "lost")};
    http_close(&client);
    return now_there;
}

/* Until that many jobs run, and that many wait; another process may need a moment to be there. */
static void await_jobs(int busy, int queued)
{
    struct figures there = {0};
    expect(becomes_true((there = figures(), there.busy == busy && there.queued == queued)),
           "%d jobs were to run and %d to wait, but /stats says busy %d, queued %d", busy, queued,
           there.busy, there.queued);
}

/* The workers' process ids; how many there are. 0 where the system does not tell. */
static int workers_of(pid_t pids[], int room)
{
    pid_t helper;
    return process_children(server.pid, &helper, 1) == 1 ? process_children(helper, pids, room) : 0;
}

/* Until all have been started. */
static void await_workers(int count)
{
    pid_t pids[64], helper;
    if (process_children(server.pid, &helper, 1) < 0)
        return;
    expect(becomes_true(workers_of(pids, 64) == count),
           "started with --workers %d, it has a helper with %d", count, workers_of(pids, 64));
}

/* On a connection of its own. */
static void get_200(const char *target)
{
    struct http_client client = connect_alive();
    int status = http_get(&client, target);
    expect(status == 200, "%s: expected 200, but %s", target, came(&client));
    http_close(&client);
}

/* A busy machine may hold up anybody for a while. So what depends on who is first fails only if it
 * does three times: attempt returns NULL, or what was wrong. */
static void fails_three_times(const char *(*attempt)(void))
{
    const char *wrong = attempt();
    for (int i = 1; i < 3 && wrong; i++) {
        finish_check();
        wrong = attempt();
    }
    expect(!wrong, "%s", wrong);
}

/* For attempts: the sentence if the condition does not hold. */
#define unless(condition, ...)                                \
    do {                                                      \
        if (!(condition)) {                                   \
            static char sentence[512];                        \
            snprintf(sentence, sizeof sentence, __VA_ARGS__); \
            return sentence;                                  \
        }                                                     \
    } while (0)

/* --- timeout --- */

static void timeout_ends_in_order(void)
{
    ends_in_order("--workers 1");
}

/* A client that is in time notices nothing; and the argument is looked at. */
static void timeout_in_time(void)
{
    static const char *const wrong[] = {"0", "60001", "-1", "soon"};
    char target[80];
    start("--workers 2");
    get_200("/work?ms=0");
    get_200("/work?ms=50&timeout_ms=10000");
    for (int i = 0; i < COUNT(wrong); i++) {
        struct http_client client = connect_http();
        snprintf(target, sizeof target, "/work?ms=1&timeout_ms=%s", wrong[i]);
        expect(http_get(&client, target) == 400, "%s: expected 400, but %s", target, came(&client));
        http_close(&client);
    }
}

/* Behind another client's job, which runs much longer. */
static void timeout_of_a_queued_job(void)
{
    start("--workers 1");
    struct http_client first = connect_asking("/work?ms=6000&timeout_ms=20000");
    await_jobs(1, 0);
    double asked = now();
    struct http_client second = connect_asking("/work?ms=10&timeout_ms=300");
    int status = http_receive(&second);
    double took = now() - asked;
    expect(status == 504,
           "behind a job of 6000 ms, /work?ms=10&timeout_ms=300 was to be 504, but %s",
           came(&second));
    expect(took > 0.25, "504 for timeout_ms=300 came too early, after %.0f ms", took * 1000);
    bool first_waits = !client_has_input(first.fd, 0);
    expect(
        first_waits || http_receive(&first) == 200,
        "another job's time is up, and the one that runs, with timeout_ms=20000, was to go on, but "
        "%s",
        came(&first));
    expect(first_waits,
           "504 for timeout_ms=300 came after %.0f ms only, when the job that ran before it had "
           "ended: the time counts while a job waits, too",
           took * 1000);
    http_close(&second);
    http_close(&first);
}

/* First come, first served: once a later job is done, the one before it would have been, too. */
static const char *try_to_take_back(void)
{
    start("--workers 1");
    struct http_client first = connect_asking("/work?ms=1000&timeout_ms=20000");
    await_jobs(1, 0);
    struct http_client late = connect_asking("/work?ms=5&timeout_ms=100");
    int status = http_receive(&late);
    struct figures then = figures();
    bool in_time = !client_has_input(first.fd, 0);
    get_200("/work?ms=5&timeout_ms=20000");
    expect(http_receive(&first) == 200, "the job that ran was to be 200, but %s", came(&first));
    struct figures there = figures();
    unless(status == 504, "/work?ms=5&timeout_ms=100 behind a job of 1000 ms was to be 504, but %s",
           came(&late));
    unless(in_time, "504 for timeout_ms=100 came only when the job of 1000 ms before it had ended");
    expect(then.queued == 0,
           "after its 504 the job was to leave the queue, but /stats says queued %d", then.queued);
    expect(
        there.done == 2 && there.lost == 0,
        "of 3 jobs one was out of time before a worker had it: 2 were to be run, but /stats says "
        "done %d, lost %d",
        there.done, there.lost);
    http_close(&late);
    http_close(&first);
    return NULL;
}

static void timeout_takes_the_job_back(void)
{
    fails_three_times(try_to_take_back);
}

/* The worker that runs it is not killed: it ends its job, then has the next one. */
static void timeout_of_a_running_job(void)
{
    start("--workers 1");
    struct http_client late = connect_asking("/work?ms=600&timeout_ms=100");
    int status = http_receive(&late);
    expect(status == 504 || status == 200, "/work?ms=600&timeout_ms=100 was to be 504, but %s",
           came(&late));
    expect(http_get(&late, "/work?ms=5&timeout_ms=20000") == 200,
           "after a 504, the next request on the same connection was to be 200, but %s",
           came(&late));
    struct figures there = figures();
    expect(there.done == 2 && there.lost == 0,
           "a job that is out of time was to run on, and then the next one: done 2 and lost 0 were "
           "expected, but /stats says done %d, lost %d",
           there.done, there.lost);

    double asked = now();
    status = http_get(&late, "/work?ms=6000&timeout_ms=300");
    double took = now() - asked;
    expect(status == 504, "/work?ms=6000&timeout_ms=300 was to be 504, but %s", came(&late));
    expect(took > 0.25, "504 for timeout_ms=300 came too early, after %.0f ms", took * 1000);
    there = figures();
    expect(there.busy == 1,
           "504 for timeout_ms=300 was to come while the job (6000 ms) runs, but it came after "
           "%.0f ms, and /stats says busy %d",
           took * 1000, there.busy);
    http_close(&late);
}

/* The timer of a request that was answered must not hit the next one. */
static void timeout_of_one_after_the_other(void)
{
    start("--workers 2");
    struct http_client client = connect_http();
    for (int i = 0; i < 3; i++)
        expect(http_get(&client, "/work?ms=5&timeout_ms=250") == 200 || client.status == 504,
               "/work?ms=5&timeout_ms=250 came to %s", came(&client));
    expect(
        http_get(&client, "/work?ms=600&timeout_ms=20000") == 200,
        "a request with timeout_ms=20000, 600 ms after one with 250 that was answered, was to be "
        "200, but %s",
        came(&client));
    expect(!client_has_input(client.fd, 0.1), "more came than an answer for each request");
    expect(http_get(&client, "/work?ms=6000&timeout_ms=100") == 504,
           "/work?ms=6000&timeout_ms=100 after others on the same connection was to be 504, but "
           "%s",
           came(&client));
    http_close(&client);
}

/* Nor may that of a request which was refused, for the queue was full, be left behind. They are
 * many, so that the C library uses the memory of some again, or has overwritten it. */
static void timeout_of_refused_requests(void)
{
    struct http_client refused[24];
    start("--workers 1 --queue 1");
    struct http_client first = connect_asking("/work?ms=20000&timeout_ms=60000");
    await_jobs(1, 0);
    struct http_client second = connect_asking("/work?ms=5&timeout_ms=60000");
    await_jobs(1, 1);
    for (int i = 0; i < COUNT(refused); i++) {
        refused[i] = connect_alive();
        expect(http_get(&refused[i], "/work?ms=5&timeout_ms=300") == 503,
               "with --workers 1 --queue 1, one job running and one waiting, request %d was to be "
               "503, but %s%s",
               i + 3, came(&refused[i]),
               i > 0 && refused[i].status == 0 ? ": did a timer ring after its memory was freed?"
                                               : "");
    }
    sleep_for(0.6);
    for (int i = 0; i < COUNT(refused); i++) {
        bool silent = !client_has_input(refused[i].fd, 0);
        int status = http_get(&refused[i], "/health");
        expect(silent && status == 200,
               "300 ms after requests with timeout_ms=300 were refused (503: the queue was full), "
               "/health was to be 200 on their connections, and nothing else to come, but %s: did "
               "a timer ring after its memory was freed?",
               came(&refused[i]));
        http_close(&refused[i]);
    }
    http_close(&second);
    http_close(&first);
}

static void timeout_of_each_request(void)
{
    timeout_of_one_after_the_other();
    finish_check();
    timeout_of_refused_requests();
}

/* A queued job's, and a running one's, before its time is up; and one that has had its 504. */
static void timeout_clients_leave(void)
{
    start("--workers 1");
    struct http_client clients[4] = {
        connect_asking("/work?ms=400&timeout_ms=250"), connect_asking("/work?ms=5&timeout_ms=250"),
        connect_asking("/work?ms=5&timeout_ms=250"), connect_asking("/work?ms=5&timeout_ms=20000")};
    sleep_for(0.1);
    client_reset(clients[0].fd);
    client_reset(clients[1].fd);
    client_reset(clients[2].fd);
    sleep_for(0.4); /* their time is up */
    expect(http_receive(&clients[3]) == 200,
           "after three clients have left, the fourth was to be 200, but %s", came(&clients[3]));
    for (int i = 0; i < 4; i++) {
        clients[i].fd = i < 3 ? -1 : clients[i].fd;
        http_close(&clients[i]);
    }
    get_200("/work?ms=5");
}

/* --- retry --- */

static void retry_ends_in_order(void)
{
    ends_in_order("--workers 2");
}

static void get_attempts(struct http_client *client, int crashes)
{
    int status = http_receive(client);
    expect(status == 200, "/flaky?crashes=%d: expected 200, but %s", crashes, came(client));
    int attempts = (int)json_number(client->body, "attempts");
    expect(attempts == crashes + 1,
           "/flaky?crashes=%d: expected attempts %d, each crash being followed by one more, but %s",
           crashes, crashes + 1, came(client));
}

static void retry_at_once(void)
{
    start("--workers 1");
    for (int crashes = 0; crashes <= 1; crashes++) {
        char target[80];
        snprintf(target, sizeof target, "/flaky?crashes=%d", crashes);
        struct http_client client = connect_asking(target);
        get_attempts(&client, crashes);
        http_close(&client);
    }
    get_200("/work?ms=10");
}

static void retry_until_it_works(void)
{
    enum { FEWEST = 2, MOST = 7 };
    struct http_client clients[MOST + 1];
    char target[80];
    start("--workers 2");
    for (int crashes = MOST; crashes >= FEWEST; crashes--) {
        snprintf(target, sizeof target, "/flaky?crashes=%d", crashes);
        clients[crashes] = connect_asking(target);
    }
    int lost = 0;
    for (int crashes = FEWEST; crashes <= MOST; crashes++) {
        get_attempts(&clients[crashes], crashes);
        http_close(&clients[crashes]);
        lost += crashes;
    }
    struct figures there = figures();
    expect(there.done == MOST - FEWEST + 1 && there.lost == lost,
           "after %d crashes and %d answers, /stats was to say so, but it says lost %d, done %d",
           lost, MOST - FEWEST + 1, there.lost, there.done);
}

/* Until so many workers have died, or the client whose job kills them has its answer. Returns when
 * that was. */
static double await_lost(const struct http_client *client, int lost)
{
    double asked = now();
    int there = 0;
    while ((there = figures().lost) < lost && !client_has_input(client->fd, 0)) {
        expect(now() < asked + patience(),
               "a job that kills its worker was tried %d times, and has had neither a next try nor "
               "an answer for %d s",
               there, patience());
        sleep_for(0.005);
    }
    return now();
}

/* The three waits as they are seen from outside, between the death that begins one and the death
 * that comes after it. */
static void look_at_waits(double waits[3])
{
    start("--workers 1");
    double asked = now();
    struct http_client client = connect_asking("/flaky?crashes=1000");
    for (int i = 0; i < 3; i++) {
        double from = await_lost(&client, 2 * i + 2);
        waits[i] = await_lost(&client, 2 * i + 3) - from;
    }
    double took =
        await_lost(&client, 9) - asked; /* which is one too many: the answer comes first */
    int lost = figures().lost;
    expect(lost == 8,
           "/flaky?crashes=1000: 2 attempts at once and 2 more after each of 3 waits were "
           "expected, 8 in all, but there were %d",
           lost);
    expect(http_receive(&client) == 500, "/flaky?crashes=1000: expected 500 in the end, but %s",
           came(&client));
    expect(took > 0.69,
           "/flaky?crashes=1000: expected 500 after waits of 100, 200 and 400 ms, not before 700 "
           "ms, but it came after %.0f ms",
           took * 1000);
    http_close(&client);
    finish_check();
}

/* A machine that is busy makes some wait longer: one time out of four must show that they grow. */
static void retry_gives_up(void)
{
    double waits[3] = {0};
    bool grow = false;
    for (int i = 0; i < 4 && !grow; i++) {
        look_at_waits(waits);
        grow =
            waits[1] > 1.15 * waits[0] && waits[2] > 1.15 * waits[1] && waits[2] > 1.8 * waits[0];
    }
    expect(grow,
           "each wait was to be about twice as long as the one before, 100, 200, 400 ms, but they "
           "were %.0f, %.0f and %.0f ms",
           waits[0] * 1000, waits[1] * 1000, waits[2] * 1000);
}

/* Asks for what crashes, and waits until it has died six times: 400 ms or more are left until its
 * next try. */
static const char *await_last_wait(struct http_client *client, const char *target)
{
    int before = figures().lost;
    *client = connect_asking(target);
    await_lost(client, before + 6);
    int lost = figures().lost - before;
    unless(lost == 6,
           "%s was to be tried twice, and twice more after each of two waits, but %d workers have "
           "died of it",
           target, lost);
    return NULL;
}

static const char *try_beside_a_wait(void)
{
    start("--workers 1");
    struct http_client flaky;
    const char *wrong = await_last_wait(&flaky, "/flaky?crashes=6");
    if (wrong)
        return wrong;
    struct figures there = {0};
    do
        there = figures();
    while (there.busy + there.queued > 0 && !client_has_input(flaky.fd, 0));
    unless(there.busy + there.queued == 0,
           "while a job waits for its next try, busy 0 and queued 0 were expected, but /stats said "
           "busy %d, queued %d until it was answered: it was to wait on the loop's timer",
           there.busy, there.queued);
    get_200("/work?ms=1");
    unless(!client_has_input(flaky.fd, 0),
           "while a job waits 400 ms for its next try, another client's /work?ms=1 was to be "
           "answered on the only worker, but it was answered only after that job");
    get_attempts(&flaky, 6);
    http_close(&flaky);
    return NULL;
}

static void retry_waits_elsewhere(void)
{
    fails_three_times(try_beside_a_wait);
}

/* By a reset, for of a half-close nobody knows. What is left behind would be a leak, or a timer in
 * memory that is freed. */
static const char *try_to_leave(void)
{
    start("--workers 1");
    struct http_client flaky;
    const char *wrong = await_last_wait(&flaky, "/flaky?crashes=1000");
    if (wrong)
        return wrong;
    client_reset(flaky.fd);
    flaky.fd = -1;
    http_close(&flaky);
    sleep_for(0.8);
    struct figures there = figures();
    unless(there.lost == 6 && there.busy == 0 && there.queued == 0,
           "6 workers had died of a job when its client left during the third wait: no more were "
           "expected to, but /stats says lost %d",
           there.lost);
    flaky = connect_asking("/flaky?crashes=1000"); /* it waits when the program is to end */
    await_lost(&flaky, 12);
    return NULL;
}

static void retry_client_leaves(void)
{
    fails_three_times(try_to_leave);
}

/* Twelve that crash together, each with a worker of its own, so that nobody waits for anybody: the
 * random parts of their three waits, up to 350 ms together, are all that keeps them apart. */
static const char *try_together(void)
{
    enum { CLIENTS = 12 };
    struct http_client clients[CLIENTS];
    double first = 0, last = 0;
    start("--workers 12");
    await_workers(CLIENTS);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_asking("/flaky?crashes=6");
    for (int left = CLIENTS, i = 0; left > 0; i = (i + 1) % CLIENTS) {
        if (clients[i].fd >= 0 && client_has_input(clients[i].fd, 0.0005)) {
            last = now();
            first = left-- == CLIENTS ? last : first;
            get_attempts(&clients[i], 6);
            http_close(&clients[i]);
            clients[i].fd = -1;
        }
    }
    expect(
        last - first > 0.025,
        "of %d requests that crash together, each 6 times, the answers were to be spread over 25 "
        "ms or more by the random parts of the waits, but all came within %.0f ms",
        CLIENTS, (last - first) * 1000);
    return NULL;
}

static void retry_at_random(void)
{
    fails_three_times(try_together);
}

/* --- recycle --- */

static void recycle_ends_in_order(void)
{
    ends_in_order("--workers 2");
}

/* Lets a worker leak so much. Returns which one did. */
static pid_t leak(struct http_client *client, int kib)
{
    char target[80];
    snprintf(target, sizeof target, "/work?kib=%d", kib);
    int status = http_get(client, target);
    expect(status == 200, "%s: expected 200, but %s", target, came(client));
    pid_t pid = (pid_t)json_number(client->body, "pid");
    expect(pid > 1, "%s: expected the worker's pid, but %s", target, came(client));
    return pid;
}

static void recycle_keeps_what_does_not_leak(void)
{
    enum { JOBS = 150 };
    start("--workers 2 --max-memory 64");
    struct http_client client = connect_http();
    for (int i = 0; i < JOBS; i++)
        leak(&client, 0);
    struct figures there = figures();
    expect(
        there.lost == 0 && there.done == JOBS,
        "%d jobs that leak nothing were to be done by the same workers, but /stats says done %d, "
        "lost %d",
        JOBS, there.done, there.lost);
    http_close(&client);
}

/* The memory of the largest worker, in MiB. -1: the system does not tell. */
static long largest_worker(void)
{
    pid_t pids[16];
    int count = workers_of(pids, 16);
    long most = -1;
    for (int i = 0; i < count && i < 16; i++) {
        long kib = process_memory_kib(pids[i]);
        most = kib > most * 1024 ? kib / 1024 : most;
    }
    return most;
}

static void recycle_bounds_memory(void)
{
    enum { LIMIT = 24, JOBS = 36, SLACK = 10 };
    start("--workers 2 --max-memory 24");
    struct http_client client = connect_http();
    long leaked = 0;
    srand((unsigned)time(NULL));
    for (int i = 1; i <= JOBS; i++) {
        int kib = 3 * 1024 + rand() % (3 * 1024);
        leaked += kib;
        long there = process_memory_kib(leak(&client, kib)) / 1024;
        if (i % 6 == 0) /* and the others */
            there = largest_worker();
        there = subject.sanitized ? -1 : there;
        expect(
            there <= LIMIT + SLACK,
            "with --max-memory %d, after %d jobs that leaked %ld MiB together a worker was found "
            "with %ld MiB",
            LIMIT, i, leaked / 1024, there);
    }
    int lost = figures().lost;
    expect(lost > 0,
           "with --max-memory %d, %d jobs leaked %ld MiB together, but no worker was replaced: "
           "/stats says lost 0",
           LIMIT, JOBS, leaked / 1024);
    http_close(&client);
}

/* First many small jobs, 25 MiB together: one or none. Then few large ones, 200 MiB: 8 to 10. */
static void recycle_no_more_than_needed(void)
{
    enum { SMALL = 100, LARGE = 50, FEW = 2, FEWEST = 6, MOST = 15 };
    start("--workers 2 --max-memory 24");
    struct http_client client = connect_http();
    for (int i = 0; i < SMALL; i++)
        leak(&client, 256);
    int first = figures().lost;
    expect(subject.sanitized || first <= FEW, /* else a worker is larger from the beginning */
           "with --max-memory 24, %d jobs of 0.25 MiB each were to wear out 1 worker (%d are "
           "accepted), but /stats says lost %d",
           SMALL, FEW, first);
    for (int i = 0; i < LARGE; i++)
        leak(&client, 4096);
    struct figures there = figures();
    int lost = there.lost - first;
    expect(lost >= FEWEST && (subject.sanitized || lost <= MOST),
           "with --max-memory 24, %d jobs of 4 MiB each were to wear out about 9 workers (%d to %d "
           "are accepted), but /stats says %d were lost",
           LARGE, FEWEST, MOST, lost);
    expect(there.done == SMALL + LARGE, "%d jobs were answered, but /stats says done %d",
           SMALL + LARGE, there.done);
    http_close(&client);
}

/* Each job is too much for its worker, and is answered all the same; the next one, which comes as
 * soon as possible, has another worker. */
static void recycle_before_the_next_job(void)
{
    enum { JOBS = 8 };
    pid_t pids[JOBS];
    start("--workers 2 --max-memory 16");
    struct http_client client = connect_http();
    for (int i = 0; i < JOBS; i++) {
        pids[i] = leak(&client, 20 * 1024);
        for (int k = 0; k < i; k++)
            expect(
                pids[k] != pids[i],
                "with --max-memory 16, worker %d leaked 20 MiB in job %d, and was to be replaced "
                "before it gets another one, but it did job %d",
                (int)pids[k], k + 1, i + 1);
    }
    struct figures there = {0};
    expect(becomes_true((there = figures(), there.lost >= JOBS)) && there.lost == JOBS,
           "%d jobs of 20 MiB each were to cost %d workers with --max-memory 16, but /stats says "
           "lost %d",
           JOBS, JOBS, there.lost);
    http_close(&client);
}

/* Both workers grow at the same pace, and there is always a job waiting: one that comes to a worker
 * which is about to end must not be lost. */
static void recycle_loses_no_job(void)
{
    enum { CLIENTS = 8, JOBS = 12 };
    struct http_client clients[CLIENTS];
    start("--workers 2 --max-memory 16");
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_http();
    for (int job = 1; job <= JOBS; job++) {
        for (int i = 0; i < CLIENTS; i++)
            expect(http_ask(&clients[i], "/work?kib=6144"), "client %d cannot send", i + 1);
        for (int i = 0; i < CLIENTS; i++) {
            int status = http_receive(&clients[i]);
            expect(
                status == 200,
                "of %d clients with 2 workers, job %d of client %d was to be 200 although workers "
                "are replaced, but %s",
                CLIENTS, job, i + 1, came(&clients[i]));
        }
    }
    struct figures there = figures();
    expect(
        there.done == CLIENTS * JOBS && there.lost >= CLIENTS * JOBS / 5,
        "with --max-memory 16, %d jobs of 6 MiB each were to be done once each and to wear out a "
        "worker every 3 jobs or sooner, but /stats says done %d, lost %d",
        CLIENTS * JOBS, there.done, there.lost);
    for (int i = 0; i < CLIENTS; i++)
        http_close(&clients[i]);
}

/* It is the memory that counts, and not the jobs, nor what one of them takes. */
static void recycle_by_what_a_worker_has(void)
{
    start("--workers 1 --max-memory 64");
    struct http_client client = connect_http();
    pid_t first = leak(&client, 16 * 1024);
    for (int i = 0; i < 50; i++)
        expect(leak(&client, 0) == first,
               "with --max-memory 64, a worker that has leaked 16 MiB was to be kept, but it was "
               "replaced %d jobs later",
               i + 1);
    leak(&client, 56 * 1024);
    pid_t second = leak(&client, 0);
    expect(second != first,
           "with --max-memory 64, a worker that has leaked 16 MiB and later 56 was to be replaced, "
           "but it had one more job");
    int lost = figures().lost;
    expect(lost == 1, "one worker was to be replaced, but /stats says lost %d", lost);
    http_close(&client);
}

/* --- all of them --- */

const struct exercise exercises_09[] = {
    {"09-cpu-offload/timeout",
     45,
     false,
     {{"it serves, and ends in order", timeout_ends_in_order, 1, true},
      {"who is in time notices nothing", timeout_in_time, 1, true},
      {"a client that leaves harms nobody", timeout_clients_leave, 1, true},
      {"504 on time for a job that waits", timeout_of_a_queued_job, 2, false},
      {"nobody does that job any more", timeout_takes_the_job_back, 2, false},
      {"504 on time for a job that runs, and its worker goes on", timeout_of_a_running_job, 2,
       false},
      {"each request has its own time", timeout_of_each_request, 1, false}}},
    {"09-cpu-offload/retry",
     90,
     false,
     {{"it serves, and ends in order", retry_ends_in_order, 1, true},
      {"one crash is made good at once", retry_at_once, 1, true},
      {"up to seven crashes are made good", retry_until_it_works, 3, false},
      {"after eight it gives up, and its waits have grown", retry_gives_up, 4, false},
      {"who waits for the next try is in nobody's way", retry_waits_elsewhere, 2, false},
      {"nothing is tried for a client that has left", retry_client_leaves, 2, false},
      {"those that crashed together come back apart", retry_at_random, 2, false}}},
    {"09-cpu-offload/recycle",
     90,
     false,
     {{"it serves, and ends in order", recycle_ends_in_order, 1, true},
      {"workers that do not leak are kept", recycle_keeps_what_does_not_leak, 1, true},
      {"no worker grows much above the limit", recycle_bounds_memory, 4, false},
      {"as many are replaced as it takes", recycle_no_more_than_needed, 3, false},
      {"a worker above the limit has no further job", recycle_before_the_next_job, 2, false},
      {"no client notices", recycle_loses_no_job, 3, false},
      {"it is a worker's memory that counts", recycle_by_what_a_worker_has, 1, false}}},
    {0}};
