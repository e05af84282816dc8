#include "exercise.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const size_t MIB = 1 << 20;

/* --- idle --- */

static int count_timers(void)
{
    return process_has(server.pid, "anon_inode:[timerfd]");
}

static bool timers_become(int count)
{
    return becomes_true(count_timers() == count || count_timers() < 0);
}

/* On Linux, 06-kqueue/compat makes a descriptor of each timer. */
static void timers_go_with_their_clients(void)
{
    enum { CLIENTS = 3 };
    int fds[CLIENTS];
    start("--idle 60000");
    int before = count_timers();
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = connect_client();
        expect(client_echo(fds[i], "hello"), "with --idle 60000, client %d was not served", i + 1);
    }
    expect(timers_become(before + CLIENTS),
           "with --idle, %d clients should have %d timers, one for each (EVFILT_TIMER, ident: the "
           "descriptor), but there are %d",
           CLIENTS, CLIENTS, count_timers() - before);
    for (int i = 0; i < CLIENTS; i++) {
        if (i % 2)
            client_reset(fds[i]);
        else
            close(fds[i]);
        expect(timers_become(before + CLIENTS - i - 1),
               "of %d clients %d left, but %d timers still run: they are not the descriptor's, and "
               "do not go when it is closed",
               CLIENTS, i + 1, count_timers() - before);
    }
}

static void echoes_with_idle(void)
{
    echoes_exactly("--idle 60000");
}

static void ends_with_idle(void)
{
    ends_in_order("--idle 60000");
}

/* --- wakeup: who types --- */

/* Standard input of the program is a pipe from here on; what is written to this end is typed. */
static int keyboard = -1;

static void connect_keyboard(void)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    close(ends[0]);
    keyboard = ends[1];
    fcntl(keyboard, F_SETFD, FD_CLOEXEC); /* or the program would keep its own input open */
    fcntl(keyboard, F_SETFL, O_NONBLOCK);
}

/* Types as much as the pipe takes now. Returns how much that was. */
static size_t type_some(const char *bytes, size_t length)
{
    size_t piece = length < 60000 ? length : 60000;
    ssize_t n = write(keyboard, bytes, piece);
    return n > 0 ? (size_t)n : 0;
}

