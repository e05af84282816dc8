#include "exercise.h"

#include <dirent.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#endif

static const size_t MIB = 1 << 20;

static void echoes(void)
{
    echoes_exactly("");
}

static void ends(void)
{
    ends_in_order("");
}

/* Other numbers in each run: nobody can know them. */
static size_t random_between(size_t least, size_t most)
{
    static bool rolled;
    if (!rolled)
        srand((unsigned)getpid() ^ (unsigned)(now() * 1e6));
    rolled = true;
    return least + (size_t)rand() % (most - least + 1);
}

/* Receives at most length bytes, until the end or for as long as more of them come. Returns how
 * many. */
static size_t receive_what_comes(int fd, char *bytes, size_t length)
{
    size_t got = 0;
    for (ssize_t n; got < length && (n = recv(fd, bytes + got, length - got, 0)) > 0;)
        got += (size_t)n;
    return got;
}

/* --- edge: how clients are registered --- */

#ifdef __linux__
enum { ONCE = EPOLLIN | EPOLLOUT };

/* Adds up what one epoll instance watches, see proc(5): with both events and edge-triggered, or in
 * any other way. */
static void count_registrations(const char *path, int *as_wanted, int *others)
{
    char line[256];
    unsigned events;
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "tfd: %*d events: %x", &events) == 1) {
            bool edge = events & EPOLLET && !(events & EPOLLONESHOT);
            *(edge && (events & ONCE) == ONCE ? as_wanted : others) += 1;
        }
    if (file)
        fclose(file);
}

/* Returns false if the system does not tell. */
static bool look_at_registrations(int *as_wanted, int *others)
{
    char path[300], target[64];
    bool found = false;
    *as_wanted = *others = 0;
    snprintf(path, sizeof path, "/proc/%ld/fd", (long)server.pid);
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        ssize_t length = readlinkat(dirfd(folder), entry->d_name, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = '\0';
        if (strcmp(target, "anon_inode:[eventpoll]") != 0)
            continue;
        found = true;
        snprintf(path, sizeof path, "/proc/%ld/fdinfo/%s", (long)server.pid, entry->d_name);
        count_registrations(path, as_wanted, others);
    }
    if (folder)
        closedir(folder);
    return found || !folder;
}
#else
static bool look_at_registrations(int *as_wanted, int *others)
{
    (void)as_wanted;
    (void)others;
    return false;
}
#endif

/* Of the others, one is the listener; a program may have some of its own beside it. */
static void expect_registered(int clients, const char *when)
{
    enum { ITS_OWN = 3 };
    int as_wanted = 0, others = 0;
    if (!look_at_registrations(&as_wanted, &others))
        return;
    expect(as_wanted >= clients,
           "%s, each client should be registered for EPOLLIN | EPOLLOUT | EPOLLET, but of %d "
           "clients %d are not (/proc/PID/fdinfo/ of the epoll descriptor shows it)",
           when, clients, clients - as_wanted);
    expect(others <= ITS_OWN,
           "%s, %d clients are registered for EPOLLIN | EPOLLOUT | EPOLLET, but %d more "
           "descriptors, the listener not counted, for something else (/proc/PID/fdinfo/)",
           when, clients, others - 1);
}

/* Starts the program, and leaves it one client: with another way of registering clients, what the
 * checks below ask for is no work. Returns the client's descriptor. */
static int start_edge_triggered(void)
{
    start("");
    int fd = connect_client();
    expect(client_echo(fd, "hello"), "a client that sent 5 bytes did not get them back");
    expect_registered(1, "while nobody says anything");
    return fd;
}

/* --- edge: the brake --- */

/* The program's brake: it is held up at each of its system calls, so that a client has always sent
 * more by the time the program looks. A kernel that does not let us leaves it as fast as it is. */
static int epoll_ctl_calls; /* that the brake has seen */

#ifdef __linux__
static bool brake_on(void)
{
    return ptrace(PTRACE_SEIZE, server.pid, NULL, PTRACE_O_TRACESYSGOOD) == 0 &&
           ptrace(PTRACE_INTERRUPT, server.pid, NULL, NULL) == 0;
}

