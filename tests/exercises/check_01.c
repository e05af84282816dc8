/* 01-blocking: a process, or a thread, for each client. */
#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier): prlimit() */
#include "exercise.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Enough for what takes no time at all, on a busy machine too. */
enum { SOON = 5 /* seconds */ };

#define soon(condition)                          \
    __extension__({                              \
        double too_late = now() + SOON;          \
        while (!(condition) && now() < too_late) \
            sleep_for(0.01);                     \
        (condition);                             \
    })

/* --- clients --- */

static void expect_echo(int fd, const char *when)
{
    char sent = (char)('a' + rand() % 26), got = 0;
    bool came = client_send(fd, &sent, 1) && client_has_input(fd, SOON);
    bool whole = came && client_receive(fd, &got, 1);
    expect(whole && got == sent, "%s, expected a client's byte back, but %s", when,
           !came    ? "nothing came within 5 s"
           : !whole ? "its connection was closed"
                    : "another one came");
}

/* Connects the clients number from to count - 1. Each gets an answer while all those before it are
 * connected and silent. */
static void connect_beside(int fds[], int from, int count)
{
    char when[64];
    for (int i = from; i < count; i++) {
        fds[i] = connect_client();
        snprintf(when, sizeof when, "with %d other%s connected and silent", i, i == 1 ? "" : "s");
        expect_echo(fds[i], when);
    }
}

static void close_all(const int fds[], int count)
{
    for (int i = 0; i < count; i++)
        close(fds[i]);
}

/* Clients that come, get a byte back and leave, one after the other. */
static void short_connections(int count)
{
    char when[96];
    for (int i = 0; i < count; i++) {
        int fd = client_connect(server.port);
        snprintf(when, sizeof when, "after %d clients that came and left, one after the other", i);
        expect(fd >= 0, "%s, expected one more to connect, but it could not", when);
        expect_echo(fd, when);
        client_reset(fd);
    }
}

/* All clients at once, in rounds. Returns how many bytes that is for each. */
static size_t exchange_at_once(const int fds[], int count, int rounds)
{
    static char back[8192];
    size_t total = 0;
    srand((unsigned)getpid()); /* other totals each time */
    for (int round = 0; round < rounds; round++) {
        size_t length = 1 + (size_t)rand() % sizeof back;
        total += length;
        for (int i = 0; i < count; i++)
            expect(client_send(fds[i], pattern(length), length),
                   "of %d clients that talk at once, number %d cannot send", count, i + 1);
        for (int i = 0; i < count; i++)
            expect(client_receive(fds[i], back, length) &&
                       memcmp(back, pattern(length), length) == 0,
                   "of %d clients that talk at once, number %d did not get its %zu bytes back",
                   count, i + 1, length);
    }
    return total;
}

/* SIGTERM ends it, with this line of totals if one is expected. */
static void expect_end(int clients, const char *totals)
{
    int status = process_end(&server, SIGTERM);
    expect(status != 128 + SIGKILL,
           "after SIGTERM, with %d clients connected, expected the server to end, but it still ran "
           "%d s later: who waits for a client has to be woken",
           clients, patience());
    expect(status == 0,
           "after SIGTERM, with %d clients connected, expected exit status 0, but it was %d; "
           "stderr: %.250s",
           clients, status, server.errors);
    expect(!totals || strstr(server.output, totals),
           "after SIGTERM, expected '%s' on stdout, but there was '%.200s'", totals, server.output);
}

static void expect_ends(const int fds[], int count)
{
    char bytes[4096];
    for (int i = 0; i < count; i++) {
        bool ended = false;
        while (!ended && client_has_input(fds[i], SOON))
            ended = recv(fds[i], bytes, sizeof bytes, 0) <= 0;
        expect(ended,
               "after the server had ended, expected its %d clients to be disconnected, but number "
               "%d still was not %d s later",
               count, i + 1, SOON);
    }
}

/* --- no process and no thread is to be had --- */

/* Sets what RLIMIT_NPROC of the server is now. That takes its user's rights: not even root may do
 * so everywhere. False where it cannot be had. */
