/* Chapter 07: a semaphore for coroutines, a deadline, long work that gives way by the clock. */
#include "exercise.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Numbers that cannot be known beforehand. */
static int random_from(int least, int most)
{
    static bool seeded;
    if (!seeded)
        srand((unsigned)(now() * 1e6) ^ (unsigned)getpid());
    seeded = true;
    return least + rand() % (most - least + 1);
}

/* --- gather: the check is the server, and the program its clients --- */

enum { MOST_PEERS = 400 };
static const double QUIET = 0.25; /* seconds in which nobody else connects: then all are there */

struct peer {
    int fd; /* -1: gone */
    bool asked, answered;
};

static struct {
    int listener, port;
    char args[96];          /* the program's */
    int limit, count, most; /* count: connections in all; most: how many there can be at a time */
    struct peer peers[MOST_PEERS];
    int accepted, connected, peak, asked, answered;
    double changed; /* when anything happened last */
} site;

static void open_site(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    site.listener = socket(AF_INET, SOCK_STREAM, 0);
    fcntl(site.listener, F_SETFD, FD_CLOEXEC);
    fcntl(site.listener, F_SETFL, O_NONBLOCK);
    ck_assert(bind(site.listener, (struct sockaddr *)&address, size) == 0);
    ck_assert(listen(site.listener, SOMAXCONN) == 0);
    getsockname(site.listener, (struct sockaddr *)&address, &size);
    site.port = ntohs(address.sin_port);
}

static void run_gather(int limit, int count, int times)
{
    site.limit = limit;
    site.count = count * times;
    site.most = limit < count ? limit : count;
    snprintf(site.args, sizeof site.args, "--limit %d --count %d --times %d %d", limit, count,
             times, site.port);
    server = process_start_words(subject.server, site.args, 0);
    site.changed = now();
}

static void start_gather(int limit, int count, int times)
{
    open_site();
    run_gather(limit, count, times);
}

static bool gather_has_ended(void)
{
    siginfo_t end = {0};
    process_read_output(&server);
    return waitid(P_PID, (id_t)server.pid, &end, WEXITED | WNOHANG | WNOWAIT) == 0 && end.si_pid;
}

static void drop_peer(struct peer *peer, bool reset)
{
    if (reset)
        client_reset(peer->fd);
    else
        close(peer->fd);
    peer->fd = -1;
    site.connected--;
    site.changed = now();
}

static void hear_peers(void)
{
    char bytes[64];
    for (struct peer *peer = site.peers; peer < site.peers + site.accepted; peer++) {
        ssize_t n = peer->fd < 0 ? -1 : recv(peer->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && peer->fd >= 0 && errno != EAGAIN && errno != EINTR)) {
            drop_peer(peer, false);
        } else if (n > 0 && !peer->asked && memchr(bytes, '\n', (size_t)n)) {
            peer->asked = true;
            site.asked++;
            site.changed = now();
        }
    }
}

/* Hears who has left before who has come is counted. If they are more than before, once more after
 * a moment: somebody's leaving may be on its way still. */
static void watch_site(void)
{
    int fd;
    sleep_for(0.002);
    hear_peers();
    while (site.accepted < MOST_PEERS && (fd = accept(site.listener, NULL, NULL)) >= 0) {
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        site.peers[site.accepted++] = (struct peer){.fd = fd};
        site.connected++;
        site.changed = now();
    }
    if (site.connected > site.peak) {
        sleep_for(0.02);
        hear_peers();
    }
    if (site.connected > site.peak)
        site.peak = site.connected;
}

/* Answers nobody until nobody else comes. As many are there then as the limit allows. */
static void expect_full_house(void)
{
    double start = now();
    do
        watch_site();
    while (
        now() < site.changed + QUIET ||
        ((site.connected < site.most || site.asked < site.accepted) && now() < start + patience()));
    expect(site.connected == site.most,
           "run with %s, with a server that takes its time: expected %d at a time to be connected, "
           "but there were %d%s",
           site.args, site.most, site.connected,
           site.connected < site.most ? ": do they wait for one another?" : "");
}