/* Where the system tells which call the program has been stopped at. */
static void count_call(void)
{
#ifdef PTRACE_GET_SYSCALL_INFO
    struct __ptrace_syscall_info call = {0};
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): that is how ptrace() wants a size */
    void *size = (void *)sizeof call;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, server.pid, size, &call) > 0 &&
        call.op == PTRACE_SYSCALL_INFO_ENTRY && call.entry.nr == SYS_epoll_ctl)
        epoll_ctl_calls++;
#endif
}

/* Waits for a stop, and lets it go on from there to the next one, or for good. Returns false if it
 * has not stopped. */
static bool brake_step(bool release)
{
    siginfo_t stop = {0};
    sleep_for(0.0001);
    if (waitid(P_PID, (id_t)server.pid, &stop, WSTOPPED | WNOHANG) < 0 || stop.si_pid == 0)
        return false;
    count_call();
    bool is_signal = stop.si_status != (SIGTRAP | 0x80) && stop.si_status >> 8 == 0;
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): that is how ptrace() wants a signal's number */
    void *signal_number = (void *)(intptr_t)(is_signal ? stop.si_status : 0);
    ptrace(release ? PTRACE_DETACH : PTRACE_SYSCALL, server.pid, NULL, signal_number);
    return true;
}

static void brake_off(void)
{
    ptrace(PTRACE_INTERRUPT, server.pid, NULL, NULL);
    becomes_true(brake_step(true));
}
#else
static bool brake_on(void)
{
    return false;
}

static bool brake_step(bool release)
{
    (void)release;
    return false;
}

static void brake_off(void)
{
}
#endif

/* --- edge: registered once --- */

enum { TALKING = 4, EACH_SENDS = 1 << 20, MOST_AT_ONCE = 1 << 16 };

/* Each client sends all that the way takes, and receives what there is. Returns how many of them
 * have got everything back. */
static int move_bytes(const int fds[], size_t sent[], size_t got[])
{
    static char back[MOST_AT_ONCE];
    const char *bytes = pattern(EACH_SENDS);
    int done = 0;
    for (int i = 0; i < TALKING; i++) {
        ssize_t n =
            send(fds[i], bytes + sent[i], EACH_SENDS - sent[i], MSG_DONTWAIT | MSG_NOSIGNAL);
        sent[i] += n > 0 ? (size_t)n : 0;
        size_t most = EACH_SENDS - got[i] < sizeof back ? EACH_SENDS - got[i] : sizeof back;
        n = recv(fds[i], back, most, MSG_DONTWAIT);
        expect(n <= 0 || memcmp(back, bytes + got[i], (size_t)n) == 0,
               "%d clients sent at the same time, and one of them got other bytes back", TALKING);
        got[i] += n > 0 ? (size_t)n : 0;
        done += got[i] == EACH_SENDS;
    }
    return done;
}

/* Under the brake there are always more bytes than a share of them. */
static void expect_never_told_anew(const int fds[])
{
    size_t sent[TALKING] = {0}, got[TALKING] = {0}, all = 0, before;
    int done = 0;
    bool braked = brake_on();
    for (double give_up = now() + patience(); done < TALKING && now() < give_up;) {
        brake_step(false);
        done = move_bytes(fds, sent, got);
        before = all;
        all = 0;
        for (int i = 0; i < TALKING; i++)
            all += got[i];
        if (all > before)
            give_up = now() + patience();
    }
    if (braked)
        brake_off();
    expect(done == TALKING,
           "%d clients sent %d bytes each and took what came: after %zu bytes of them all, nothing "
           "more came back for %d s",
           TALKING, EACH_SENDS, all, patience());
    expect(epoll_ctl_calls < TALKING,
           "while %d clients that are registered sent and received, the program called epoll_ctl() "
           "%d times: it is told once, and has to remember itself who is not finished",
           TALKING, epoll_ctl_calls);
}

/* The mask shows in /proc; that it was set anew to the same shows in the calls only. One client is
 * owed bytes: whoever changes the registration for that is found out. */
static void registered_once(void)
{
    int owed = start_edge_triggered(), fds[TALKING];
    for (int i = 0; i < TALKING; i++) {
        fds[i] = connect_client();
        expect(client_echo(fds[i], "hello"), "client %d of %d is not served", i + 2, TALKING + 1);
    }
    expect_registered(TALKING + 1, "while nobody says anything");
    send_until_stuck(owed, pattern(16 * MIB), 16 * MIB);
    expect_registered(TALKING + 1, "while one client is owed bytes");
    expect_never_told_anew(fds);
}

