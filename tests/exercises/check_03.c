#include "exercise.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const size_t MIB = 1 << 20;

/* --- limit --- */

/* The connection has ended, in order or by a reset, with nothing to be read before that. */
static bool has_ended(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

/* Other numbers in each run: nobody can know them. */
static void roll_dice(void)
{
    srand((unsigned)getpid() ^ (unsigned)(now() * 1e6));
}

/* Connects and sends a byte, which the client may get back or not. */
static int connect_and_ask(void)
{
    int fd = connect_client();
    expect(client_asks(fd),
           "a client connected, but could not send a byte: it was not left waiting");
    return fd;
}

/* Which of the clients, who have all asked, get an answer; given half a second after the last one.
 * Fails if any of them was closed. Returns how many. */
static int count_served(const int fds[], int count, bool served[])
{
    int answers = 0;
    memset(served, 0, (size_t)count * sizeof *served);
    for (double end = now() + 0.5; now() < end && answers < count; sleep_for(0.01))
        for (int i = 0; i < count; i++) {
            if (served[i] || !client_has_input(fds[i], 0))
                continue;
            expect(!has_ended(fds[i]),
                   "client %d of %d was to wait in the kernel's queue, but its connection was "
                   "closed",
                   i + 1, count);
            expect(client_is_answered(fds[i]), "client %d got another byte than its own", i + 1);
            served[i] = true;
            answers++;
            end = now() + 0.5;
        }
    return answers;
}

/* The kernel completes six connections while the server is stopped: it finds them all at once. */
static void limit_holds(void)
{
    enum { CLIENTS = 6 };
    roll_dice();
    int fds[CLIENTS], max = 2 + rand() % 3;
    bool served[CLIENTS];
    char args[32];
    snprintf(args, sizeof args, "--max %d", max);
    start(args);
    kill(server.pid, SIGSTOP);
    for (int i = 0; i < CLIENTS; i++)
        fds[i] = connect_and_ask();
    kill(server.pid, SIGCONT);
    for (double end = now() + patience(); !client_has_input(fds[max - 1], 0.1) && now() < end;)
        ;
    int answers = count_served(fds, CLIENTS, served);
    expect(
        answers == max,
        "started with %s, when %d clients came at once, %d should be served and the others wait, "
        "but %d were served",
        args, CLIENTS, max, answers);
}

/* Each time one of those inside leaves, by an end of file or a reset, exactly one of those who wait
 * has its turn. */
static void those_who_leave_make_room(void)
{
    enum { MAX = 3, WAITING = 9, ALL = MAX + WAITING };
    int fds[ALL];
    roll_dice();
    start("--max 3");
    for (int i = 0; i < MAX; i++) {
        fds[i] = connect_and_ask();
        expect(client_is_answered(fds[i]), "with --max 3, client %d was not served", i + 1);
    }
    for (int i = MAX; i < ALL; i++)
        fds[i] = connect_and_ask();
    expect(!client_has_input(fds[MAX], 0.3),
           "with --max 3, a fourth client should get nothing while three are in, but it was %s",
           has_ended(fds[MAX]) ? "closed" : "served");
    for (int i = 0; i < WAITING; i++) {
        if (rand() % 2)
            close(fds[i]);
        else
            client_reset(fds[i]);
        expect(client_has_input(fds[i + MAX], patience()) && client_is_answered(fds[i + MAX]),
               "with --max 3, %d clients have left one after the other, but only %d of those who "
               "waited were served: are those who leave taken off the count?",
               i + 1, i);
        expect(
            i + MAX + 1 >= ALL || !client_has_input(fds[i + MAX + 1], 0.05),
            "with --max 3, %d clients have left, and more than %d of those who waited were let in",
            i + 1, i + 1);
    }
}

static void waiting_at_the_door_costs_nothing(void)
{
    int fds[4];
    start("--max 2");
    for (int i = 0; i < 4; i++)
        fds[i] = connect_and_ask();
    expect(client_is_answered(fds[0]) && client_is_answered(fds[1]),
           "with --max 2, the first two clients were not served");
    expect(!client_has_input(fds[2], 0.2) && !client_has_input(fds[3], 0),
           "with --max 2, a third client should get nothing while two are in, but it was %s",
           has_ended(fds[2]) ? "closed" : "served");
    double share = process_cpu_share(server.pid, 0.7);
    expect(
        share < 0.1,
        "while two clients waited to be let in the program used %.0f %% of a CPU: the listener is "
        "ready all that time, so who watches it does not sleep",
        share * 100);
    expect(client_echo(fds[0], "still here"),
           "while others waited, a client that is in was not served");
    close(fds[0]);
    expect(client_is_answered(fds[2]), "a client has left, but the one that waited was not served");
}

static void echoes_with_max(void)
{
    echoes_exactly("--max 1000");
}

static void ends_with_max(void)
{
    ends_in_order("--max 1000");
}

/* --- idle: shared with 06 --- */

enum { IDLE_MS = 1000 };    /* long enough for a busy machine */
enum { MUCH_TOO_LATE = 8 }; /* seconds */
static const double IDLE = IDLE_MS / 1000.0;
static const double ROUNDING = 0.01; /* of whoever counts in milliseconds */

/* Waits until the connection ends. Returns how many seconds after `since` that was. */
static double end_after(int fd, double since)
{
    expect(client_has_input(fd, MUCH_TOO_LATE),
           "with --idle %d, a client that was silent was still connected after %.1f s", IDLE_MS,
           now() - since);
    double after = now() - since;
    expect(has_ended(fd), "a silent client was not closed, but got a byte");
    return after;
}

/* Of the clients that come, the i-th: it says something, and gets it back. */
static void expect_served(int fd, int i, int idle_ms)
{
    if (client_echo(fd, "hello"))
        return;
    expect(!has_ended(fd),
           "with --idle %d, client %d was closed as soon as it came: its time begins when it has "
           "been accepted",
           idle_ms, i);
    expect(false, "with --idle %d, client %d was not served", idle_ms, i);
}

/* One that has said something once, and one that has never said a word. */
void silent_client_is_closed(void)
{
    char args[32];
    snprintf(args, sizeof args, "--idle %d", IDLE_MS);
    start(args);
    double came = now();
    int mute = connect_client();
    sleep_for(0.3);
    int once = connect_client();
    double spoke = now();
    expect_served(once, 2, IDLE_MS);

    double after = end_after(mute, came);
    expect(after > IDLE - ROUNDING,
           "with %s, a client that never sent anything was closed after %.2f s, which is too early",
           args, after);
    after = end_after(once, spoke);
    expect(after > IDLE - ROUNDING,
           "with %s, a client was closed %.2f s after its last byte, which is too early", args,
           after);
    expect(after < IDLE + 3, "with %s, a silent client was closed only after %.1f s", args, after);
    int next = connect_client();
    expect(client_echo(next, "hello"),
           "after idle clients were closed, the next one was not served");
}

/* If it is us who were held up for long, then nothing can be said. */
void talking_client_stays(void)
{
    char args[32];
    snprintf(args, sizeof args, "--idle %d", IDLE_MS);
    start(args);
    int silent = connect_client(), talks = connect_client();
    double begin = now(), last = begin, longest = 0, end = begin + IDLE + 0.6;
    bool closed = false;
    while (now() < end || (!closed && now() < begin + MUCH_TOO_LATE)) {
        closed = closed || client_has_input(silent, 0);
        bool echoed = client_echo(talks, "x");
        longest = now() - last > longest ? now() - last : longest;
        last = now();
        if (!echoed && longest > IDLE / 2)
            return;
        expect(echoed,
               "with %s, a client that sent a byte every 0.1 s was closed after %.2f s: each byte "
               "puts off the end",
               args, last - begin);
        sleep_for(0.1);
    }
    expect(closed,
           "with %s, a silent client was not closed for %d s, while another went on talking: the "
           "time-out is each client's own",
           args, MUCH_TOO_LATE);
}

/* Three clients, the second and the third 0.35 s after the one before. Sets how long after its last
 * byte each was closed. Early is always wrong; too close together, or out of order, may be the
 * machine's fault: returns false. */
static bool leave_one_by_one(double silent[3])
{
    enum { CLIENTS = 3 };
    const double step = 0.35;
    int fds[CLIENTS];
    double spoke[CLIENTS], ended[CLIENTS];
    bool apart = true;
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = connect_client();
        spoke[i] = now();
        expect_served(fds[i], i + 1, IDLE_MS);
        sleep_for(i + 1 < CLIENTS ? step : 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        double after = silent[i] = end_after(fds[i], spoke[i]);
        ended[i] = spoke[i] + after;
        expect(
            after > IDLE - ROUNDING,
            "with --idle %d, client %d of three, who came one after the other, was closed %.2f s "
            "after its last byte: too early, as if another's time were its own",
            IDLE_MS, i + 1, after);
        apart = apart && after < IDLE + step && (i == 0 || ended[i] - ended[i - 1] > step / 4);
    }
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
    return apart;
}

void each_has_its_own_time(void)
{
    char args[32];
    snprintf(args, sizeof args, "--idle %d", IDLE_MS);
    start(args);
    double silent[3];
    bool apart = false;
    for (int round = 0; round < 3 && !apart; round++)
        apart = leave_one_by_one(silent);
    expect(apart,
           "with %s, three clients fell silent 0.35 s one after the other, but were not closed in "
           "the same way: client 1 was %.2f s after its last byte, client 2 %.2f s, client 3 %.2f "
           "s. Each is due after %.1f s, and late by 0.3 s at most",
           args, silent[0], silent[1], silent[2], IDLE);
}

/* Who sleeps until the nearest time-out wakes up not once until then. */
void waiting_costs_nothing(void)
{
    enum { CLIENTS = 10 };
    int fds[CLIENTS];
    start("--idle 2000");
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = connect_client();
        expect_served(fds[i], i + 1, 2000);
    }
    long before = process_switches(server.pid);
    double share = process_cpu_share(server.pid, 1.5);
    long woken = process_switches(server.pid) - before;
    expect(share < 0.05,
           "while ten silent clients had time left, the program used %.0f %% of a CPU",
           share * 100);
    expect(before < 0 || woken <= CLIENTS + 2,
           "while ten silent clients had time left, the program woke up %ld times in 1.5 s: it can "
           "sleep until the first of them is due",
           woken);
    for (int i = 0; i < CLIENTS; i++)
        expect(client_has_input(fds[i], MUCH_TOO_LATE) && has_ended(fds[i]),
               "with --idle 2000, silent client %d of ten was not closed", i + 1);
}