static void answer_peer(struct peer *peer)
{
    client_send(peer->fd, "hello\n", 6);
    peer->answered = true;
    site.answered++;
    site.changed = now();
}

/* Answers all who ask, but for one (NULL: for nobody), until the program has ended, or that one is
 * the only one left, or nothing happens any more. */
static void answer_all_but(const struct peer *spared)
{
    while (!gather_has_ended() && now() < site.changed + patience() &&
           site.answered < site.count - (spared ? 1 : 0)) {
        watch_site();
        for (struct peer *peer = site.peers; peer < site.peers + site.accepted; peer++)
            if (peer->fd >= 0 && peer->asked && !peer->answered && peer != spared)
                answer_peer(peer);
    }
    expect(site.peak <= site.most,
           "run with %s, expected at most %d at a time to be connected, but there were %d: can a "
           "place that is free be taken twice?",
           site.args, site.most, site.peak);
}

/* The program ends, and has counted that many answers. */
static void expect_answers(int answers)
{
    char expected[32];
    double give_up = now() + patience();
    while (!gather_has_ended() && now() < give_up)
        watch_site();
    expect(gather_has_ended(),
           "run with %s, it has not ended: of %d connections there have been %d, %d were answered, "
           "and then nothing happened for %d s: is the next one told when a place is free?",
           site.args, site.count, site.accepted, site.answered, patience());
    int status = process_end(&server, 0);
    snprintf(expected, sizeof expected, "%d answers\n", answers);
    expect(status == 0 && strcmp(server.output, expected) == 0,
           "run with %s, expected the line '%d answers' and exit status 0, but it printed '%.60s' "
           "and ended with %d",
           site.args, answers, server.output, status);
    close(site.listener);
    memset(&site, 0, sizeof site);
}

static void all_are_answered(void)
{
    int count = random_from(150, 250);
    start_gather(count + random_from(0, 50), count, 1);
    answer_all_but(NULL);
    expect_answers(count);
}

/* Each client comes back twice: then there are some who have only just come when a place is freed
 * for one who has been waiting. */
static void limit_is_kept_and_reached(void)
{
    int limit = random_from(3, 12), count = limit * random_from(2, 4) + random_from(1, 5);
    start_gather(limit, count, 3);
    expect_full_house();
    answer_all_but(NULL);
    expect_answers(3 * count);
}

/* Who goes on in batches, or gives each coroutine its share of the work, waits for the slow one. */
static void slow_one_keeps_one_place(void)
{
    int limit = random_from(3, 8), count = 5 * limit + random_from(1, 4);
    start_gather(limit, count, 1);
    expect_full_house();
    struct peer *slow = &site.peers[random_from(0, limit - 1)];
    answer_all_but(slow);
    expect(site.answered == count - 1,
           "run with %s, one connection is not answered: expected the other %d to get their turn "
           "on the %d places left, but only %d did: the next one has to start as soon as any one "
           "is done",
           site.args, count - 1, limit - 1, site.answered);
    answer_peer(slow);
    expect_answers(count);
}

static void any_limit_works(void)
{
    int count = random_from(4, 9);
    start_gather(1, count, 2);
    expect_full_house();
    answer_all_but(NULL);
    expect_answers(2 * count);
    start_gather(10000, count, 1);
    expect_full_house();
    answer_all_but(NULL);
    expect_answers(count);
}

/* The port is taken, but nobody listens. */
static void expect_refusals(void)
{
    open_site();
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)site.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    close(site.listener);
    site.listener = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert(bind(site.listener, (struct sockaddr *)&address, sizeof address) == 0);
    run_gather(random_from(2, 5), 40, 1);
    for (double end = now() + patience(); !gather_has_ended() && now() < end;)
        sleep_for(0.01);
    expect(gather_has_ended(),
           "run with %s, where nobody listens, it had not ended after %d s: is the place of a "
           "connection that fails free for the next one, and is that one told?",
           site.args, patience());
    expect_answers(0);
}