/* Fails if the program does something. */
static void expect_at_rest(const char *when, const char *why)
{
    long switches = process_switches(server.pid);
    double share = process_cpu_share(server.pid, 0.5);
    switches = process_switches(server.pid) - switches;
    expect(share < 0.1 && switches < 20,
           "%s, the program used %.0f %% of a CPU, and woke up %ld times in half a second: %s",
           when, share * 100, switches, why);
}

static void rests(void)
{
    enum { CLIENTS = 20 };
    start_edge_triggered();
    for (int i = 1; i < CLIENTS; i++)
        expect(client_echo(connect_client(), "hello"), "client %d of %d is not served", i + 1,
               CLIENTS);
    expect_at_rest("while 20 clients were silent",
                   "when there is nothing to do, the wait has no end");
}

/* --- edge: what one edge tells --- */

/* A client that has been served before. Then the program is stopped until all of this, with the
 * end of file or without, has arrived: it is told once. */
static int connect_and_send_at_once(size_t length, bool with_end)
{
    int fd = connect_client();
    expect(client_echo(fd, "first"), "a client that sent 5 bytes did not get them back");
    kill(server.pid, SIGSTOP);
    sleep_for(0.02);
    bool sent = client_send(fd, pattern(length + 1), length);
    if (with_end)
        shutdown(fd, SHUT_WR);
    kill(server.pid, SIGCONT);
    ck_assert(sent);
    return fd;
}

static void expect_back(int fd, size_t length)
{
    char *back = malloc(length + 1);
    ck_assert_ptr_nonnull(back);
    size_t got = receive_what_comes(fd, back, length);
    expect(got == length && memcmp(back, pattern(length + 1), length) == 0,
           "%zu bytes arrived in one go, but %zu came back%s: the edge is told once, however much "
           "there is to be read",
           length, got, got == length ? ", and not the right ones" : "");
    free(back);
}

/* At most what a connection holds before its window grows (64 KiB), so that it is one edge. */
static void one_edge_all_bytes(void)
{
    size_t sizes[] = {1, 4096, 5000, random_between(10000, 50000), 60000};
    start_edge_triggered();
    for (int i = 0; i < COUNT(sizes); i++) {
        int fd = connect_and_send_at_once(sizes[i], false);
        expect_back(fd, sizes[i]);
        close(fd);
    }
}

static void end_comes_along(void)
{
    size_t sizes[] = {0, 100, random_between(101, 4000), 4096, 30000};
    start_edge_triggered();
    for (int i = 0; i < COUNT(sizes); i++) {
        int fd = connect_and_send_at_once(sizes[i], true);
        expect_back(fd, sizes[i]);
        expect(client_at_eof(fd),
               "%zu bytes and the client's end of file arrived in one go: the bytes came back, but "
               "then no end of file, for which there is no second edge",
               sizes[i]);
        close(fd);
    }
}

/* --- edge: the other direction --- */

/* The client reads nothing at first, then all it is owed, which it had sent before its end. */
static void who_reads_late_gets_all(void)
{
    size_t length = 64 * MIB;
    int other = start_edge_triggered(), fd = connect_client();
    long before = process_memory_kib(server.pid);
    size_t sent = send_until_stuck(fd, pattern(length), length);
    long grown = process_memory_kib(server.pid) - before;
    expect(sent < length,
           "a client sent %zu MiB and read nothing, and the program took all of it: who is owed "
           "bytes is not to be read",
           length / MIB);
    expect(before < 0 || subject.sanitized || grown < 1024,
           "for a client that sends and does not read, the program's memory grew by %ld KiB: one "
           "buffer is enough",
           grown);
    expect_at_rest("while a client did not read",
                   "after EAGAIN, there will be an edge when there is room");
    expect(client_echo(other, "x"), "while a client did not read, another one was not served");
    shutdown(fd, SHUT_WR);
    char *back = malloc(sent + 1);
    ck_assert_ptr_nonnull(back);
    size_t got = receive_what_comes(fd, back, sent + 1);
    expect(got == sent && memcmp(back, pattern(sent), sent) == 0,
           "a client sent %zu bytes, and only then read: %zu came back%s. Once there is room again "
           "(EPOLLOUT), go on with both: what is owed, and what is still to be read",
           sent, got, got == sent ? ", and not the right ones" : "");
    free(back);
}