/* Receives what is there now, as long as it is what is expected. Returns what else happened. */
static const char *receive_some(int fd, const char *bytes, size_t length, size_t *got)
{
    char back[16 * 1024];
    while (*got < length) {
        ssize_t n = recv(fd, back, sizeof back, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return NULL;
        if (n <= 0)
            return "was closed";
        if ((size_t)n > length - *got || memcmp(back, bytes + *got, (size_t)n) != 0)
            return "got other bytes than were typed";
        *got += (size_t)n;
    }
    return NULL;
}

/* Types all of it, and receives it from that client at the same time, which is never far behind: it
 * must not be the one who does not read. *got is how much came back right. Returns what kept the
 * rest from coming, NULL if nothing did; gives up when nothing has moved for patience(). */
static const char *type_and_receive(int fd, const char *bytes, size_t length, size_t *got)
{
    enum { BEHIND = 128 * 1024 }; /* more than its pipe holds */
    const char *trouble = NULL;
    size_t typed = 0;
    *got = 0;
    while (*got < length && !trouble) {
        bool types = typed < length && typed - *got < BEHIND;
        struct pollfd wait[] = {{.fd = fd, .events = POLLIN}, {.fd = keyboard, .events = POLLOUT}};
        if (poll(wait, types ? 2 : 1, patience() * 1000) <= 0)
            return "got nothing more for seconds";
        if (wait[0].revents)
            trouble = receive_some(fd, bytes, length, got);
        else if (types && wait[1].revents)
            typed += type_some(bytes + typed, length - typed);
    }
    return trouble;
}

/* Numbered lines, from a number that nobody can know. The caller frees them. */
static char *make_lines(int count, const char *filling)
{
    size_t room = (size_t)count * (strlen(filling) + 32) + 1, length = 0;
    char *lines = malloc(room);
    ck_assert_ptr_nonnull(lines);
    unsigned first = (unsigned)getpid() + (unsigned)(now() * 1e3) % 10000;
    for (int i = 0; i < count; i++)
        length += (size_t)snprintf(lines + length, room - length, "line %u%s\n",
                                   first + (unsigned)i, filling);
    return lines;
}

/* Clients that are in: they have been served. */
static void connect_served(int fds[], int count)
{
    for (int i = 0; i < count; i++) {
        fds[i] = connect_client();
        expect(is_served(fds[i]), "client %d of %d was not served", i + 1, count);
    }
}

static void expect_line(const int fds[], int count)
{
    char back[64];
    char *line = make_lines(1, "");
    size_t length = strlen(line);
    int arrived = 0;
    sleep_for(0.2); /* until it sleeps */
    type_some(line, length);
    for (double end = now() + patience(); arrived < count && now() < end;)
        arrived += client_has_input(fds[arrived], 0.1);
    expect(
        arrived == count,
        "a line was typed while nothing else happened: of %d clients, %d got it within %d s. "
        "Whoever has put it into the queue has to wake the one who sleeps in kevent(). Or was the "
        "bell taken for a client's event? Look at the filter first",
        count, arrived, patience());
    for (int i = 0; i < count; i++)
        expect(client_receive(fds[i], back, length) && memcmp(back, line, length) == 0,
               "'%.*s' was typed, but client %d received other bytes", (int)length - 1, line,
               i + 1);
    free(line);
}

/* --- wakeup: the checks --- */

/* On Linux, 06-kqueue/compat makes a descriptor of each signal and of each user event. */
static void expect_bell(void)
{
    int events = process_has(server.pid, "anon_inode:[eventfd]");
    expect(events < 0 || events >= 3,
           "lines come, but no event of the queue says so: the program has %d eventfds, and "
           "SIGINT, SIGTERM and the bell are 3. The bell is to be EVFILT_USER",
           events);
}

/* Three times, for a bell that rings once only. */
static void line_wakes_the_server(void)
{
    enum { CLIENTS = 20 };
    int fds[CLIENTS];
    connect_keyboard();
    start("");
    connect_served(fds, CLIENTS);
    for (int i = 0; i < 3; i++)
        expect_line(fds, CLIENTS);
    expect_bell();
    for (int i = 0; i < CLIENTS; i++)
        expect(!client_has_input(fds[i], 0), "client %d got more than was typed", i + 1);
}

/* The question is for who is busy without a wait. */
static void expect_rest(const char *when, const char *question)
{
    long switches = process_switches(server.pid);
    double share = process_cpu_share(server.pid, 0.6);
    switches = process_switches(server.pid) - switches;
    expect(share < 0.1 && switches < 20,
           "%s, nothing happened for 0.6 s, but the program used %.0f %% of a CPU and its main "
           "thread woke up %ld times: %s",
           when, share * 100, switches,
           switches < 20 ? question : "it is to be woken, not to look");
}

static void nothing_typed_costs_nothing(void)
{
    int fds[3];
    connect_keyboard();
    start("");
    connect_served(fds, 3);
    expect_line(fds, 3);
    expect_rest("after a line was typed and sent",
                "is the bell silent again once it was heard (EV_CLEAR)?");
    close(keyboard);
    expect_rest("after the end of standard input",
                "does the thread that reads stop there, and is the bell silent again?");
    expect(client_echo(fds[0], "still here"),
           "after the end of standard input, a client was not served any more");
}

/* True if bytes are those of the pattern, with the lines in one piece somewhere in between. */
static bool lines_in_between(const char *bytes, size_t length, const char *lines)
{
    enum { BEGINNING = 16 }; /* enough to find them by */
    size_t inside = strlen(lines), own = length - inside, at = 0;
    const char *expected = pattern(own + 1);
    while (at < own && memcmp(bytes + at, lines, BEGINNING) != 0)
        at++;
    return memcmp(bytes, expected, at) == 0 && memcmp(bytes + at, lines, inside) == 0 &&
           memcmp(bytes + at + inside, expected + at, own - at) == 0;
}

/* The client sends until nothing more fits; then lines are typed, which have to wait behind what it
 * is owed already, as not a byte of them fits, either; and then it reads. */
static void lines_queue_up(int fd, int other)
{
    static char filling[1000];
    memset(filling, '.', sizeof filling - 1);
    char *lines = make_lines(400, filling);
    size_t typed = strlen(lines), sent = send_until_stuck(fd, pattern(16 * MIB), 16 * MIB);
    size_t got;
    const char *trouble = type_and_receive(other, lines, typed, &got);
    expect(!trouble,
           "%zu bytes of lines were typed while one client did not read: another one, which read, "
           "got %zu of them, and then %s",
           typed, got, trouble);
    char *back = malloc(sent + typed);
    ck_assert_ptr_nonnull(back);
    expect(client_receive(fd, back, sent + typed),
           "a client sent %zu bytes, then %zu bytes of lines were typed, and then it read, but did "
           "not get so many: what its socket does not take is owed, up to 1 MiB",
           sent, typed);
    expect(lines_in_between(back, sent + typed, lines),
           "a client sent bytes, then lines were typed, and then it read: both came, but the lines "
           "not in one piece between its own bytes, behind those that it was owed already");
    free(back);
    free(lines);
}

static void lines_arrive_in_order(void)
{
    enum { LINES = 10000 };
    int fds[2];
    char *lines = make_lines(LINES, "");
    size_t length = strlen(lines);
    connect_keyboard();
    start("");
    connect_served(fds, 1);
    sleep_for(0.2);
    size_t got;
    const char *trouble = type_and_receive(fds[0], lines, length, &got);
    expect(!trouble,
           "%d lines (%zu bytes) were typed in one go: the client got %zu bytes, and then %s",
           LINES, length, got, trouble);
    connect_served(fds + 1, 1);
    lines_queue_up(fds[1], fds[0]);
    free(lines);
}

/* Receives until the connection ends. Returns how much there was; *ended is false if it did not. */
static size_t drain(int fd, bool *ended)
{
    static char bytes[1 << 16];
    size_t got = 0;
    ssize_t n;
    while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0)
        got += (size_t)n;
    *ended = n == 0 || errno == ECONNRESET;
    return got;
}