static void failure_frees_the_place(void)
{
    expect_refusals();
    int limit = random_from(3, 6), count = 6 * limit, failures = 0, wanted = 2 * limit;
    start_gather(limit, count, 1);
    while (failures < wanted) {
        expect_full_house();
        int before = site.accepted;
        for (struct peer *peer = site.peers; peer < site.peers + before; peer++)
            if (peer->fd >= 0)
                drop_peer(peer, ++failures % 2);
        for (double end = now() + patience(); site.accepted == before && now() < end;)
            watch_site();
        expect(site.accepted > before,
               "run with %s, %d connections were closed without an answer: expected the next ones "
               "to get their places, but nobody else connects",
               site.args, failures);
    }
    site.count = count - failures;
    answer_all_but(NULL);
    site.count = count;
    expect_answers(count - failures);
}

static void waiting_for_a_place_costs_nothing(void)
{
    int limit = random_from(5, 10), count = 300;
    start_gather(limit, count, 1);
    expect_full_house();
    int threads = process_threads(server.pid);
    expect(threads <= 1, "expected coroutines on one thread, but the program has %d threads",
           threads);
    long switches = process_switches(server.pid);
    double share = process_cpu_share(server.pid, 0.5);
    switches = process_switches(server.pid) - switches;
    expect(switches <= 5,
           "while %d wait for an answer and %d for a place, nothing happens, but the program woke "
           "up %ld times in half a second: who waits for a place is woken by who leaves",
           limit, count - limit, switches);
    expect(share < 0.1,
           "while %d wait for an answer and %d for a place, expected next to no CPU use, but it "
           "was %.0f %%: who waits for a place has to sleep until it is woken",
           limit, count - limit, share * 100);
    answer_all_but(NULL);
    expect_answers(count);
}

/* --- deadline --- */