/* --- edge: fairness --- */

/* Starts a client that sends and receives without pause, a process for each. They end with the
 * server. Returns where it counts the bytes that it gets. */
static atomic_llong *start_flood(void)
{
    static char bytes[1 << 16];
    ssize_t n;
    atomic_llong *got =
        mmap(NULL, sizeof *got, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(got != MAP_FAILED);
    int fd = connect_client();
    pid_t sender = fork(), receiver = sender > 0 ? fork() : -1;
    if (sender == 0)
        while (send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) > 0)
            ;
    else if (receiver == 0)
        while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0)
            atomic_fetch_add(got, n);
    if (sender == 0 || receiver == 0)
        _exit(0);
    ck_assert(sender > 0 && receiver > 0);
    close(fd);
    return got;
}

/* Under the brake, asks a number of times, each time when the answer before has come. Returns how
 * many did. */
static int ask_again_and_again(int fd, int times)
{
    for (int i = 0; i < times; i++) {
        client_asks(fd);
        double give_up = now() + patience();
        while (!client_has_input(fd, 0) && now() < give_up)
            brake_step(false);
        if (!client_has_input(fd, 0) || !client_is_answered(fd))
            return i;
    }
    return times;
}

static void flood_starves_nobody(void)
{
    enum { TIMES = 10 };
    int before = start_edge_triggered();
    atomic_llong *got = start_flood();
    int after = connect_client();
    sleep_for(0.3);
    bool braked = brake_on();
    int answers = ask_again_and_again(before, TIMES);
    if (answers == TIMES)
        answers += ask_again_and_again(after, TIMES);
    if (braked)
        brake_off();
    expect(answers == 2 * TIMES,
           "while one client sends and receives without pause, two others asked %d times, but had "
           "%d answers, and then none for %d s: after a share of the one it is the others' turn",
           2 * TIMES, answers, patience());
    long long so_far = atomic_load(got);
    expect(becomes_true(atomic_load(got) > so_far + 300000),
           "a client that sends and receives without pause got %lld bytes back, and then hardly "
           "any more: whoever is left before EAGAIN needs a place in your list",
           so_far);
}

/* --- processes: who they are --- */

enum { WORKERS = 4 };

struct workers {
    int count;
    pid_t pids[64];
    int sockets[64]; /* of each, before any client came */
};

/* Starts the program with that many workers, all of which have to come, and to be ready. */
static struct workers start_workers(int count)
{
    char args[32];
    struct workers workers = {.count = count};
    snprintf(args, sizeof args, "--workers %d", count);
    start(args);
    bool came = becomes_true(process_children(server.pid, workers.pids, 64) == count);
    expect(came, "started with %s, the program should have %d children, but it has %d", args, count,
           process_children(server.pid, NULL, 0));
    sleep_for(0.2); /* each makes its epoll, perhaps a listener */
    for (int i = 0; i < count; i++)
        workers.sockets[i] = process_has(workers.pids[i], "socket:");
    return workers;
}

static int clients_of(const struct workers *workers, int i)
{
    return process_has(workers->pids[i], "socket:") - workers->sockets[i];
}

/* The worker that has most clients. */
static int busiest(const struct workers *workers)
{
    int most = 0;
    for (int i = 1; i < workers->count; i++)
        if (clients_of(workers, i) > clients_of(workers, most))
            most = i;
    return most;
}

static void connect_served(int fds[], int count)
{
    for (int i = 0; i < count; i++) {
        fds[i] = connect_client();
        expect(is_served(fds[i]), "with %d workers, client %d of %d was not served", WORKERS, i + 1,
               count);
    }
}

/* How many of the clients have something to read. */
static int count_answers(const int fds[], int count)
{
    int answers = 0;
    for (int i = 0; i < count; i++)
        answers += client_has_input(fds[i], 0);
    return answers;
}

enum { FIRST = 8, LATER = 24, ALL = FIRST + LATER };

/* A few clients; then the worker that has most of them is stopped, and more come. How the kernel
 * deals them out is its own affair: with one listener for all, most may go to one worker; with one
 * for each, those dealt to the stopped one wait for it. But there must be others who serve. */