static bool limit_processes(rlim_t most)
{
#ifdef __linux__
    char path[32];
    struct stat owner;
    struct rlimit limit;
    int status = 1;
    snprintf(path, sizeof path, "/proc/%ld", (long)server.pid);
    pid_t helper = stat(path, &owner) == 0 ? fork() : -1;
    if (helper == 0) {
        if (getuid() == 0 && (setgid(owner.st_gid) < 0 || setuid(owner.st_uid) < 0))
            _exit(1);
        if (prlimit(server.pid, RLIMIT_NPROC, NULL, &limit) < 0)
            _exit(1);
        limit.rlim_cur = most < limit.rlim_max ? most : limit.rlim_max;
        _exit(prlimit(server.pid, RLIMIT_NPROC, &limit, NULL) < 0);
    }
    return helper > 0 && waitpid(helper, &status, 0) == helper && status == 0;
#else
    (void)most;
    return false;
#endif
}

/* fork(), or pthread_create(), fails with EAGAIN: that client is turned away, and nothing else
 * happens. Then the server is killed: its end is no matter here, and one that took fork()'s -1 for
 * a process's number would send its last signal to everybody. */
static void expect_turned_away(const char *call, int others[], int count)
{
    char byte = 'x', when[96];
    if (limit_processes(1)) { /* it has more: no other is to be had */
        int fd = connect_client();
        client_send(fd, &byte, 1);
        expect(client_has_input(fd, SOON),
               "when %s failed with EAGAIN, expected that client to be disconnected, but it still "
               "was not %d s later",
               call, SOON);
        close(fd);
        snprintf(when, sizeof when, "after %s failed for another client", call);
        for (int i = 0; i < count; i++)
            expect_echo(others[i], when);
        limit_processes(RLIM_INFINITY);
    }
    int fd = client_connect(server.port);
    snprintf(when, sizeof when, "after %s failed for a while, and works again", call);
    expect(fd >= 0, "%s, expected one more client to connect, but it could not", when);
    expect_echo(fd, when);
    process_end(&server, SIGKILL);
    close(fd);
}

/* --- a process for each --- */

enum { MANY = 10 };

static void fork_serves_beside(void)
{
    int fds[MANY];
    start("");
    fds[0] = connect_client(); /* this one has not even said a byte */
    connect_beside(fds, 1, MANY);
    int children = process_children(server.pid, NULL, 0);
    expect(children < 0 || children == MANY,
           "with %d clients connected, expected %d child processes, but the server has %d", MANY,
           MANY, children);
    expect_echo(fds[0], "after others came");
    close_all(fds, MANY);
}

/* A socket stays open until every process that has a copy of it has closed it. */
static void fork_shares_no_socket(void)
{
    enum { COUNT = 5 };
    int fds[COUNT];
    pid_t pids[COUNT];
    start("");
    connect_beside(fds, 0, COUNT);
    expect(
        soon(process_has(server.pid, "socket:") <= 1),
        "with %d clients connected, expected the parent to have 1 socket open, the listener, but "
        "it has %d: whose are the others?",
        COUNT, process_has(server.pid, "socket:"));
    int children = process_children(server.pid, pids, COUNT);
    expect(children < 0 || children == COUNT,
           "with %d clients connected, expected %d child processes, but the server has %d", COUNT,
           COUNT, children);
    for (int i = 0; i < children; i++)
        expect(soon(process_has(pids[i], "socket:") <= 1),
               "with %d clients connected, expected each child to have 1 socket open, its client, "
               "but one has %d: a child begins with a copy of all that the parent has open",
               COUNT, process_has(pids[i], "socket:"));
    close_all(fds, COUNT);
}

static int zombies(void)
{
    pid_t pids[MANY];
    int count = 0, children = process_children(server.pid, pids, MANY);
    for (int i = 0; i < children && i < MANY; i++)
        count += process_is_zombie(pids[i]);
    return count;
}

/* The parent is stopped while all of them end, so that there is one SIGCHLD for ten. */
static void fork_leaves_no_zombie(void)
{
    int fds[MANY];
    start("");
    connect_beside(fds, 0, MANY);
    sleep_for(0.05); /* it is back in accept(), most likely */
    kill(server.pid, SIGSTOP);
    close_all(fds, MANY);
    (void)soon(process_children(server.pid, NULL, 0) <= 0 || zombies() == MANY);
    kill(server.pid, SIGCONT);
    expect(soon(process_children(server.pid, NULL, 0) <= 0),
           "after %d clients left at the same time, and none came, expected all child processes to "
           "be gone, but there are %d, %d of them zombies (ended, and nobody waited for them)",
           MANY, process_children(server.pid, NULL, 0), zombies());
    short_connections(200);
    expect(soon(process_children(server.pid, NULL, 0) <= 0),
           "after 200 clients came and left, expected no child process, but there are %d",
           process_children(server.pid, NULL, 0));
}