/* More is typed than all buffers on the way to it hold. */
static void who_does_not_read_is_closed(void)
{
    enum { LINES = 16 * 1024 };
    static char filling[1000];
    int fds[2];
    bool ended;
    memset(filling, '.', sizeof filling - 1);
    char *lines = make_lines(LINES, filling);
    size_t length = strlen(lines);
    connect_keyboard();
    start("");
    connect_served(fds, 2);
    long before = process_memory_kib(server.pid);
    size_t got;
    const char *trouble = type_and_receive(fds[0], lines, length, &got);
    long grown = process_memory_kib(server.pid) - before;
    expect(!trouble,
           "%zu MiB of lines were typed, and one of two clients did not read: the other one, which "
           "read, got %zu bytes, and then %s",
           length / MIB, got, trouble);
    expect(before < 0 || subject.sanitized || grown < 4096,
           "%zu MiB of lines were typed for a client that does not read: the program's memory grew "
           "by %ld KiB",
           length / MIB, grown);
    size_t rest = drain(fds[1], &ended);
    expect(ended && rest < length,
           "a client that had not read anything was owed far more than 1 MiB, and should have been "
           "closed, but got %zu of %zu bytes and was %s",
           rest, length, ended ? "closed then" : "still connected");
    free(lines);
}

/* Lines and echoes at the same time. But first, without any tool, that lines come at all. */
static void threads_do_not_race(void)
{
    enum { TIMES = 200 };
    int fd;
    char back[6 * TIMES];
    connect_keyboard();
    start("");
    connect_served(&fd, 1);
    expect_line(&fd, 1);
    process_end(&server, SIGTERM);
    close(fd);

    connect_keyboard();
    if (!start_racing(""))
        return;
    connect_served(&fd, 1);
    for (int i = 0; i < TIMES; i++) {
        type_some("line\n", 5);
        client_asks(fd);
        if (i % 20 == 0)
            sleep_for(0.005);
    }
    expect(client_receive(fd, back, sizeof back),
           "%d lines were typed while a client sent %d bytes: it did not receive all of both",
           TIMES, TIMES);
    expect_line(&fd, 1);
    end_racing();
}

static void echoes(void)
{
    echoes_exactly("");
}

static void ends_while_nobody_types(void)
{
    connect_keyboard();
    ends_in_order("");
}

const struct exercise exercises_06[] = {
    {"06-kqueue/idle",
     45,
     false,
     {{"a silent client is closed, in time", silent_client_is_closed, 2, false},
      {"a talking client stays", talking_client_stays, 2, false},
      {"each client has a time of its own", each_has_its_own_time, 1, false},
      {"waiting costs no CPU", waiting_costs_nothing, 1, false},
      {"each has a timer, which goes with it", timers_go_with_their_clients, 2, false},
      {"bytes come back exactly", echoes_with_idle, 1, true},
      {"it ends in order", ends_with_idle, 1, true}}},
    {"06-kqueue/wakeup",
     60,
     true,
     {{"a line wakes the server", line_wakes_the_server, 3, false},
      {"while nobody types, nobody wakes", nothing_typed_costs_nothing, 2, false},
      {"10,000 lines arrive in order", lines_arrive_in_order, 3, false},
      {"who does not read holds up nobody", who_does_not_read_is_closed, 3, false},
      {"the two threads do not race", threads_do_not_race, 2, false},
      {"bytes come back exactly", echoes, 1, true},
      {"it ends in order, typed or not", ends_while_nobody_types, 1, true}}},
    {0}};