static void connect_to_several(struct workers *workers, int fds[])
{
    connect_served(fds, FIRST);
    int stopped = busiest(workers);
    kill(workers->pids[stopped], SIGSTOP);
    for (int i = FIRST; i < ALL; i++) {
        fds[i] = connect_client();
        client_asks(fds[i]);
    }
    bool others = becomes_true(count_answers(fds + FIRST, LATER) >= LATER / 4);
    int answers = count_answers(fds + FIRST, LATER);
    kill(workers->pids[stopped], SIGCONT);
    expect(others,
           "while the worker with most clients was stopped (SIGSTOP), %d clients came, and the "
           "other %d workers served only %d of them in %d s",
           LATER, WORKERS - 1, answers, patience());
    for (int i = FIRST; i < ALL; i++)
        expect(client_is_answered(fds[i]),
               "%d clients came, and one of them was never served: is there a listener that nobody "
               "accepts from?",
               LATER);
}

/* --- processes: the checks --- */

static void workers_serve_and_the_parent_waits(void)
{
    int fds[ALL];
    struct workers workers = start_workers(WORKERS);
    int sockets = process_has(server.pid, "socket:");
    connect_to_several(&workers, fds);
    int clients = process_has(server.pid, "socket:") - sockets;
    expect(clients <= 0, "the parent should serve nobody, but has %d of %d clients", clients, ALL);
    long switches = process_switches(server.pid);
    double share = process_cpu_share(server.pid, 0.5);
    switches = process_switches(server.pid) - switches;
    expect(share < 0.05 && switches < 20,
           "while nothing happened, the parent used %.0f %% of a CPU and woke up %ld times in half "
           "a second: waitpid() sleeps until a worker has died",
           share * 100, switches);
}

/* One that waits in vain is woken as often as there are clients. */
static void a_client_wakes_one_worker(void)
{
    enum { MANY = 8, CLIENTS = 60 };
    struct workers workers = start_workers(MANY);
    long switches = 0;
    for (int i = 0; i < MANY; i++)
        switches -= process_switches(workers.pids[i]);
    for (int i = 0; i < CLIENTS; i++) {
        connect_client();
        sleep_for(0.005);
    }
    sleep_for(0.1);
    for (int i = 0; i < MANY; i++)
        switches += process_switches(workers.pids[i]);
    expect(switches <= 3L * CLIENTS,
           "%d clients came one after the other, and said nothing: the %d workers woke up %ld "
           "times for them. One for each client is enough (EPOLLEXCLUSIVE, or a listener each with "
           "SO_REUSEPORT)",
           CLIENTS, MANY, switches);
}

static int count_zombies(const struct workers *workers)
{
    int zombies = 0;
    for (int i = 0; i < workers->count; i++)
        zombies += process_is_zombie(workers->pids[i]);
    return zombies;
}

/* How many of the children are alive and not among the killed. */
static int count_well(const pid_t killed[], int count)
{
    pid_t pids[64];
    int children = process_children(server.pid, pids, 64), well = children;
    for (int i = 0; i < children && i < 64; i++) {
        bool dead = process_is_zombie(pids[i]);
        for (int j = 0; j < count; j++)
            dead = dead || pids[i] == killed[j];
        well -= dead;
    }
    return well;
}

/* Kills these, and waits until others are there in their place. The parent is stopped meanwhile:
 * all deaths are one SIGCHLD to it. */
static void kill_workers(const struct workers *workers, const pid_t victims[], int count)
{
    kill(server.pid, SIGSTOP);
    for (int i = 0; i < count; i++)
        kill(victims[i], SIGKILL);
    sleep_for(0.05);
    kill(server.pid, SIGCONT);
    bool replaced =
        becomes_true(count_well(victims, count) == workers->count && count_zombies(workers) == 0);
    expect(
        replaced,
        "after kill -9 of %d of %d workers, there should soon be %d again, but %d are alive, and "
        "%d of the dead are zombies that nobody has waited for",
        count, workers->count, workers->count, count_well(victims, count), count_zombies(workers));
}