static void fork_failure_ends_one(void)
{
    enum { COUNT = 3 };
    int fds[COUNT], left = COUNT;
    pid_t pids[COUNT];
    start("");
    connect_beside(fds, 0, COUNT);
    int children = process_children(server.pid, pids, COUNT);
    expect(children < 0 || children == COUNT,
           "with %d clients connected, expected %d child processes, but the server has %d", COUNT,
           COUNT, children);
    if (children == COUNT) {
        bool ended = false;
        kill(pids[rand() % COUNT], SIGKILL);
        for (double late = now() + SOON; !ended && now() < late;)
            for (int i = 0; i < COUNT; i++)
                ended = client_has_input(fds[i], 0.01) || ended;
        expect(ended,
               "after kill -9 of one child, expected its client to be disconnected, but it still "
               "was not %d s later: does another process have that socket open?",
               SOON);
        left = 0;
        for (int i = 0; i < COUNT; i++)
            if (!client_has_input(fds[i], 0))
                fds[left++] = fds[i];
        expect(left == COUNT - 1,
               "after kill -9 of one child, expected 1 client to be disconnected, but %d were",
               COUNT - left);
        for (int i = 0; i < left; i++)
            expect_echo(fds[i], "after kill -9 of another client's process");
    }
    expect_turned_away("fork()", fds, left);
}

static int still_running(const pid_t pids[], int count)
{
    int running = 0;
    for (int i = 0; i < count && i < MANY; i++)
        running += (kill(pids[i], 0) == 0 || errno != ESRCH) && !process_is_zombie(pids[i]);
    return running;
}

/* All clients stay connected: some have said much, one nothing. */
static void fork_ends_all(void)
{
    int fds[MANY];
    pid_t pids[MANY];
    char totals[64];
    start("");
    connect_beside(fds, 0, MANY);
    size_t total = MANY + (MANY - 1) * exchange_at_once(fds + 1, MANY - 1, 20);
    int children = process_children(server.pid, pids, MANY);
    snprintf(totals, sizeof totals, "served %d clients, %zu bytes\n", MANY, total);
    expect_end(MANY, NULL);
    int still;
    (void)soon((still = still_running(pids, children)) == 0);
    expect(still == 0,
           "after SIGTERM ended the parent, expected its child processes to end, too, but %d of %d "
           "still run: a signal goes to one process only",
           still, children);
    expect_ends(fds, MANY);
    expect(strstr(server.output, totals),
           "after %d clients, whose processes all counted what they sent back, expected '%s' on "
           "stdout, but there was '%.200s'",
           MANY, totals, server.output);
}

/* --- a thread for each --- */

/* ThreadSanitizer starts one beside the program's first. */
static int sanitizers_own(void)
{
    return subject.sanitized ? 1 : 0;
}

static void thread_serves_beside(void)
{
    int fds[MANY];
    start("");
    fds[0] = connect_client(); /* this one has not even said a byte */
    connect_beside(fds, 1, 2);
    int base = process_threads(server.pid) - 2; /* once it serves: it has all of its own by then */
    connect_beside(fds, 2, MANY);
    int threads = process_threads(server.pid), children = process_children(server.pid, NULL, 0);
    expect(threads < 0 || threads == base + MANY || threads == base + MANY + sanitizers_own(),
           "with %d clients connected, expected %d threads, the first one included, but there are "
           "%d",
           MANY, base + MANY, threads);
    expect(children <= 0, "expected threads of one process, but the server has %d child processes",
           children);
    expect_echo(fds[0], "after others came");
    close_all(fds, MANY);
}