/* --- idle: 03's own --- */

/* True if a client that reads nothing more has been hung up on. */
static bool is_hung_up(int fd)
{
    struct pollfd look = {.fd = fd};
    return poll(&look, 1, 0) == 1 && look.revents & (POLLHUP | POLLERR);
}

/* Two clients that are owed more than the way between holds: one takes nothing. The other takes a
 * little at a time, for longer than the time-out. If it is us who were held up, nothing can be
 * said.
 */
static void who_takes_bytes_is_not_idle(void)
{
    size_t length = 16 * MIB, got = 0, share = MIB / 4;
    char *back = malloc(share);
    ck_assert_ptr_nonnull(back);
    pattern(length); /* made now: that takes its time */
    start("--idle 1500");
    int stuck = connect_client();
    send_until_stuck(stuck, pattern(length), length);
    int takes = connect_client();
    double last = now();
    size_t sent = send_until_stuck(takes, pattern(length), length);
    for (double begin = now(); now() < begin + 1.8 && got + share <= sent; sleep_for(0.08)) {
        bool received = client_receive(takes, back, share);
        if (!received && now() - last > 1.2)
            return;
        expect(received && memcmp(back, pattern(length) + got, share) == 0,
               "with --idle 1500, a client that was owed %zu bytes, and took some every 0.1 s, was "
               "closed after %.1f s: who takes bytes is not idle",
               sent - got, now() - begin);
        got += share;
        last = now();
    }
    for (double end = now() + MUCH_TOO_LATE; !is_hung_up(stuck) && now() < end;)
        sleep_for(0.02);
    expect(is_hung_up(stuck),
           "with --idle 1500, a client that was owed bytes and took none was still connected %d s "
           "later: it is silent as well",
           MUCH_TOO_LATE);
    free(back);
}

static void echoes_with_idle(void)
{
    echoes_exactly("--idle 60000");
}

static void ends_with_idle(void)
{
    ends_in_order("--idle 60000");
}

const struct exercise exercises_03[] = {
    {"03-select/limit",
     20,
     false,
     {{"of many who come at once, N are served", limit_holds, 1, false},
      {"each one that leaves makes room for one", those_who_leave_make_room, 1, false},
      {"who waits to be let in costs no CPU", waiting_at_the_door_costs_nothing, 1, false},
      {"bytes come back exactly", echoes_with_max, 1, true},
      {"it ends in order", ends_with_max, 1, true}}},
    {"03-select/idle",
     45,
     false,
     {{"a silent client is closed, in time", silent_client_is_closed, 1, false},
      {"a talking client stays", talking_client_stays, 1, false},
      {"each client has a time of its own", each_has_its_own_time, 2, false},
      {"waiting costs no CPU", waiting_costs_nothing, 3, false},
      {"who takes its bytes stays, who takes none does not", who_takes_bytes_is_not_idle, 1, false},
      {"bytes come back exactly", echoes_with_idle, 1, true},
      {"it ends in order", ends_with_idle, 1, true}}},
    {0}};