/* Ends it by that signal, to the parent only or, as Ctrl-C in a terminal does, to all. */
static void expect_end(int signal_number, bool to_all, int clients, long long bytes)
{
    char expected[128];
    pid_t pids[64];
    int count = process_children(server.pid, pids, 64), left = 0;
    for (int i = 0; to_all && i < count; i++)
        kill(pids[i], signal_number);
    int status = process_end(&server, signal_number);
    for (int i = 0; i < count; i++)
        left += kill(pids[i], 0) == 0 && !process_is_zombie(pids[i]);
    const char *what = to_all ? "SIGINT to all its processes (Ctrl-C)" : "SIGTERM to the parent";
    expect(status == 0,
           "after %s, it should end with exit status 0, but did with %d; stderr: %.200s", what,
           status, server.errors);
    expect(left == 0, "after %s, the parent has ended, but %d of its workers have not", what, left);
    snprintf(expected, sizeof expected,
             "listening on 127.0.0.1:%d\nserved %d clients, %lld bytes\n", server.port, clients,
             bytes);
    expect(strcmp(server.output, expected) == 0,
           "after %s, '%s' was expected on stdout, the sum of all workers, but there was '%.200s'",
           what, expected, server.output);
}

/* Also of those killed, for what they have done has been done. */
static void killed_worker_is_replaced(void)
{
    int fds[ALL], ended = 0, next[FIRST];
    struct workers workers = start_workers(WORKERS);
    connect_to_several(&workers, fds);
    sleep_for(0.3); /* a byte that was sent back has now been counted, too */
    int victim = busiest(&workers), clients = clients_of(&workers, victim);
    pid_t killed = workers.pids[victim];
    kill_workers(&workers, &killed, 1);
    expect(becomes_true(count_answers(fds, ALL) >= clients),
           "a worker with %d clients was killed, but only %d of their connections ended", clients,
           count_answers(fds, ALL));
    for (int i = 0; i < ALL; i++)
        ended += !is_served(fds[i]);
    expect(ended == clients,
           "a worker with %d clients was killed, and %d clients of %d lost their connection",
           clients, ended, ALL);
    sleep_for(0.3);
    process_children(server.pid, workers.pids, 64);
    kill_workers(&workers, workers.pids, WORKERS);
    connect_served(next, FIRST);
    expect_end(SIGTERM, false, ALL + FIRST, ALL + (ALL - ended) + FIRST);
}

/* Twice: with all workers doing something, and with all of them told to end at the same time. */
static void all_end_together(void)
{
    int fds[ALL];
    struct workers workers = start_workers(WORKERS);
    connect_to_several(&workers, fds);
    size_t length = random_between(1000, 100000);
    srand(1);
    expect(client_exchange(fds[0], pattern(length), length, 5000),
           "of %zu bytes not all came back as they were sent", length);
    expect_end(SIGTERM, false, ALL, ALL + (long long)length);
    expect(client_at_eof(fds[0]), "the program has ended, but a client's connection has not");

    start_workers(WORKERS);
    connect_served(fds, FIRST);
    expect_end(SIGINT, true, FIRST, FIRST);
}

static void echoes_with_workers(void)
{
    echoes_exactly("--workers 3");
}

static void ends_with_workers(void)
{
    ends_in_order("--workers 3");
}

const struct exercise exercises_05[] = {
    {"05-epoll/edge",
     90,
     false,
     {{"all that one edge tells of comes back", one_edge_all_bytes, 1, false},
      {"an end of file that comes along is seen", end_comes_along, 1, false},
      {"who reads late gets all, and costs one buffer", who_reads_late_gets_all, 2, false},
      {"who floods starves nobody", flood_starves_nobody, 4, false},
      {"each client is registered once, and not anew", registered_once, 3, false},
      {"bytes come back exactly", echoes, 1, false},
      {"when there is nothing to do, it sleeps", rests, 2, true},
      {"it ends in order", ends, 1, true}}},
    {"05-epoll/processes",
     90,
     false,
     {{"workers serve, the parent waits", workers_serve_and_the_parent_waits, 4, false},
      {"a new client wakes one worker", a_client_wakes_one_worker, 2, false},
      {"a worker that was killed is replaced", killed_worker_is_replaced, 4, false},
      {"all end together, with the totals of all", all_end_together, 3, false},
      {"bytes come back exactly", echoes_with_workers, 1, true},
      {"it ends in order", ends_with_workers, 1, true}}},
    {0}};