/* Reads what there is. Returns whether the connection has ended. */
static bool has_been_closed(int fd)
{
    char bytes[4096];
    ssize_t n;
    while ((n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        ;
    return n == 0 || (errno != EAGAIN && errno != EINTR);
}

static void echoes_with_deadline(void)
{
    echoes_exactly("--deadline 20000");
}

/* One client is in the middle of a line then, another in the middle of nothing. */
static void ends_in_the_middle_of_a_line(void)
{
    char expected[128];
    start("--deadline 20000");
    for (int i = 0; i < 3; i++) {
        int fd = connect_client();
        expect(client_echo(fd, "ten bytes!"), "client %d is not served", i + 1);
        if (i == 2)
            continue;
        shutdown(fd, SHUT_WR);
        expect(client_at_eof(fd), "client %d half-closed, and saw no end of file", i + 1);
        close(fd);
    }
    int silent = connect_client();
    int status = process_end(&server, SIGTERM);
    expect(status == 0, "after SIGTERM it ended with %d, and not with 0; stderr: %.250s", status,
           server.errors);
    snprintf(expected, sizeof expected, "listening on 127.0.0.1:%d\nserved ", server.port);
    expect(strncmp(server.output, expected, strlen(expected)) == 0 &&
               strstr(server.output, " clients, 30 bytes\n"),
           "after 3 clients that sent 10 bytes, and a silent one, 'served N clients, 30 bytes' was "
           "expected on stdout, but there was '%.200s'",
           server.output);
    close(silent);
}

static void connect_crowd(int fds[], int count)
{
    for (int i = 0; i < count; i++)
        fds[i] = connect_client();
}

static void expect_silent_ones_gone(int fds[], int count, double begin)
{
    for (int i = 0; i < count; i++) {
        expect(client_has_input(fds[i], patience()),
               "with --deadline 700, a client that says nothing is still there after %.1f s",
               now() - begin);
        expect(now() - begin > 0.65, "with --deadline 700, a client was closed after %.2f s",
               now() - begin);
        expect(client_at_eof(fds[i]), "expected end of file for a silent client, but not that");
        close(fds[i]);
    }
}

/* And all that was kept for them goes with them. */
static void silent_clients_are_closed(void)
{
    enum { CLIENTS = 100 };
    int fds[CLIENTS];
    start("--deadline 700");
    int sockets = process_has(server.pid, "socket:");
    connect_crowd(fds, CLIENTS); /* what happens for the first time takes memory that stays */
    expect(client_echo(fds[CLIENTS - 1], "hello\n"), "a client's line is not echoed");
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
    becomes_true(process_has(server.pid, "socket:") == sockets);
    long memory = process_memory_kib(server.pid);

    double begin = now();
    connect_crowd(fds, CLIENTS);
    double share = process_cpu_share(server.pid, 0.4);
    expect(share < 0.1, "expected no CPU use while clients are silent, but it was %.0f %%",
           share * 100);
    expect_silent_ones_gone(fds, CLIENTS, begin);
    expect(becomes_true(process_has(server.pid, "socket:") == sockets),
           "all clients are gone, but the program has %d sockets, and had %d before they came",
           process_has(server.pid, "socket:"), sockets);
    long grown = process_memory_kib(server.pid) - memory;
    expect(subject.sanitized || memory < 0 || grown < 4L * CLIENTS,
           "%d clients came and were closed for being late, and the program has grown by %ld KiB: "
           "do their coroutines end, too, and their stacks with them (co_cancel)?",
           CLIENTS, grown);
}

/* Each byte is new, but no line ever ends. */
static void trickle_gains_no_time(void)
{
    enum { MOST = 40 };
    int sent = 0;
    start("--deadline 600");
    double begin = now();
    int fd = connect_client();
    while (sent < MOST && !has_been_closed(fd)) {
        sent += client_send(fd, "x", 1);
        sleep_for(0.05);
    }
    expect(sent < MOST,
           "with --deadline 600, a client sent a byte each 50 ms, and never a line's end: expected "
           "it to be closed after some 12 bytes, but after %d bytes and %.1f s it was still there",
           sent, now() - begin);
    expect(now() - begin > 0.58,
           "with --deadline 600, a client that sent a byte each 50 ms was closed after %.2f s",
           now() - begin);
    close(fd);
    for (int i = 0; i < 3; i++) {
        fd = connect_client();
        expect(client_echo(fd, "hello\n"),
               "after a client was closed for being late, the next one's line is not echoed: its "
               "coroutine has to end its wait before the descriptor is closed (co_cancel)");
        close(fd);
    }
}

/* A line ends in the middle of what is sent, as it may in TCP. All for longer than the deadline. If
 * the machine stops us for too long, that shows nothing. */
static void lines_gain_time(void)
{
    start("--deadline 1500");
    int talker = connect_client(), loris = connect_client();
    bool late = false, closed = false;
    double begin = now(), sent = begin;
    while (now() < begin + 2.2 || (!closed && now() < begin + patience())) {
        late = late || now() > sent + 1;
        sent = now();
        bool echoed = client_echo(talker, "end\nbegin");
        expect(echoed || late,
               "with --deadline 1500, a client ended a line each 250 ms (with the next line's "
               "first bytes behind it): expected to be echoed for as long as it does, but it was "
               "closed after %.1f s",
               now() - begin);
        if (!echoed)
            return;
        closed = closed || has_been_closed(loris);
        if (!closed)
            client_send(loris, "x", 1);
        sleep_for(0.25);
    }
    expect(closed, "with --deadline 1500, a client beside one that ends its lines sent a byte each "
                   "250 ms and no line's end: expected it to be closed, but it was not");
    close(talker);
    close(loris);
}

enum { THREE = 3 };
static const char *const nth[THREE] = {"first", "second", "third"};

/* Looks at the last one first: whoever came before it and is still there then is so wrongly. Those
 * who are left send a byte. Returns how many are closed. */
static int look_at_three(const int fds[], const double begins[], bool closed[], int came)
{
    int count = 0;
    for (int i = came - 1; i >= 0; i--) {
        if (!closed[i] && has_been_closed(fds[i])) {
            closed[i] = true;
            expect(now() - begins[i] > 0.88,
                   "with --deadline 900, the %s of three clients was closed after %.2f s", nth[i],
                   now() - begins[i]);
        }
        expect(closed[i] || i + 1 == came || !closed[i + 1],
               "three clients came 0.3 s after one another: expected each to be closed after its "
               "own --deadline 900, but the %s is there still when the %s has been closed",
               nth[i], nth[i + 1]);
        if (!closed[i])
            client_send(fds[i], "x", 1);
        count += closed[i];
    }
    return count;
}

/* Clients that come one after the other, all of them trickling, go in that order. One that has left
 * by itself before its time does not matter to any of them. */
static void each_has_a_deadline(void)
{
    int fds[THREE], came = 0, left = 0;
    bool closed[THREE] = {false};
    double begins[THREE] = {0};
    start("--deadline 900");
    close(connect_client());
    double begin = now();
    while (left < THREE && now() < begin + patience()) {
        if (came < THREE && now() > begin + 0.3 * came) {
            begins[came] = now();
            fds[came++] = connect_client();
        }
        left = look_at_three(fds, begins, closed, came);
        sleep_for(0.05);
    }
    expect(left == THREE,
           "three clients came 0.3 s after one another and sent bytes, but no line's end: expected "
           "all to be closed after their --deadline 900, but after %.1f s %d of them are there",
           now() - begin, THREE - left);
    expect(client_echo(connect_client(), "hello\n"),
           "after three clients were closed, the next one's line is not echoed");
}

/* Whoever sends lines and reads no echo has the program wait to write. */
static void echo_has_to_be_taken(void)
{
    const size_t plenty = 16 << 20;
    bool closed = false;
    start("--deadline 700");
    int sockets = process_has(server.pid, "socket:"), fd = connect_client();
    send_until_stuck(fd, pattern(plenty), plenty);
    for (double end = now() + patience(); !closed && now() < end; sleep_for(0.02)) {
        struct pollfd look = {.fd = fd};
        closed = poll(&look, 1, 0) == 1 && (look.revents & (POLLHUP | POLLERR));
    }
    expect(closed,
           "with --deadline 700, a client sends and never reads, so that the program waits until "
           "it can write: expected it to be closed, but %d s later it is still there",
           patience());
    expect(becomes_true(process_has(server.pid, "socket:") == sockets),
           "a client that did not read was closed, but the program has kept its socket");
    expect(client_echo(connect_client(), "hello\n"),
           "after a client that did not read was closed, the next one's line is not echoed");
}

/* --- yield --- */

/* The check's own count: what the answer is, and what it costs. */
static long count_primes(long long from, long long end)
{
    long count = 0;
    for (long long number = from; number < end; number++) {
        bool prime = number == 2 || number == 3 || (number > 3 && number % 2);
        for (long long i = 3; prime && i * i <= number; i += 2)
            prime = number % i != 0;
        count += prime;
    }
    return count;
}

static double own_cpu(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

struct work {
    long long from, n;
    long result;
    double cpu; /* seconds that it takes the check itself */
};

/* As many numbers as take the check that long: on a fast machine more than on a slow one. */
static struct work work_for(long long from, long long n, double seconds)
{
    const long long most = 10000000;
    struct work work = {.from = from};
    double start = own_cpu();
    while (work.cpu < seconds && work.n < most) {
        n = n > most - work.n ? most - work.n : n;
        work.result += count_primes(from + work.n, from + work.n + n);
        work.n += n;
        work.cpu = own_cpu() - start;
    }
    return work;
}

static void ask_primes(struct http_client *client, long long from, long long n)
{
    char target[96];
    snprintf(target, sizeof target, "/primes?from=%lld&n=%lld", from, n);
    expect(http_ask(client, target), "the connection does not take GET %s", target);
}

static void expect_count(struct http_client *client, long long from, long long n, long count)
{
    char body[64];
    snprintf(body, sizeof body, "{\"result\":%ld}", count);
    if (client->length == 0)
        client_has_input(client->fd, 2 * patience()); /* it is work, and others may have the CPU */
    int status = http_receive(client);
    expect(status == 200 && http_body_is(client, body),
           "GET /primes?from=%lld&n=%lld: expected %s, but there came: %.200s", from, n, body,
           http_describe(client));
}

static void ends_with_primes(void)
{
    ends_in_order("");
}

/* Small and random ones, on one connection, asked for all at once. And HEAD, and a wrong n. */
static void answers_are_right(void)
{
    long long froms[12] = {0, 0, 0, 0, 0, 1, 2, 3}, ns[12] = {0, 1, 2, 3, 4, 2, 1, 10};
    start("");
    struct http_client client = connect_http();
    for (int i = 8; i < 12; i++) {
        froms[i] = i % 2 ? random_from(0, 1000000000) * 90LL : random_from(0, 1000);
        ns[i] = i % 2 ? random_from(20, 200) : random_from(5000, 20000);
    }
    for (int i = 0; i < 12; i++)
        ask_primes(&client, froms[i], ns[i]);
    for (int i = 0; i < 12; i++)
        expect_count(&client, froms[i], ns[i], count_primes(froms[i], froms[i] + ns[i]));
    http_send(&client, "HEAD /primes?n=20000 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    expect(http_receive_head(&client) == 200, "HEAD /primes?n=20000: expected 200, but: %.200s",
           http_describe(&client));
    expect(http_get(&client, "/primes?n=10000001") == 400 && http_get(&client, "/primes") == 400,
           "expected 400 for /primes?n=10000001 and for /primes, but: %.200s",
           http_describe(&client));
    http_close(&client);
}

/* The work is to be done by the one thread that there is. */
static void expect_nobody_else(void)
{
    int threads = process_threads(server.pid), children = process_children(server.pid, NULL, 0);
    expect(threads <= 1, "expected one thread, which is the loop's, but the program has %d",
           threads);
    expect(children <= 0, "expected no process but the loop's, but the program has %d more",
           children);
}

/* A program that gives way by the clock, after some 5 ms, answers /health that often, too. */
static const double SHORTEST_SLICE = 0.0005, LONGEST_SLICE = 0.016; /* in seconds */
enum { FEWEST_ANSWERS = 6, MOST_GAPS = 4096 };

/* How often /health was answered beside somebody else's work. */
struct turns {
    int answers;
    double took; /* seconds that the work was there */
    double gap;  /* seconds from one answer to the next: a quarter of them were as short as that,
                  * the others may have been held up by what else the machine does */
};

static int compare_gaps(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* That the work has begun is not known, so at least one answer may be from before. */
static struct turns turns_meanwhile(const struct work *work)
{
    static double gaps[MOST_GAPS];
    struct turns turns = {0};
    struct http_client worker = connect_http(), other = connect_http();
    expect(http_get(&worker, "/health") == 200 && http_get(&other, "/health") == 200,
           "GET /health: expected 200, but: %.200s", http_describe(&other));
    double begin = now(), last = begin;
    ask_primes(&worker, work->from, work->n);
    while (!client_has_input(worker.fd, 0)) {
        expect(http_get(&other, "/health") == 200, "GET /health beside GET /primes: %.200s",
               http_describe(&other));
        gaps[turns.answers++ % MOST_GAPS] = now() - last;
        last = now();
        if (turns.answers == 3)
            expect_nobody_else();
        expect(last < begin + 2 * patience(),
               "GET /primes?from=%lld&n=%lld is not answered within %d s", work->from, work->n,
               2 * patience());
    }
    turns.took = now() - begin;
    int count = turns.answers < MOST_GAPS ? turns.answers : MOST_GAPS;
    qsort(gaps, (size_t)count, sizeof *gaps, compare_gaps);
    turns.gap = turns.answers < FEWEST_ANSWERS ? turns.took : gaps[count / 4];
    expect_count(&worker, work->from, work->n, work->result);
    http_close(&worker);
    http_close(&other);
    return turns;
}

/* One time out of three it has to be often enough: the machine may be busy. `other` is the gap for
 * small numbers, where that is known and right; else 0. */
static struct turns expect_turns(const struct work *work, double longest, double other)
{
    struct turns turns = {.gap = 1};
    const char *advice = "";
    for (int i = 0; i < 3 && turns.gap > longest; i++)
        turns = turns_meanwhile(work);
    expect(turns.gap <= longest || turns.took > work->cpu / 8,
           "GET /primes?from=%lld&n=%lld took %.1f ms, too short to see who is served meanwhile: "
           "trial division takes %.0f ms (no sieve, please)",
           work->from, work->n, turns.took * 1e3, work->cpu * 1e3);
    if (turns.answers >= FEWEST_ANSWERS && other > turns.gap / 3)
        advice = ": are its slices longer than 5 ms?";
    else if (other > 0)
        advice = ": large numbers take longer, so after how many to give way is a matter of the "
                 "clock";
    expect(turns.gap <= longest,
           "while GET /primes?from=%lld&n=%lld was worked on for %.2f s, expected /health to be "
           "answered on another connection every 5 ms or so (%.0f at most), but it was answered %d "
           "time%s, every %.0f ms at best%s",
           work->from, work->n, turns.took, longest * 1e3, turns.answers,
           turns.answers == 1 ? "" : "s", turns.gap * 1e3, advice);
    return turns;
}

static void others_are_served_meanwhile(void)
{
    struct work work = work_for(0, 200000, 0.2);
    start("");
    expect_turns(&work, LONGEST_SLICE, 0);
}

/* A number near 9 * 10^10 costs a thousand times what a small one does. So whoever counts numbers
 * gives way too seldom with the large ones, or much too often with the small ones: which by the
 * clock cannot happen, however busy the machine is. Slices that are somewhat long are no matter
 * here. */
static void slices_go_by_the_clock(void)
{
    struct work small = work_for(0, 50000, 0.2);
    struct work large = work_for(random_from(80000, 90000) * 1000000LL, 1000, 0.2);
    start("");
    struct turns turns = expect_turns(&small, 2 * LONGEST_SLICE, 0);
    double each = turns.took / turns.answers; /* more, if the machine is busy */
    each = turns.gap < SHORTEST_SLICE / 2 ? turns.gap : each;
    expect(
        each >= SHORTEST_SLICE,
        "while GET /primes?n=%lld was worked on for %.2f s, /health was answered %d times, every "
        "%.2f ms: expected every 5 ms or so (%.1f at least); small numbers take little time, so "
        "after how many to give way is a matter of the clock",
        small.n, turns.took, turns.answers, each * 1e3, SHORTEST_SLICE * 1e3);
    expect_turns(&large, 2 * LONGEST_SLICE, turns.gap);
}

/* Two at once: the later one has little to do, and does not wait for the first. */
static void short_one_overtakes_long_one(void)
{
    struct work work = work_for(0, 200000, 0.3);
    start("");
    struct http_client first = connect_http(), second = connect_http();
    expect(http_get(&first, "/health") == 200 && http_get(&second, "/health") == 200,
           "GET /health: expected 200, but: %.200s", http_describe(&second));
    int from = random_from(0, 1000), n = random_from(2000, 4000);
    ask_primes(&first, work.from, work.n);
    sleep_for(0.02);
    ask_primes(&second, from, n);
    expect_count(&second, from, n, count_primes(from, from + n));
    expect(!client_has_input(first.fd, 0),
           "GET /primes?n=%lld was asked for first, then %d numbers from %d on: expected the short "
           "one to be answered while the long one goes on, but it came after it",
           work.n, n, from);
    expect_count(&first, work.from, work.n, work.result);
    http_close(&first);
    http_close(&second);
}

/* Work that would take minutes, for clients that leave. At the end for one that stays: the program
 * has to end all the same. */
static void work_ends_with_its_client(void)
{
    const long long far = 100000000000, most = 10000000;
    double share = 1;
    start("");
    struct http_client clients[3], other = connect_http();
    for (int i = 0; i < 3; i++) {
        clients[i] = connect_http();
        ask_primes(&clients[i], far - random_from(0, 1000), most);
    }
    sleep_for(0.1);
    http_ask(&other, "/health");
    expect(client_has_input(other.fd, patience()) && http_receive(&other) == 200,
           "beside three GET /primes?from=%lld&n=%lld, /health was not answered within %d s", far,
           most, patience());
    for (int i = 0; i < 3; i++) {
        client_reset(clients[i].fd);
        clients[i].fd = -1;
        http_close(&clients[i]);
    }
    for (double end = now() + patience(); share > 0.15 && now() < end;)
        share = process_cpu_share(server.pid, 0.3);
    expect(share <= 0.15,
           "all clients that waited for primes have gone (a reset), but the program still uses "
           "%.0f %% of a CPU: is their work given up when the client is (waiter.gone)?",
           share * 100);
    expect(http_get(&other, "/health") == 200, "after clients left in the middle, /health: %.200s",
           http_describe(&other));
    ask_primes(&other, far, most);
    sleep_for(0.1);
}

/* Giving way after each number, say, takes a round of the loop for each. */
static void giving_way_is_cheap(void)
{
    double ratio = 0;
    struct work work = work_for(0, 100000, 0.15);
    start("");
    struct http_client client = connect_http();
    for (int i = 0; i < 3 && (i == 0 || ratio > 2.5); i++) {
        double before = process_cpu(server.pid);
        ask_primes(&client, work.from, work.n);
        expect_count(&client, work.from, work.n, work.result);
        ratio = (process_cpu(server.pid) - before) / work.cpu;
    }
    expect(ratio <= 2.5 || subject.sanitized,
           "GET /primes?n=%lld took %.1f times the CPU time of a program that counts them in one "
           "go: expected 2.5 times at most; to give way costs a round of the loop, so do it less "
           "often",
           work.n, ratio);
    http_close(&client);
}

const struct exercise exercises_07[] = {
    {"07-event-loop/gather",
     45,
     false,
     {{"all are answered", all_are_answered, 1, true},
      {"as many at a time as the limit says", limit_is_kept_and_reached, 3, false},
      {"a slow one keeps one place, the others go on", slow_one_keeps_one_place, 2, false},
      {"limit 1, and a limit above the count", any_limit_works, 1, false},
      {"a failed connection frees its place", failure_frees_the_place, 2, false},
      {"who waits for a place sleeps", waiting_for_a_place_costs_nothing, 1, false}}},
    {"07-event-loop/deadline",
     60,
     false,
     {{"bytes come back exactly", echoes_with_deadline, 1, true},
      {"it ends in order", ends_in_the_middle_of_a_line, 1, true},
      {"silent clients are closed", silent_clients_are_closed, 1, true},
      {"bytes that trickle gain no time", trickle_gains_no_time, 2, false},
      {"a line's end gains time", lines_gain_time, 2, false},
      {"each client has its own deadline", each_has_a_deadline, 1, false},
      {"the echo has to be taken, too", echo_has_to_be_taken, 2, false}}},
    {"07-event-loop/yield",
     45,
     false,
     {{"answers are right, and in order", answers_are_right, 1, true},
      {"it ends in order", ends_with_primes, 1, true},
      {"others are served meanwhile", others_are_served_meanwhile, 2, false},
      {"however long one number takes", slices_go_by_the_clock, 2, false},
      {"a short one overtakes a long one", short_one_overtakes_long_one, 1, false},
      {"work ends with its client", work_ends_with_its_client, 2, false},
      {"giving way is cheap", giving_way_is_cheap, 1, true}}},
    {0}};