/* A thread that nobody joined or detached has ended, but keeps its stack. */
static void thread_leaves_nothing(void)
{
    enum { WARM = 100, MORE_KIB = 4096 };
    int fds[MANY], shorts = subject.sanitized ? 300 : 2000;
    start("");
    connect_beside(fds, 0, 1);
    /* Without its client, but with all that it has opened to serve. */
    int base = process_threads(server.pid) - 1, descriptors = process_descriptors(server.pid) - 1;
    connect_beside(fds, 1, MANY);
    close_all(fds, MANY);
    expect(soon(process_threads(server.pid) <= base + sanitizers_own()),
           "after all %d clients left, expected %d thread, but there are %d", MANY, base,
           process_threads(server.pid));
    expect(soon(process_descriptors(server.pid) <= descriptors),
           "after all %d clients left, expected %d open descriptors as before they came, but there "
           "are %d",
           MANY, descriptors, process_descriptors(server.pid));
    short_connections(WARM);
    long before = process_memory_kib(server.pid);
    short_connections(shorts);
    long grown = process_memory_kib(server.pid) - before;
    expect(subject.sanitized || before < 0 || grown < MORE_KIB,
           "after %d clients came and left, expected the memory in use to be as before (less than "
           "%d KiB more), but it is %ld KiB more: who takes back an ended thread's stack?",
           shorts, MORE_KIB, grown);
}

/* ThreadSanitizer sees what two threads do without order between them, even if nothing went wrong
 * this time. Without it, a lost addition may show in the totals. */
static void thread_without_race(void)
{
    enum { COUNT = 8 };
    int fds[COUNT];
    char totals[64];
    start("");
    connect_beside(fds, 0, COUNT);
    size_t total = COUNT + COUNT * exchange_at_once(fds, COUNT, 500);
    snprintf(totals, sizeof totals, "served %d clients, %zu bytes\n", COUNT, total);
    expect_end(COUNT, totals);
    close_all(fds, COUNT);
    if (!start_racing(""))
        return;
    connect_beside(fds, 0, COUNT);
    exchange_at_once(fds, COUNT, 20);
    close_all(fds, COUNT / 2); /* half of them have left when it ends */
    end_racing();
}

/* One is silent, one has half an answer, and one does not read: its thread sleeps in send(). */
static void thread_ends_all(void)
{
    enum { COUNT = 4, LENGTH = 16 << 20 };
    int fds[COUNT];
    start("");
    connect_beside(fds, 0, COUNT);
    exchange_at_once(fds, 2, 5);
    send_until_stuck(fds[COUNT - 1], pattern(LENGTH), LENGTH);
    expect_end(COUNT, "served 4 clients, ");
    expect_ends(fds, COUNT);
}

static void thread_failure_ends_one(void)
{
    enum { COUNT = 3 };
    int fds[COUNT];
    start("");
    connect_beside(fds, 0, COUNT);
    expect_turned_away("pthread_create()", fds, COUNT);
}

static void echo_is_exact(void)
{
    echoes_exactly("");
}

static void end_is_in_order(void)
{
    ends_in_order("");
}

const struct exercise exercises_01[] = {
    {"01-blocking/fork",
     45,
     false,
     {{"bytes come back exactly, and a half-close is answered", echo_is_exact, 1, true},
      {"SIGTERM ends the server in order", end_is_in_order, 1, true},
      {"each client has a process, and a silent one holds up nobody", fork_serves_beside, 2, false},
      {"each process has open what is its own", fork_shares_no_socket, 1, false},
      {"no zombies are left", fork_leaves_no_zombie, 2, false},
      {"a killed process, or a failing fork(), ends one client", fork_failure_ends_one, 1, false},
      {"SIGTERM ends all processes, and the totals are of all", fork_ends_all, 2, false}}},
    {"01-blocking/thread",
     45,
     true,
     {{"bytes come back exactly, and a half-close is answered", echo_is_exact, 1, true},
      {"SIGTERM ends the server in order", end_is_in_order, 1, true},
      {"each client has a thread, and a silent one holds up nobody", thread_serves_beside, 2,
       false},
      {"a client that leaves leaves nothing behind", thread_leaves_nothing, 2, false},
      {"no two threads race, and the totals are exact", thread_without_race, 2, false},
      {"SIGTERM ends all threads, whatever they wait for", thread_ends_all, 1, false},
      {"a failing pthread_create() ends one client", thread_failure_ends_one, 1, false}}},
    {0},
};
