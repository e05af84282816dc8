/*
 * What loop.h promises, on each back end that this system has: a test case is a back end, so
 * CK_RUN_CASE=epoll runs the tests on that one only. A program of its own, for it calls the loop
 * directly.
 */
#include "../07-event-loop/backend.h" /* only to look inside: at rounds, the pipe */
#include "harness.h"

/* The back end poll once more, whose memory can be used up. */
#include <stdlib.h>
static bool no_memory;
static void *limited_realloc(void *block, size_t size)
{
    return no_memory ? NULL : realloc(block, size);
}
#define realloc limited_realloc
#define backend_poll poll_with_limited_memory
#include "../07-event-loop/backend_poll.c" /* NOLINT(bugprone-suspicious-include) */
#undef backend_poll
#undef realloc

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { PLENTY = 120 };       /* seconds a test may take on a slow, busy machine */
enum { MINUTE = 60 * 1000 }; /* in milliseconds */
static const int64_t NS_PER_MS = 1000000;

static char names[64]; /* what loop_backends() says, cut into the next */
static const char *backends[8];
static int backend_count;

/* --- what the tests share --- */

static char calls[256]; /* what has been called, in order */

static void note(const char *what)
{
    size_t length = strlen(calls);
    snprintf(calls + length, sizeof calls - length, "%s", what);
}

static struct loop *open_loop(int backend)
{
    calls[0] = '\0';
    struct loop *loop = loop_new(backends[backend]);
    ck_assert_msg(loop, "%s: %s", backends[backend], strerror(errno));
    return loop;
}

struct countdown {
    struct deferred deferred;
    int left;
};

static void count_down(struct loop *loop, void *arg)
{
    struct countdown *countdown = arg;
    if (--countdown->left > 0)
        loop_defer(loop, &countdown->deferred);
    else
        loop_stop(loop);
}

/* Lets the loop make that many rounds, without waiting: something is put off in each. */
static void run_rounds(struct loop *loop, int rounds)
{
    struct countdown countdown = {.deferred = {.callback = count_down}, .left = rounds};
    countdown.deferred.arg = &countdown;
    loop_defer(loop, &countdown.deferred);
    ck_assert_int_eq(loop_run(loop), 0);
    loop_defer_cancel(loop, &countdown.deferred); /* someone else has stopped the loop */
}

/* What is called in that many rounds. */
static const char *calls_in(struct loop *loop, int rounds)
{
    calls[0] = '\0';
    run_rounds(loop, rounds);
    return calls;
}

static void stop_loop(struct loop *loop, void *arg)
{
    (void)arg;
    loop_stop(loop);
}

static int64_t patience_ms(void)
{
    return patience() * INT64_C(1000);
}

/* Runs the loop until someone stops it, or for that long. */
static void run_ms(struct loop *loop, int64_t ms)
{
    struct timer end = {.callback = stop_loop};
    ck_assert(timer_start(loop, &end, ms));
    ck_assert_int_eq(loop_run(loop), 0);
    timer_stop(loop, &end);
}

static void set_nonblocking(int fd)
{
    ck_assert_int_ge(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

static void open_pair(int fds[2])
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    set_nonblocking(fds[0]);
    set_nonblocking(fds[1]);
}

static void close_pair(const int fds[2])
{
    close(fds[0]);
    close(fds[1]);
}

static void put_byte(int fd)
{
    ck_assert_int_eq(write(fd, "x", 1), 1);
}

static void take_byte(int fd)
{
    char byte;
    ck_assert_int_eq(read(fd, &byte, 1), 1);
}

/* Notes what arg says. */
static void note_call(struct loop *loop, void *arg)
{
    (void)loop;
    note(arg);
}

/* Notes what arg says, and "r", "w" or both. */
static void note_ready(struct loop *loop, int fd, unsigned events, void *arg)
{
    (void)loop;
    (void)fd;
    note(arg);
    note(events & LOOP_READ ? "r" : "");
    note(events & LOOP_WRITE ? "w" : "");
    note(events & ~3U || !events ? "?" : " ");
}

static void watch(struct loop *loop, int fd, unsigned events, char *name)
{
    ck_assert_msg(loop_watch(loop, fd, events, note_ready, name), "descriptor %d: %s", fd,
                  strerror(errno));
}

/* Counts in *arg how often fd was readable. */
static void count_ready(struct loop *loop, int fd, unsigned events, void *arg)
{
    (void)loop;
    (void)fd;
    ck_assert_uint_eq(events, LOOP_READ);
    ++*(int *)arg;
}

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 4096; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* --- opening and freeing --- */

START_TEST(unknown_back_end)
{
    char *unknown[] = {"nonsense", "", "EPOLL", "pol", "polls", "poll, select"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        errno = 0;
        ck_assert_ptr_null(loop_new(unknown[i]));
        ck_assert_int_eq(errno, EINVAL);
    }
    loop_free(NULL);
}
END_TEST

START_TEST(back_ends_are_named)
{
    ck_assert_ptr_nonnull(strstr(loop_backends(), "poll, select"));
#ifdef __linux__
    ck_assert_str_eq(backends[0], "epoll");
#endif
    struct loop *best = loop_new(NULL);
    ck_assert_ptr_nonnull(best);
    ck_assert_str_eq(loop_backend(best), backends[0]);
    loop_free(best);
}
END_TEST

START_TEST(has_its_name)
{
    struct loop *loop = open_loop(_i);
    ck_assert_str_eq(loop_backend(loop), backends[_i]);
    loop_free(loop);
}
END_TEST

/* Whichever of its descriptors it is that cannot be had. */
START_TEST(no_descriptors_no_loop)
{
    struct rlimit limit, few;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    int before = open_descriptors(), free_now = dup(0), failed = 0;
    close(free_now);
    for (rlim_t some = 0; some < 8; some++) {
        few = limit;
        few.rlim_cur = (rlim_t)free_now + some;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
        errno = 0;
        struct loop *loop = loop_new(backends[_i]);
        int reason = errno;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        if (!loop) {
            ck_assert_int_eq(reason, EMFILE);
            failed++;
        }
        loop_free(loop);
        ck_assert_int_eq(open_descriptors(), before);
    }
    ck_assert_int_ge(failed, 2); /* a pipe's worth */
    ck_assert_int_lt(failed, 8);
}
END_TEST

START_TEST(nothing_is_left_of_a_thousand_loops)
{
    int fds[2], before = open_descriptors();
    struct timer timer = {.callback = note_call};
    struct deferred deferred = {.callback = note_call};
    struct wakeup wakeup = {.callback = note_call};
    for (int i = 0; i < 1000; i++) {
        struct loop *loop = open_loop(_i);
        open_pair(fds);
        watch(loop, fds[0], LOOP_READ | LOOP_WRITE, "");
        run_rounds(loop, 1);
        timer = (struct timer){.callback = note_call};
        deferred = (struct deferred){.callback = note_call};
        timer_start(loop, &timer, MINUTE);
        loop_defer(loop, &deferred);
        wakeup_add(loop, &wakeup);
        wakeup_send(&wakeup);
        loop_free(loop); /* while all that is still to come */
        put_byte(fds[0]);
        take_byte(fds[1]); /* what it watched is not its own to close */
        close_pair(fds);
    }
    ck_assert_int_eq(open_descriptors(), before);
}
END_TEST

/* What a program started by ours would inherit, it would keep open. */
START_TEST(not_inherited)
{
    bool before[256];
    for (int fd = 0; fd < 256; fd++)
        before[fd] = fcntl(fd, F_GETFD) >= 0;
    struct loop *loop = open_loop(_i);
    for (int fd = 0; fd < 256; fd++) {
        int flags = fcntl(fd, F_GETFD);
        /* a real kqueue is closed by fork(), and has no need of the flag */
        if (flags >= 0 && !before[fd] && strcmp(backends[_i], "kqueue") != 0)
            ck_assert_msg(flags & FD_CLOEXEC, "descriptor %d survives exec()", fd);
    }
    loop_free(loop);
}
END_TEST

/* --- readiness --- */

START_TEST(tells_what_was_asked_for)
{
    struct loop *loop = open_loop(_i);
    int fds[2], told = 0;
    open_pair(fds);
    watch(loop, fds[0], LOOP_READ, "");
    ck_assert_str_eq(calls_in(loop, 2), "");
    watch(loop, fds[0], LOOP_READ | LOOP_WRITE, "");
    ck_assert_str_eq(calls_in(loop, 1), "w ");
    put_byte(fds[1]);
    ck_assert_str_eq(calls_in(loop, 1), "rw "); /* in one call */
    watch(loop, fds[0], LOOP_READ, "");
    ck_assert_str_eq(calls_in(loop, 1), "r ");
    watch(loop, fds[0], LOOP_WRITE, "");
    ck_assert_str_eq(calls_in(loop, 1), "w ");
    watch(loop, fds[0], LOOP_READ, "other "); /* callback and argument change, too */
    ck_assert_str_eq(calls_in(loop, 1), "other r ");
    ck_assert(loop_watch(loop, fds[0], LOOP_READ, count_ready, &told));
    ck_assert_str_eq(calls_in(loop, 1), "");
    ck_assert_int_eq(told, 1);
    loop_unwatch(loop, fds[0]);
    ck_assert_str_eq(calls_in(loop, 2), "");
    close_pair(fds);
    loop_free(loop);
}
END_TEST

START_TEST(level_triggered)
{
    struct loop *loop = open_loop(_i);
    int fds[2];
    open_pair(fds);
    watch(loop, fds[0], LOOP_READ, "");
    put_byte(fds[1]);
    put_byte(fds[1]);
    ck_assert_str_eq(calls_in(loop, 3), "r r r ");
    take_byte(fds[0]);
    ck_assert_str_eq(calls_in(loop, 2), "r r ");
    take_byte(fds[0]);
    ck_assert_str_eq(calls_in(loop, 2), "");
    close_pair(fds);
    loop_free(loop);
}
END_TEST

START_TEST(a_full_buffer_is_not_writable)
{
    struct loop *loop = open_loop(_i);
    int fds[2];
    static char bytes[1 << 16];
    open_pair(fds);
    while (write(fds[0], bytes, sizeof bytes) > 0)
        ;
    watch(loop, fds[0], LOOP_READ | LOOP_WRITE, "");
    ck_assert_str_eq(calls_in(loop, 2), "");
    put_byte(fds[1]);
    ck_assert_str_eq(calls_in(loop, 1), "r ");
    while (read(fds[1], bytes, sizeof bytes) > 0)
        ;
    ck_assert_str_eq(calls_in(loop, 1), "rw ");
    close_pair(fds);
    loop_free(loop);
}
END_TEST

START_TEST(not_for_now_and_again)
{
    struct loop *loop = open_loop(_i);
    int fds[2];
    open_pair(fds);
    put_byte(fds[1]);
    watch(loop, fds[0], 0, ""); /* never watched before */
    ck_assert_str_eq(calls_in(loop, 2), "");
    watch(loop, fds[0], LOOP_READ, "");
    ck_assert_str_eq(calls_in(loop, 2), "r r ");
    watch(loop, fds[0], 0, "");
    watch(loop, fds[0], 0, "");
    ck_assert_str_eq(calls_in(loop, 2), "");
    watch(loop, fds[0], LOOP_READ | LOOP_WRITE, "");
    ck_assert_str_eq(calls_in(loop, 1), "rw ");
    watch(loop, fds[0], 0, "");
    loop_unwatch(loop, fds[0]);
    loop_unwatch(loop, fds[0]);
    ck_assert_str_eq(calls_in(loop, 2), "");
    close_pair(fds);
    loop_free(loop);
}
END_TEST

/* A hang-up without anything to read, and an error without room to write. */
START_TEST(hang_up_and_error_count_as_ready)
{
    struct loop *loop = open_loop(_i);
    int empty[2], full[2], pair[2];
    static char bytes[1 << 16];
    ck_assert(pipe(empty) == 0 && pipe(full) == 0);
    set_nonblocking(full[1]);
    while (write(full[1], bytes, sizeof bytes) > 0)
        ;
    watch(loop, empty[0], LOOP_READ, "empty ");
    watch(loop, full[1], LOOP_WRITE, "full ");
    ck_assert_str_eq(calls_in(loop, 2), "");
    close(empty[1]);
    ck_assert_str_eq(calls_in(loop, 2), "empty r empty r ");
    loop_unwatch(loop, empty[0]);
    close(full[0]);
    ck_assert_str_eq(calls_in(loop, 2), "full w full w ");
    loop_unwatch(loop, full[1]);

    open_pair(pair);
    watch(loop, pair[0], LOOP_READ | LOOP_WRITE, "");
    close(pair[1]);
    ck_assert_str_eq(calls_in(loop, 1), "rw ");
    watch(loop, pair[0], LOOP_READ, "");
    ck_assert_str_eq(calls_in(loop, 1), "r ");
    watch(loop, pair[0], LOOP_WRITE, "");
    ck_assert_str_eq(calls_in(loop, 1), "w ");
    close(pair[0]);
    close(empty[0]);
    close(full[1]);
    loop_free(loop);
}
END_TEST

static void stop_when_ready(struct loop *loop, int fd, unsigned events, void *arg)
{
    note_ready(loop, fd, events, arg);
    loop_stop(loop);
}

START_TEST(reset_counts_as_both)
{
    struct loop *loop = open_loop(_i);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    int client = client_connect(ntohs(address.sin_port)), fd = accept(listener, NULL, NULL);
    ck_assert(client >= 0 && fd >= 0);
    ck_assert(loop_watch(loop, fd, LOOP_READ, stop_when_ready, ""));
    client_reset(client);
    run_ms(loop, patience_ms()); /* until the reset has come */
    ck_assert_str_eq(calls, "r ");
    watch(loop, fd, LOOP_READ | LOOP_WRITE, "");
    ck_assert_str_eq(calls_in(loop, 1), "rw ");
    close(fd);
    close(listener);
    loop_free(loop);
}
END_TEST

/* What is not watched for now costs nothing, whatever has become of it. */
START_TEST(no_spinning_on_a_hang_up)
{
    struct loop *loop = open_loop(_i);
    int pair[2], quiet[2], pipes[2];
    open_pair(pair);
    open_pair(quiet);
    ck_assert_int_eq(pipe(pipes), 0);
    watch(loop, pair[0], LOOP_READ, "");
    watch(loop, pipes[0], LOOP_READ, "");
    watch(loop, pair[0], 0, "");
    watch(loop, pipes[0], 0, "");
    watch(loop, quiet[0], 0, "");
    close(pair[1]);
    close(pipes[1]);
    close(quiet[1]);
    uint64_t before = loop->round;
    run_ms(loop, 200);
    ck_assert_str_eq(calls, "");
    ck_assert_uint_le(loop->round - before, 20);
    watch(loop, pair[0], LOOP_READ, "");
    ck_assert_str_eq(calls_in(loop, 1), "r ");
    close(pair[0]);
    close(pipes[0]);
    close(quiet[0]);
    loop_free(loop);
}
END_TEST

/* --- what cannot be watched --- */

START_TEST(unwatch_what_was_never_watched)
{
    struct loop *loop = open_loop(_i);
    int fds[2];
    open_pair(fds);
    watch(loop, fds[0], LOOP_WRITE, "");
    int never[] = {-1, 0, fds[1], 63, 64, 100, 100000};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        loop_unwatch(loop, never[i]);
    ck_assert_str_eq(calls_in(loop, 1), "w ");
    close_pair(fds);
    loop_free(loop);
}
END_TEST

START_TEST(not_a_descriptor)
{
    struct loop *loop = open_loop(_i);
    int fds[2];
    errno = 0;
    ck_assert(!loop_watch(loop, -1, LOOP_READ, note_ready, ""));
    ck_assert_int_eq(errno, EBADF);
    open_pair(fds);
    close_pair(fds);
    if (strcmp(backends[_i], "epoll") == 0 || strcmp(backends[_i], "kqueue") == 0) {
        errno = 0; /* the others find out when they wait */
        ck_assert(!loop_watch(loop, fds[0], LOOP_READ, note_ready, "bad "));
        ck_assert_int_eq(errno, EBADF);
        open_pair(fds); /* the same numbers, now in use: nothing is left of the attempt */
        put_byte(fds[1]);
        ck_assert_str_eq(calls_in(loop, 2), "");
        watch(loop, fds[0], LOOP_READ, "good ");
        ck_assert_str_eq(calls_in(loop, 1), "good r ");
        close_pair(fds);
    }
    loop_free(loop);
}
END_TEST

/* epoll refuses what is always ready (EPERM in epoll_ctl(2)); the others tell that it is. */
START_TEST(regular_file)
{
    struct loop *loop = open_loop(_i);
    FILE *file = tmpfile();
    ck_assert_ptr_nonnull(file);
    errno = 0;
    bool watched = loop_watch(loop, fileno(file), LOOP_WRITE, note_ready, "");
    if (strcmp(backends[_i], "epoll") == 0) {
        ck_assert_int_eq(errno, EPERM);
        ck_assert(!watched);
    }
    ck_assert_str_eq(calls_in(loop, 1), watched ? "w " : "");
    loop_unwatch(loop, fileno(file));
    (void)fclose(file);
    loop_free(loop);
}
END_TEST

START_TEST(past_the_set)
{
    struct loop *loop = open_loop(_i);
    int fds[2];
    open_pair(fds);
    int last = fcntl(fds[0], F_DUPFD, FD_SETSIZE - 1), past = fcntl(fds[0], F_DUPFD, FD_SETSIZE);
    ck_assert_int_eq(last, FD_SETSIZE - 1);
    ck_assert_int_eq(past, FD_SETSIZE);
    watch(loop, last, LOOP_WRITE, "last ");
    watch(loop, past, 0, "never ");
    errno = 0;
    if (strcmp(backends[_i], "select") == 0) {
        ck_assert(!loop_watch(loop, past, LOOP_WRITE, note_ready, "past "));
        ck_assert_int_eq(errno, ERANGE);
        ck_assert_str_eq(calls_in(loop, 1), "last w ");
    } else {
        watch(loop, past, LOOP_WRITE, "past ");
        ck_assert_uint_eq(strlen(calls_in(loop, 1)), strlen("last w past w ")); /* in any order */
        ck_assert(strstr(calls, "last w ") && strstr(calls, "past w "));
    }
    loop_unwatch(loop, past);
    loop_unwatch(loop, last);
    watch(loop, fds[0], LOOP_WRITE, "low ");
    ck_assert_str_eq(calls_in(loop, 1), "low w ");
    close(past);
    close(last);
    close_pair(fds);
    loop_free(loop);
}
END_TEST

/* --- what callbacks may do to descriptors --- */

enum { MEMBERS = 5 };

/* Several descriptors, all ready in the same round. */
struct member {
    struct batch *batch;
    int fd, peer;
};

struct batch {
    struct member members[MEMBERS];
    int turn;         /* which call does something: 1 the first, ... */
    unsigned instead; /* what the others are watched for then */
    int old, new;     /* how often which owners have been called */
};

static void open_batch(struct loop *loop, struct batch *batch, loop_watcher *callback)
{
    for (int i = 0; i < MEMBERS; i++) {
        struct member *member = &batch->members[i];
        int fds[2];
        open_pair(fds);
        *member = (struct member){batch, fds[0], fds[1]};
        ck_assert(loop_watch(loop, member->fd, LOOP_READ, callback, member));
        put_byte(member->peer);
    }
}

static void close_batch(struct loop *loop, struct batch *batch)
{
    for (int i = 0; i < MEMBERS; i++) {
        loop_unwatch(loop, batch->members[i].fd);
        close(batch->members[i].fd);
        close(batch->members[i].peer);
    }
}

static void closes_itself(struct loop *loop, int fd, unsigned events, void *arg)
{
    struct member *member = arg;
    ck_assert_uint_eq(events, LOOP_READ);
    member->batch->old++;
    loop_unwatch(loop, fd);
    close(fd);
    member->fd = -1;
}

START_TEST(callback_closes_its_own)
{
    struct loop *loop = open_loop(_i);
    struct batch batch = {.old = 0};
    open_batch(loop, &batch, closes_itself);
    run_rounds(loop, 1);
    ck_assert_int_eq(batch.old, MEMBERS);
    run_rounds(loop, 2);
    ck_assert_int_eq(batch.old, MEMBERS);
    close_batch(loop, &batch);
    loop_free(loop);
}
END_TEST

static void new_owner(struct loop *loop, int fd, unsigned events, void *arg)
{
    struct member *member = arg;
    (void)loop;
    ck_assert_int_eq(fd, member->fd);
    ck_assert_uint_eq(events, LOOP_READ);
    member->batch->new ++;
}

/* When its turn has come, closes all the others, those that have been called in this round and
 * those that have not; then other sockets get their numbers. */
static void replaces_the_others(struct loop *loop, int fd, unsigned events, void *arg)
{
    struct batch *batch = ((struct member *)arg)->batch;
    (void)events;
    if (++batch->old != batch->turn)
        return;
    for (int i = 0; i < MEMBERS; i++) {
        struct member *other = &batch->members[i];
        int fds[2];
        if (other->fd == fd)
            continue;
        loop_unwatch(loop, other->fd);
        close(other->fd);
        close(other->peer);
        open_pair(fds);
        ck_assert_int_eq(fds[0], other->fd); /* the lowest that is free */
        other->peer = fds[1];
        ck_assert(loop_watch(loop, other->fd, LOOP_READ, new_owner, other));
    }
    loop_unwatch(loop, fd);
}

START_TEST(new_owner_is_not_told_of_the_old)
{
    for (int turn = 1; turn <= MEMBERS; turn++) {
        struct loop *loop = open_loop(_i);
        struct batch batch = {.turn = turn};
        open_batch(loop, &batch, replaces_the_others);
        run_rounds(loop, 3);
        ck_assert_int_eq(batch.old, turn);
        ck_assert_msg(batch.new == 0, "%d stale events were told after call %d", batch.new, turn);
        for (int i = 0; i < MEMBERS; i++)
            put_byte(batch.members[i].peer);
        run_rounds(loop, 1);
        ck_assert_int_eq(batch.new, MEMBERS - 1);
        close_batch(loop, &batch);
        loop_free(loop);
    }
}
END_TEST

/* The others are watched for something else than what they have ready, or for nothing. */
static void turns_off_the_others(struct loop *loop, int fd, unsigned events, void *arg)
{
    struct batch *batch = ((struct member *)arg)->batch;
    ck_assert_uint_eq(events, LOOP_READ);
    batch->old++;
    for (int i = 0; i < MEMBERS; i++) {
        struct member *other = &batch->members[i];
        if (other->fd != fd)
            ck_assert(loop_watch(loop, other->fd, batch->instead, turns_off_the_others, other));
    }
}

START_TEST(turned_off_in_the_same_round)
{
    for (unsigned instead = 0; instead <= LOOP_WRITE; instead += LOOP_WRITE) {
        struct loop *loop = open_loop(_i);
        struct batch batch = {.instead = instead};
        open_batch(loop, &batch, turns_off_the_others);
        run_rounds(loop, 1);
        ck_assert_int_eq(batch.old, 1);
        close_batch(loop, &batch);
        loop_free(loop);
    }
}
END_TEST

struct owner {
    struct owner *other;
    int fd, peer;
    int *count;
};

static void free_owner(struct loop *loop, struct owner *owner)
{
    loop_unwatch(loop, owner->fd);
    close(owner->fd);
    close(owner->peer);
    free(owner);
}

static void frees_both(struct loop *loop, int fd, unsigned events, void *arg)
{
    struct owner *owner = arg;
    (void)fd;
    (void)events;
    ++*owner->count;
    free_owner(loop, owner->other);
    free_owner(loop, owner);
}

START_TEST(callback_frees_what_it_is_called_with)
{
    struct loop *loop = open_loop(_i);
    struct owner *owners[2];
    int count = 0, before = open_descriptors();
    for (int i = 0; i < 2; i++) {
        int fds[2];
        open_pair(fds);
        owners[i] = malloc(sizeof *owners[i]);
        ck_assert_ptr_nonnull(owners[i]);
        *owners[i] = (struct owner){.fd = fds[0], .peer = fds[1], .count = &count};
        ck_assert(loop_watch(loop, fds[0], LOOP_READ, frees_both, owners[i]));
        put_byte(fds[1]);
    }
    owners[0]->other = owners[1];
    owners[1]->other = owners[0];
    run_rounds(loop, 2);
    ck_assert_int_eq(count, 1);
    ck_assert_int_eq(open_descriptors(), before);
    loop_free(loop);
}
END_TEST

/* Watches so high a number that the loop's tables have to grow, and move. */
static void makes_tables_grow(struct loop *loop, int fd, unsigned events, void *arg)
{
    struct member *member = arg;
    ck_assert_uint_eq(events, LOOP_READ);
    take_byte(fd);
    int high = fcntl(fd, F_DUPFD, 100 << member->batch->old++ % 4);
    ck_assert_int_ge(high, 0);
    watch(loop, high, LOOP_WRITE, "high ");
    loop_unwatch(loop, high);
    close(high);
}

START_TEST(tables_grow_meanwhile)
{
    struct loop *loop = open_loop(_i);
    struct batch batch = {.old = 0};
    open_batch(loop, &batch, makes_tables_grow);
    run_rounds(loop, 2);
    ck_assert_int_eq(batch.old, MEMBERS);
    ck_assert_str_eq(calls, "");
    close_batch(loop, &batch);
    loop_free(loop);
}
END_TEST

/* --- many descriptors, many events --- */

/* More than one epoll_wait() takes; select has room for them and their peers. */
enum { MANY = 400 };

START_TEST(more_than_one_wait_takes)
{
    struct loop *loop = open_loop(_i);
    static int fds[MANY][2], told[MANY];
    for (int i = 0; i < MANY; i++) {
        open_pair(fds[i]);
        told[i] = 0;
        ck_assert(loop_watch(loop, fds[i][0], LOOP_READ, count_ready, &told[i]));
        put_byte(fds[i][1]);
    }
    run_rounds(loop, 6); /* nobody reads: nobody may crowd out the others for ever */
    for (int i = 0; i < MANY; i++)
        ck_assert_msg(told[i] >= 1 && told[i] <= 6, "told %d times in 6 rounds", told[i]);
    for (int i = 0; i < MANY; i += 2) /* the list of those watched gets gaps */
        loop_unwatch(loop, fds[i][0]);
    memset(told, 0, sizeof told);
    run_rounds(loop, 3);
    for (int i = 0; i < MANY; i++)
        ck_assert_msg(i % 2 ? told[i] >= 1 : told[i] == 0, "descriptor %d was told %d times", i,
                      told[i]);
    for (int i = 0; i < MANY; i++)
        close_pair(fds[i]);
    loop_free(loop);
}
END_TEST

struct rally {
    int fds[50][2];
    long hits, end;
};

static void hit_back(struct loop *loop, int fd, unsigned events, void *arg)
{
    struct rally *rally = arg;
    ck_assert_uint_eq(events, LOOP_READ);
    take_byte(fd);
    put_byte(fd);
    if (++rally->hits == rally->end)
        loop_stop(loop);
}

/* A byte goes to and fro on each of the pairs, until there have been so many events. */
static void play(struct loop *loop, long end)
{
    struct rally rally = {.end = end};
    for (int i = 0; i < 50; i++) {
        open_pair(rally.fds[i]);
        for (int side = 0; side < 2; side++)
            ck_assert(loop_watch(loop, rally.fds[i][side], LOOP_READ, hit_back, &rally));
        put_byte(rally.fds[i][0]);
    }
    run_ms(loop, MINUTE);
    ck_assert_int_eq(rally.hits, end);
    for (int i = 0; i < 50; i++)
        for (int side = 0; side < 2; side++) {
            loop_unwatch(loop, rally.fds[i][side]);
            close(rally.fds[i][side]);
        }
}

START_TEST(hundred_thousand_events)
{
    struct loop *loop = open_loop(_i);
    play(loop, 100000);
    loop_free(loop);
}
END_TEST

static void *run_own_loop(void *name)
{
    struct loop *loop = loop_new(name);
    ck_assert_ptr_nonnull(loop);
    play(loop, 2000);
    loop_free(loop);
    return NULL;
}

START_TEST(each_thread_its_own_loop)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, run_own_loop, (void *)backends[_i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}
END_TEST

/* --- timers --- */

struct clocked {
    struct timer timer;
    char *name;
    int64_t earliest;
};

static int64_t last_due;

static void note_timer(struct loop *loop, void *arg)
{
    struct clocked *clocked = arg;
    (void)loop;
    ck_assert_msg(loop_clock() >= clocked->earliest, "timer %s is called early", clocked->name);
    ck_assert_msg(clocked->timer.due >= last_due, "timer %s is called out of order", clocked->name);
    last_due = clocked->timer.due;
    note(clocked->name);
}

static void start(struct loop *loop, struct clocked *clocked, int64_t ms)
{
    clocked->timer.callback = note_timer;
    clocked->timer.arg = clocked;
    clocked->earliest = loop_clock() + ms * NS_PER_MS;
    ck_assert(timer_start(loop, &clocked->timer, ms));
    ck_assert_int_ge(clocked->timer.due, clocked->earliest);
    ck_assert_int_le(clocked->timer.due, loop_clock() + ms * NS_PER_MS);
}

START_TEST(timers_by_due_time)
{
    struct loop *loop = open_loop(_i);
    struct clocked timers[] = {{.name = "a"}, {.name = "b"}, {.name = "c"},
                               {.name = "d"}, {.name = "e"}, {.name = "far"}};
    static const int64_t ms[] = {90, 30, 60, 30, 0, MINUTE};
    for (int i = 0; i < 6; i++)
        start(loop, &timers[i], ms[i]);
    run_ms(loop, 120); /* each at its own time */
    ck_assert_uint_eq(strlen(calls), 5);
    timer_stop(loop, &timers[5].timer);
    calls[0] = '\0';
    for (int i = 0; i < 5; i++)
        start(loop, &timers[i], ms[i]);
    sleep_for(0.15);
    run_rounds(loop, 1); /* all late, in one round, and still in order */
    ck_assert_uint_eq(strlen(calls), 5);
    run_rounds(loop, 2); /* once each */
    ck_assert_uint_eq(strlen(calls), 5);
    loop_free(loop);
}
END_TEST

START_TEST(timers_due_together_in_the_order_of_their_start)
{
    struct loop *loop = open_loop(_i);
    struct clocked timers[] = {{.name = "a"}, {.name = "b"}, {.name = "c"}, {.name = "d"}};
    for (int i = 0; i < 4; i++)
        start(loop, &timers[i], 0);
    ck_assert_str_eq(calls_in(loop, 1), "abcd");
    for (int i = 3; i >= 0; i--)
        start(loop, &timers[i], 0);
    for (int i = 0; i < 3; i++)
        timers[i].timer.due = timers[3].timer.due; /* as by a clock that is not so fine */
    ck_assert_str_eq(calls_in(loop, 1), "dcba");
    loop_free(loop);
}
END_TEST

START_TEST(timer_started_anew_or_stopped)
{
    struct loop *loop = open_loop(_i);
    struct clocked timers[] = {{.name = "a"}, {.name = "b"}, {.name = "c"}};
    for (int i = 0; i < 3; i++)
        start(loop, &timers[i], 0);
    start(loop, &timers[0], 0); /* goes last, and is called once */
    ck_assert_str_eq(calls_in(loop, 2), "bca");
    for (int i = 0; i < 3; i++)
        start(loop, &timers[i], MINUTE);
    start(loop, &timers[1], 0); /* sooner */
    ck_assert_str_eq(calls_in(loop, 2), "b");
    start(loop, &timers[2], 0);
    start(loop, &timers[2], MINUTE); /* later */
    ck_assert_str_eq(calls_in(loop, 2), "");
    start(loop, &timers[0], 0);
    timer_stop(loop, &timers[0].timer);
    timer_stop(loop, &timers[0].timer);
    timer_stop(loop, &timers[1].timer);
    ck_assert_str_eq(calls_in(loop, 2), "");
    start(loop, &timers[0], 0);
    ck_assert_str_eq(calls_in(loop, 2), "a");
    loop_free(loop);
}
END_TEST

static struct clocked others[2];

/* Stops itself, which is not running any more; stops one that is due as well, and puts off the
 * other. */
static void stops_others(struct loop *loop, void *arg)
{
    struct timer *timer = arg;
    note("first ");
    timer_stop(loop, timer);
    timer_stop(loop, &others[0].timer);
    start(loop, &others[1], MINUTE);
    free(timer);
}

START_TEST(timers_stopped_by_a_timer)
{
    struct loop *loop = open_loop(_i);
    struct timer *first = malloc(sizeof *first);
    struct clocked last = {.name = "last"};
    ck_assert_ptr_nonnull(first);
    *first = (struct timer){.callback = stops_others, .arg = first};
    others[0] = (struct clocked){.name = "stopped"};
    others[1] = (struct clocked){.name = "put off"};
    ck_assert(timer_start(loop, first, 0));
    start(loop, &others[0], 0);
    start(loop, &others[1], 0);
    start(loop, &last, 0);
    ck_assert_str_eq(calls_in(loop, 3), "first last");
    loop_free(loop);
}
END_TEST

static int restarts;
static int64_t restarts_with;

static void restarts_itself(struct loop *loop, void *arg)
{
    restarts++;
    ck_assert(timer_start(loop, arg, restarts_with));
}

START_TEST(timer_without_delay_starves_nobody)
{
    struct loop *loop = open_loop(_i);
    int fds[2];
    open_pair(fds);
    put_byte(fds[1]);
    for (restarts_with = 0; restarts_with >= -MINUTE; restarts_with -= MINUTE) {
        struct timer timer = {.callback = restarts_itself, .arg = &timer};
        struct timer late = {.callback = note_call, .arg = "late"};
        int told = restarts = 0;
        ck_assert(loop_watch(loop, fds[0], LOOP_READ, count_ready, &told));
        ck_assert(timer_start(loop, &timer, 0));
        ck_assert(timer_start(loop, &late, 1));
        sleep_for(0.01);
        ck_assert_str_eq(calls_in(loop, 100), "late");
        ck_assert_int_eq(restarts, 100);
        ck_assert_int_eq(told, 100);
        timer_stop(loop, &timer);
    }
    close_pair(fds);
    loop_free(loop);
}
END_TEST

/* A loop that waits cannot be early, for it rounds the time up; one with other things to do can. */
START_TEST(no_timer_is_early_in_a_busy_loop)
{
    struct loop *loop = open_loop(_i);
    struct clocked timers[20] = {{.name = NULL}};
    int fds[2], told = 0;
    open_pair(fds);
    put_byte(fds[1]);
    ck_assert(loop_watch(loop, fds[0], LOOP_READ, count_ready, &told)); /* and nobody reads it */
    for (int i = 0; i < 20; i++) {
        timers[i].name = "x";
        start(loop, &timers[i], 1 + i % 5);
    }
    run_ms(loop, 20);
    ck_assert_uint_eq(strlen(calls), 20);
    close_pair(fds);
    loop_free(loop);
}
END_TEST

/* The time-outs of poll and epoll_wait are in whole milliseconds: rounded down, the loop would go
 * round and round in the last of them. */
static void ticks(struct loop *loop, void *arg)
{
    if (++restarts < 50)
        ck_assert(timer_start(loop, arg, 2));
    else
        loop_stop(loop);
}

START_TEST(waiting_for_a_timer_takes_one_round)
{
    struct loop *loop = open_loop(_i);
    struct timer timer = {.callback = ticks, .arg = &timer};
    restarts = 0;
    ck_assert(timer_start(loop, &timer, 2));
    uint64_t before = loop->round;
    run_ms(loop, patience_ms());
    ck_assert_int_eq(restarts, 50);
    ck_assert_uint_le(loop->round - before, 100);
    loop_free(loop);
}
END_TEST

START_TEST(any_number_of_milliseconds)
{
    static const int64_t far[] = {INT64_MAX, INT64_MAX / NS_PER_MS, INT64_MAX / 2, 1LL << 40};
    struct loop *loop = open_loop(_i);
    struct timer timers[4], past[2];
    for (int i = 0; i < 4; i++) {
        timers[i] = (struct timer){.callback = note_call, .arg = "far "};
        ck_assert(timer_start(loop, &timers[i], far[i]));
    }
    run_ms(loop, 20);
    ck_assert_str_eq(calls, "");
    for (int i = 0; i < 2; i++) {
        past[i] = (struct timer){.callback = note_call, .arg = "past "};
        ck_assert(timer_start(loop, &past[i], i == 0 ? -1 : INT64_MIN));
    }
    ck_assert_str_eq(calls_in(loop, 2), "past past ");
    loop_free(loop);
}
END_TEST

enum { CROWD = 100000 };
static struct one {
    struct timer timer;
    bool running; /* by what we have asked for */
} crowd[CROWD];
static int still_to_come;

static void one_of_crowd(struct loop *loop, void *arg)
{
    struct one *one = arg;
    ck_assert_msg(one->running, "a timer is called that was stopped, or called before");
    one->running = false;
    ck_assert_int_ge(loop_clock(), one->timer.due);
    ck_assert_int_ge(one->timer.due, last_due);
    last_due = one->timer.due;
    if (--still_to_come == 0)
        loop_stop(loop);
}

static void start_one(struct loop *loop, struct one *one, int64_t ms)
{
    one->timer.callback = one_of_crowd;
    one->timer.arg = one;
    ck_assert(timer_start(loop, &one->timer, ms));
    still_to_come += !one->running;
    one->running = true;
}

static void stop_one(struct loop *loop, struct one *one)
{
    timer_stop(loop, &one->timer);
    still_to_come -= one->running;
    one->running = false;
}

START_TEST(hundred_thousand_timers)
{
    struct loop *loop = open_loop(_i);
    srandom(1);
    for (int i = 0; i < CROWD; i++)
        start_one(loop, &crowd[i], random() % 50);
    for (int i = 0; i < CROWD; i++)
        if (i % 2)
            stop_one(loop, &crowd[random() % CROWD]);
        else
            start_one(loop, &crowd[random() % CROWD], random() % 50);
    ck_assert_int_gt(still_to_come, CROWD / 2);
    last_due = 0;
    run_ms(loop, patience_ms());
    ck_assert_msg(still_to_come == 0, "%d timers were not called", still_to_come);
    run_ms(loop, 60); /* nor is any called again */
    loop_free(loop);
}
END_TEST

static double cpu_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int compare(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

/* A heap should cost about as much as to sort them all; a list, nearly a hundred times as much. */
START_TEST(timers_cost_what_sorting_costs)
{
    struct loop *loop = open_loop(_i);
    static long numbers[CROWD];
    double before = cpu_seconds();
    for (int i = 0; i < CROWD; i++)
        numbers[i] = random();
    qsort(numbers, CROWD, sizeof *numbers, compare);
    double sorting = cpu_seconds() - before;
    before = cpu_seconds();
    for (int i = 0; i < CROWD; i++) /* due in any order, and most stopped in any other */
        timer_start(loop, &crowd[i].timer, MINUTE + random() % MINUTE);
    for (int i = 0; i < 2 * CROWD; i++)
        timer_stop(loop, &crowd[random() % CROWD].timer);
    for (int i = 0; i < CROWD; i++)
        timer_stop(loop, &crowd[i].timer);
    double timers = cpu_seconds() - before;
    ck_assert_msg(timers < 20 * sorting, "%.1f times as much as to sort them", timers / sorting);
    loop_free(loop);
}
END_TEST

/* --- calls put off, and the order in a round --- */

struct chain {
    struct deferred deferred;
    struct timer timer;
    int left;
};

static void descriptor_of_round(struct loop *loop, int fd, unsigned events, void *arg)
{
    struct chain *chain = arg;
    note("d");
    (void)fd;
    (void)events;
    if (chain->left-- > 0) {
        loop_defer(loop, &chain->deferred);
        ck_assert(timer_start(loop, &chain->timer, 0));
    }
}

START_TEST(descriptors_then_timers_then_deferred)
{
    struct loop *loop = open_loop(_i);
    struct chain chain = {.deferred = {.callback = note_call, .arg = "f "},
                          .timer = {.callback = note_call, .arg = "t"},
                          .left = 2};
    int fds[2];
    open_pair(fds);
    put_byte(fds[1]);
    ck_assert(loop_watch(loop, fds[0], LOOP_READ, descriptor_of_round, &chain));
    loop_defer(loop, &chain.deferred); /* in any order of asking */
    ck_assert(timer_start(loop, &chain.timer, 0));
    ck_assert_str_eq(calls_in(loop, 3), "dtf dtf d");
    close_pair(fds);
    loop_free(loop);
}
END_TEST

/* Defers itself and the one that arg points at. */
struct relay {
    struct deferred deferred, *next;
    char *name;
};

static void passes_on(struct loop *loop, void *arg)
{
    struct relay *relay = arg;
    note(relay->name);
    loop_defer(loop, relay->next);
    loop_defer(loop, relay->next); /* twice is once */
}

START_TEST(deferred_by_a_deferred_call)
{
    struct loop *loop = open_loop(_i);
    struct relay a = {.name = "a"}, b = {.name = "b"};
    int fds[2];
    open_pair(fds);
    watch(loop, fds[0], LOOP_WRITE, "|");
    a.deferred = (struct deferred){.callback = passes_on, .arg = &a};
    b.deferred = (struct deferred){.callback = passes_on, .arg = &b};
    a.next = &b.deferred;
    b.next = &a.deferred;
    loop_defer(loop, &a.deferred);
    ck_assert_str_eq(calls_in(loop, 3), "|w a|w b|w a"); /* in the next round, not in this one */
    loop_defer_cancel(loop, &b.deferred);
    ck_assert_str_eq(calls_in(loop, 2), "|w |w ");
    a.next = &a.deferred;
    loop_defer(loop, &a.deferred);
    ck_assert_str_eq(calls_in(loop, 2), "|w a|w a"); /* itself */
    close_pair(fds);
    loop_free(loop);
}
END_TEST

START_TEST(deferred_twice_or_cancelled)
{
    static char *letters[] = {"a", "b", "c", "d", "e"};
    static const char *const without[] = {"bcde", "acde", "abde", "abce", "abcd"};
    struct loop *loop = open_loop(_i);
    struct deferred deferred[5] = {{.callback = NULL}};
    for (int i = 0; i < 5; i++)
        deferred[i] = (struct deferred){.callback = note_call, .arg = letters[i]};
    for (int cancelled = 0; cancelled < 5; cancelled++) { /* the first, the last, in between */
        for (int i = 0; i < 10; i++)
            loop_defer(loop, &deferred[i % 5]);
        loop_defer_cancel(loop, &deferred[cancelled]);
        loop_defer_cancel(loop, &deferred[cancelled]);
        ck_assert_str_eq(calls_in(loop, 2), without[cancelled]);
        for (int i = 0; i < 5; i++)
            loop_defer(loop, &deferred[i]);
        loop_defer_cancel(loop, &deferred[cancelled]);
        loop_defer(loop, &deferred[cancelled]); /* goes last */
        ck_assert_str_eq(strchr(calls_in(loop, 2), letters[cancelled][0]), letters[cancelled]);
        ck_assert_uint_eq(strlen(calls), 5);
    }
    for (int i = 0; i < 5; i++)
        loop_defer(loop, &deferred[i]);
    for (int i = 4; i >= 0; i--)
        loop_defer_cancel(loop, &deferred[i]);
    ck_assert_str_eq(calls_in(loop, 1), "");
    loop_defer(loop, &deferred[2]);
    ck_assert_str_eq(calls_in(loop, 1), "c");
    loop_free(loop);
}
END_TEST

static struct deferred waiting[4];

/* Cancels the second and the last of those that wait, and itself, which does not any more. */
static void cancels_others(struct loop *loop, void *arg)
{
    struct deferred *deferred = arg;
    note("a");
    loop_defer_cancel(loop, deferred);
    loop_defer_cancel(loop, &waiting[1]);
    loop_defer_cancel(loop, &waiting[3]);
    loop_defer(loop, &waiting[3]); /* and so it is put off anew: to the next round */
    free(deferred);
}

START_TEST(cancelled_while_the_list_is_run)
{
    struct loop *loop = open_loop(_i);
    struct deferred *first = malloc(sizeof *first);
    ck_assert_ptr_nonnull(first);
    *first = (struct deferred){.callback = cancels_others, .arg = first};
    static char *letters[] = {"", "b", "c", "d"};
    loop_defer(loop, first);
    for (int i = 1; i < 4; i++) {
        waiting[i] = (struct deferred){.callback = note_call, .arg = letters[i]};
        loop_defer(loop, &waiting[i]);
    }
    ck_assert_str_eq(calls_in(loop, 1), "ac");
    ck_assert_str_eq(calls_in(loop, 1), "d");
    ck_assert_str_eq(calls_in(loop, 1), "");
    loop_free(loop);
}
END_TEST

/* --- waking the loop --- */

static void sends_itself_once(struct loop *loop, void *arg)
{
    static bool sent;
    (void)loop;
    note("sent ");
    if (!sent)
        wakeup_send(arg);
    sent = !sent;
}

START_TEST(a_burst_is_one_call)
{
    struct loop *loop = open_loop(_i);
    struct wakeup wakeup = {.callback = note_call, .arg = "called "};
    wakeup_add(loop, &wakeup);
    ck_assert_str_eq(calls_in(loop, 2), "");
    for (int i = 0; i < 1000; i++)
        wakeup_send(&wakeup);
    int bytes = 0;
    ck_assert_int_eq(ioctl(loop->pipe[0], FIONREAD, &bytes), 0);
    ck_assert_int_eq(bytes, 1); /* and one system call */
    ck_assert_str_eq(calls_in(loop, 3), "called ");
    uint64_t before = loop->round;
    run_ms(loop, 50);
    ck_assert_uint_le(loop->round - before, 20); /* there is nothing left to wake it */
    wakeup_send(&wakeup);
    ck_assert_str_eq(calls_in(loop, 3), "called ");
    wakeup_remove(&wakeup);

    struct wakeup again = {.callback = sends_itself_once, .arg = &again};
    wakeup_add(loop, &again);
    wakeup_send(&again);
    ck_assert_str_eq(calls_in(loop, 1), "sent "); /* the next round, not this one */
    ck_assert_str_eq(calls_in(loop, 2), "sent ");
    loop_free(loop);
}
END_TEST

START_TEST(several_wakeups)
{
    static char *letters[] = {"a", "b", "c", "d"};
    struct loop *loop = open_loop(_i);
    struct wakeup wakeups[4];
    for (int i = 0; i < 4; i++) {
        wakeups[i].callback = note_call;
        wakeups[i].arg = letters[i];
        wakeup_add(loop, &wakeups[i]);
    }
    for (int i = 0; i < 4; i++) {
        wakeup_send(&wakeups[i]);
        ck_assert_str_eq(calls_in(loop, 2), letters[i]);
    }
    wakeup_send(&wakeups[3]);
    wakeup_send(&wakeups[0]);
    ck_assert_uint_eq(strlen(calls_in(loop, 2)), 2); /* in no particular order */
    ck_assert(strchr(calls, 'a') && strchr(calls, 'd'));
    wakeup_remove(&wakeups[0]);
    wakeup_remove(&wakeups[2]);
    for (int i = 1; i < 4; i += 2)
        wakeup_send(&wakeups[i]);
    ck_assert_uint_eq(strlen(calls_in(loop, 2)), 2);
    ck_assert(strchr(calls, 'b') && strchr(calls, 'd'));
    loop_free(loop);
}
END_TEST

enum { FLOOD = 100000 }; /* more wake-ups than bytes fit into a pipe */

static void count_call(struct loop *loop, void *arg)
{
    (void)loop;
    ++*(int *)arg;
}

START_TEST(more_wakeups_than_the_pipe_holds)
{
    struct loop *loop = open_loop(_i);
    static struct wakeup wakeups[FLOOD];
    int called = 0;
    for (int i = 0; i < FLOOD; i++) {
        wakeups[i].callback = count_call;
        wakeups[i].arg = &called;
        wakeup_add(loop, &wakeups[i]);
        errno = 1234; /* of what a signal may have interrupted */
        wakeup_send(&wakeups[i]);
        if (errno != 1234)
            ck_abort_msg("wakeup_send() changed errno");
    }
    run_rounds(loop, 1);
    ck_assert_int_eq(called, FLOOD);
    run_rounds(loop, 2);
    ck_assert_int_eq(called, FLOOD);
    loop_free(loop);
}
END_TEST

static struct wakeup *sent_together[3];

static void removes_all(struct loop *loop, void *arg)
{
    (void)loop;
    note(arg);
    for (int i = 0; i < 3; i++) {
        wakeup_remove(sent_together[i]);
        free(sent_together[i]);
    }
}

static void removes_itself(struct loop *loop, void *arg)
{
    struct wakeup **slot = arg;
    (void)loop;
    note("one ");
    wakeup_remove(*slot);
    free(*slot);
}

START_TEST(wakeup_removed_by_a_callback)
{
    struct loop *loop = open_loop(_i);
    for (int all = 0; all < 2; all++) {
        for (int i = 0; i < 3; i++) {
            struct wakeup *wakeup = malloc(sizeof *wakeup);
            ck_assert_ptr_nonnull(wakeup);
            wakeup->callback = all ? removes_all : removes_itself;
            wakeup->arg = all ? (void *)"all " : (void *)&sent_together[i];
            wakeup_add(loop, wakeup);
            wakeup_send(wakeup);
            sent_together[i] = wakeup;
        }
        ck_assert_str_eq(calls_in(loop, 2), all ? "all " : "one one one ");
    }
    loop_free(loop);
}
END_TEST

enum { SENDERS = 4, SENDS = 25000, ANSWERED = 50 };

struct sender {
    struct storm *storm;
    struct wakeup *wakeup;
    pthread_t thread;
    atomic_int sent, seen; /* numbers, by the sender and by the loop */
};

struct storm {
    struct wakeup wakeups[SENDERS];
    struct sender senders[SENDERS];
    long calls;
};

/* The last send of each burst has to be answered before the next: if it is lost, nothing will ever
 * make up for it. */
static void *send_bursts(void *arg)
{
    struct sender *sender = arg;
    double deadline = now() + patience();
    for (int i = 1; i <= SENDS; i++) {
        atomic_store_explicit(&sender->sent, i, memory_order_relaxed);
        wakeup_send(sender->wakeup);
        if (i % ANSWERED == 0)
            while (atomic_load(&sender->seen) < i) {
                ck_assert_msg(now() < deadline, "wake-up %d was lost", i);
                sched_yield();
            }
    }
    return NULL;
}

static void storm_called(struct loop *loop, void *arg)
{
    struct storm *storm = arg;
    int done = 0;
    storm->calls++;
    for (int i = 0; i < SENDERS; i++) {
        struct sender *sender = &storm->senders[i];
        int sent = atomic_load_explicit(&sender->sent, memory_order_relaxed);
        atomic_store(&sender->seen, sent);
        done += sent == SENDS;
    }
    if (done == SENDERS)
        loop_stop(loop);
}

/* shared: all the threads send the same wake-up; else each has its own. */
static void storm(struct loop *loop, bool shared)
{
    static struct storm storm;
    storm = (struct storm){.calls = 0};
    for (int i = 0; i < SENDERS; i++) {
        struct sender *sender = &storm.senders[i];
        storm.wakeups[i].callback = storm_called;
        storm.wakeups[i].arg = &storm;
        wakeup_add(loop, &storm.wakeups[i]);
        sender->storm = &storm;
        sender->wakeup = &storm.wakeups[shared ? 0 : i];
        atomic_init(&sender->sent, 0);
        atomic_init(&sender->seen, 0);
        ck_assert_int_eq(pthread_create(&sender->thread, NULL, send_bursts, sender), 0);
    }
    ck_assert_int_eq(loop_run(loop), 0);
    for (int i = 0; i < SENDERS; i++) {
        pthread_join(storm.senders[i].thread, NULL);
        wakeup_remove(&storm.wakeups[i]);
    }
    ck_assert_int_le(storm.calls, (long)SENDERS * SENDS);
}

START_TEST(hundred_thousand_sends_none_lost)
{
    struct loop *loop = open_loop(_i);
    storm(loop, true);
    storm(loop, false);
    loop_free(loop);
}
END_TEST

struct letter {
    struct wakeup wakeup;
    int text, read; /* deliberately not atomic */
    atomic_bool written;
};

static void *write_letter(void *arg)
{
    struct letter *letter = arg;
    letter->text = 42;
    wakeup_send(&letter->wakeup);
    atomic_store_explicit(&letter->written, true, memory_order_relaxed);
    return NULL;
}

static void read_letter(struct loop *loop, void *arg)
{
    struct letter *letter = arg;
    letter->read = letter->text;
    loop_stop(loop);
}

/* ThreadSanitizer is the judge here: nothing but the wake-up itself may order the write before the
 * read. If one is on its way already, not even a byte goes through the pipe. */
START_TEST(what_was_written_before_is_seen)
{
    struct loop *loop = open_loop(_i);
    for (int on_its_way = 0; on_its_way < 2; on_its_way++) {
        struct letter letter = {.wakeup = {.callback = read_letter, .arg = &letter}};
        pthread_t thread;
        wakeup_add(loop, &letter.wakeup);
        if (on_its_way)
            wakeup_send(&letter.wakeup);
        ck_assert_int_eq(pthread_create(&thread, NULL, write_letter, &letter), 0);
        while (!atomic_load_explicit(&letter.written, memory_order_relaxed))
            sched_yield();
        run_ms(loop, patience_ms());
        ck_assert_int_eq(letter.read, 42);
        pthread_join(thread, NULL);
        wakeup_remove(&letter.wakeup);
    }
    loop_free(loop);
}
END_TEST

static struct wakeup signalled;
static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    (void)number;
    if (++signals > 3) /* the first ones only interrupt the wait */
        wakeup_send(&signalled);
}

static void signal_told(struct loop *loop, void *arg)
{
    note(arg);
    loop_stop(loop);
}

/* ThreadSanitizer keeps a signal back while select() waits: so let it come to its senses. */
static void tick(struct loop *loop, void *arg)
{
    ck_assert(timer_start(loop, arg, 1000));
}

START_TEST(from_a_signal_handler)
{
    struct loop *loop = open_loop(_i);
    struct sigaction action = {.sa_handler = on_signal};
    struct timer ticker = {.callback = tick, .arg = &ticker};
    struct itimerval soon = {.it_interval = {.tv_usec = 20000}, .it_value = {.tv_usec = 20000}};
    struct itimerval never = {.it_value = {.tv_sec = 0}};
    signalled = (struct wakeup){.callback = signal_told, .arg = "told"};
    wakeup_add(loop, &signalled);
    tick(loop, &ticker);
    ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &soon, NULL), 0);
    run_ms(loop, patience_ms());
    ck_assert_int_eq(setitimer(ITIMER_REAL, &never, NULL), 0);
    ck_assert_str_eq(calls, "told");

    run_rounds(loop, 2); /* perhaps it has been sent once more */
    raise(SIGALRM);
    ck_assert_str_eq(calls_in(loop, 2), "told");
    loop_free(loop);
}
END_TEST

/* --- when calls fail --- */

static int failed_waits;

static bool failing_wait(struct loop *loop, int timeout_ms)
{
    (void)loop;
    (void)timeout_ms;
    failed_waits++;
    errno = ENOMEM;
    return false;
}

START_TEST(wait_that_fails)
{
    struct loop *loop = open_loop(_i);
    const struct backend *sound = loop->backend;
    struct backend failing = *sound;
    struct timer timer = {.callback = note_call, .arg = "t"};
    int fds[2], fetched[2];
    failing.wait = failing_wait;
    open_pair(fds);
    open_pair(fetched);
    watch(loop, fds[0], LOOP_READ, "a");
    watch(loop, fetched[0], LOOP_READ | LOOP_WRITE, "b");
    watch(loop, fetched[1], 0, "c");
    loop->backend = &failing;
    failed_waits = 0;
    run_rounds(loop, 1); /* everybody is asked, for what each is watched for */
    ck_assert_msg(strcmp(calls, "ar brw ") == 0 || strcmp(calls, "brw ar ") == 0, "'%s'", calls);

    calls[0] = '\0';
    failed_waits = 0;
    ck_assert(timer_start(loop, &timer, 30)); /* is not late by it */
    run_ms(loop, 450);
    ck_assert_ptr_nonnull(strchr(calls, 't'));
    ck_assert_msg(failed_waits >= 2 && failed_waits <= 9, "%d waits in 450 ms", failed_waits);
    ck_assert_int_lt(loop_lag(loop).max, 100 * NS_PER_MS); /* nobody's handler was slow */

    loop->backend = sound;
    loop_unwatch(loop, fetched[0]);
    put_byte(fds[1]);
    ck_assert_str_eq(calls_in(loop, 1), "ar ");
    close_pair(fds);
    close_pair(fetched);
    loop_free(loop);
}
END_TEST

static void limit_descriptors(rlim_t most)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = most ? most : limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void take_note_and_stop(struct loop *loop, int fd, unsigned events, void *arg)
{
    char byte;
    (void)events;
    if (read(fd, &byte, 1) < 1)
        return; /* just asked */
    note(arg);
    loop_stop(loop);
}

START_TEST(fewer_descriptors_than_are_watched)
{
    struct loop *loop = open_loop(_i);
    int fds[4][2];
    for (int i = 0; i < 4; i++) {
        open_pair(fds[i]);
        ck_assert(loop_watch(loop, fds[i][0], LOOP_READ, take_note_and_stop, "told"));
    }
    limit_descriptors(2); /* poll() refuses more from here on */
    put_byte(fds[3][1]);
    run_ms(loop, patience_ms());
    ck_assert_str_eq(calls, "told");
    limit_descriptors(0);
    put_byte(fds[2][1]);
    run_ms(loop, patience_ms());
    ck_assert_str_eq(calls, "toldtold");
    for (int i = 0; i < 4; i++)
        close_pair(fds[i]);
    loop_free(loop);
}
END_TEST

START_TEST(removing_needs_no_memory)
{
    struct loop *loop = loop_new("poll");
    int fds[2], far;
    ck_assert_ptr_nonnull(loop);
    loop->backend = &poll_with_limited_memory;
    open_pair(fds);
    put_byte(fds[1]);
    watch(loop, fds[0], LOOP_READ, "a");
    far = fcntl(fds[1], F_DUPFD, 10 * loop->watch_count);
    ck_assert_int_ge(far, 0);
    no_memory = true;
    ck_assert(!loop_watch(loop, far, LOOP_WRITE, note_ready, "b"));
    watch(loop, fds[0], LOOP_READ | LOOP_WRITE, "a");
    ck_assert_str_eq(calls_in(loop, 1), "arw ");
    loop_unwatch(loop, fds[0]);
    ck_assert_str_eq(calls_in(loop, 1), "");
    ck_assert_int_eq(poll(((struct state *)loop->state)->list, 1, 0), 0); /* nothing stale */
    watch(loop, fds[0], LOOP_READ, "a");
    no_memory = false;
    watch(loop, far, LOOP_WRITE, "b");
    ck_assert_ptr_nonnull(strstr(calls_in(loop, 1), "bw "));
    close(far);
    close_pair(fds);
    loop_free(loop);
}
END_TEST

/* What rings cannot, but the signal ends the wait, or anything else. */
START_TEST(wakeup_whose_ring_is_lost)
{
    struct loop *loop = open_loop(_i);
    struct wakeup wakeup = {.callback = signal_told, .arg = "told"};
    struct timer ticker = {.callback = tick, .arg = &ticker};
    int pipe = loop->pipe[1];
    wakeup_add(loop, &wakeup);
    loop->pipe[1] = loop->pipe[0]; /* writing to it fails: EBADF */
    wakeup_send(&wakeup);
    tick(loop, &ticker);
    run_ms(loop, patience_ms());
    ck_assert_str_eq(calls, "told");
    loop->pipe[1] = pipe;
    ck_assert_str_eq(calls_in(loop, 3), "");
    loop_free(loop);
}
END_TEST

/* --- stopping --- */

static void note_and_stop(struct loop *loop, void *arg)
{
    note(arg);
    loop_stop(loop);
}

static void take_and_stop(struct loop *loop, int fd, unsigned events, void *arg)
{
    (void)events;
    take_byte(fd);
    note_and_stop(loop, arg);
}

/* What the next run calls; it is on whoever is called to stop it. */
static const char *calls_of_run(struct loop *loop)
{
    calls[0] = '\0';
    run_ms(loop, patience_ms());
    return calls;
}

START_TEST(stopped_by_any_callback)
{
    struct loop *loop = open_loop(_i);
    struct timer timers[2];
    struct deferred deferred[2];
    int fds[2][2];
    for (int i = 0; i < 2; i++) {
        open_pair(fds[i]);
        put_byte(fds[i][1]);
        ck_assert(loop_watch(loop, fds[i][0], LOOP_READ, take_and_stop, "d"));
        timers[i] = (struct timer){.callback = note_and_stop, .arg = "t"};
        ck_assert(timer_start(loop, &timers[i], 0));
        deferred[i] = (struct deferred){.callback = note_and_stop, .arg = "f"};
        loop_defer(loop, &deferred[i]);
    }
    /* one call in each run, nothing is lost, nothing is called twice */
    static const char *const order[] = {"d", "d", "t", "t", "f", "f"};
    for (int i = 0; i < 6; i++)
        ck_assert_str_eq(calls_of_run(loop), order[i]);
    ck_assert_str_eq(calls_in(loop, 3), "");
    for (int i = 0; i < 2; i++)
        close_pair(fds[i]);
    loop_free(loop);
}
END_TEST

START_TEST(stopped_by_a_wakeup)
{
    struct loop *loop = open_loop(_i);
    struct wakeup wakeups[3];
    struct deferred deferred = {.callback = note_and_stop, .arg = "f"};
    for (int i = 0; i < 3; i++) {
        wakeups[i].callback = note_and_stop;
        wakeups[i].arg = "w";
        wakeup_add(loop, &wakeups[i]);
        wakeup_send(&wakeups[i]);
    }
    loop_defer(loop, &deferred);
    for (int i = 0; i < 3; i++)
        ck_assert_str_eq(calls_of_run(loop), "w");
    ck_assert_str_eq(calls_of_run(loop), "f");
    for (int i = 0; i < 3; i++) {
        wakeup_send(&wakeups[i]); /* can still be sent */
        ck_assert_str_eq(calls_of_run(loop), "w");
    }
    ck_assert_str_eq(calls_in(loop, 3), "");
    loop_free(loop);
}
END_TEST

/* --- how late it is --- */

static void sleeps(struct loop *loop, void *arg)
{
    (void)arg;
    sleep_for(0.05);
    loop_stop(loop);
}

START_TEST(lag_shows_who_is_slow)
{
    struct loop *loop = open_loop(_i);
    ck_assert_int_eq(loop_lag(loop).last, 0);
    ck_assert_int_eq(loop_lag(loop).max, 0);
    struct timer slow = {.callback = sleeps};
    ck_assert(timer_start(loop, &slow, 0));
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_int_ge(loop_lag(loop).last, 50 * NS_PER_MS);
    ck_assert_int_eq(loop_lag(loop).max, loop_lag(loop).last);
    int64_t most = loop_lag(loop).max;
    sleep_for(0.05); /* not the loop's */
    run_ms(loop, 500);
    ck_assert_msg(loop_lag(loop).last < 400 * NS_PER_MS, "waiting is counted as lag");
    ck_assert_int_ge(loop_lag(loop).max, most);
    loop_free(loop);
}
END_TEST

static int64_t monotonic(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 * NS_PER_MS + time.tv_nsec;
}

START_TEST(clock_is_monotonic_nanoseconds)
{
    int64_t before = monotonic(), clock = loop_clock(), after = monotonic();
    ck_assert_int_le(before, clock);
    ck_assert_int_le(clock, after);
}
END_TEST

/* --- the suite --- */

#define ADD(test) tcase_add_loop_test(tcase, test, i, i + 1)

static void add_tests_of_descriptors(TCase *tcase, int i)
{
    ADD(has_its_name);
    ADD(no_descriptors_no_loop);
    ADD(nothing_is_left_of_a_thousand_loops);
    ADD(not_inherited);
    ADD(tells_what_was_asked_for);
    ADD(level_triggered);
    ADD(a_full_buffer_is_not_writable);
    ADD(not_for_now_and_again);
    ADD(hang_up_and_error_count_as_ready);
    ADD(reset_counts_as_both);
    ADD(no_spinning_on_a_hang_up);
    ADD(unwatch_what_was_never_watched);
    ADD(not_a_descriptor);
    ADD(regular_file);
    ADD(past_the_set);
    ADD(callback_closes_its_own);
    ADD(new_owner_is_not_told_of_the_old);
    ADD(turned_off_in_the_same_round);
    ADD(callback_frees_what_it_is_called_with);
    ADD(tables_grow_meanwhile);
    ADD(more_than_one_wait_takes);
    ADD(hundred_thousand_events);
    ADD(each_thread_its_own_loop);
}

static void add_tests_of_calls(TCase *tcase, int i)
{
    ADD(timers_by_due_time);
    ADD(timers_due_together_in_the_order_of_their_start);
    ADD(timer_started_anew_or_stopped);
    ADD(timers_stopped_by_a_timer);
    ADD(timer_without_delay_starves_nobody);
    ADD(no_timer_is_early_in_a_busy_loop);
    ADD(waiting_for_a_timer_takes_one_round);
    ADD(any_number_of_milliseconds);
    ADD(hundred_thousand_timers);
    ADD(timers_cost_what_sorting_costs);
    ADD(descriptors_then_timers_then_deferred);
    ADD(deferred_by_a_deferred_call);
    ADD(deferred_twice_or_cancelled);
    ADD(cancelled_while_the_list_is_run);
    ADD(a_burst_is_one_call);
    ADD(several_wakeups);
    ADD(more_wakeups_than_the_pipe_holds);
    ADD(wakeup_removed_by_a_callback);
    ADD(hundred_thousand_sends_none_lost);
    ADD(what_was_written_before_is_seen);
    ADD(from_a_signal_handler);
    ADD(wait_that_fails);
    ADD(fewer_descriptors_than_are_watched);
    ADD(wakeup_whose_ring_is_lost);
    ADD(stopped_by_any_callback);
    ADD(stopped_by_a_wakeup);
    ADD(lag_shows_who_is_slow);
}

static Suite *loop_suite(void)
{
    Suite *suite = suite_create("loop");
    TCase *any = tcase_create("any");
    tcase_set_timeout(any, PLENTY);
    tcase_add_test(any, unknown_back_end);
    tcase_add_test(any, back_ends_are_named);
    tcase_add_test(any, clock_is_monotonic_nanoseconds);
    tcase_add_test(any, removing_needs_no_memory);
    suite_add_tcase(suite, any);
    for (int i = 0; i < backend_count; i++) {
        TCase *tcase = tcase_create(backends[i]);
        tcase_set_timeout(tcase, PLENTY);
        add_tests_of_descriptors(tcase, i);
        add_tests_of_calls(tcase, i);
        suite_add_tcase(suite, tcase);
    }
    return suite;
}

int main(void)
{
    raise_descriptor_limit();
    snprintf(names, sizeof names, "%s", loop_backends());
    for (char *name = strtok(names, ", "); name && backend_count < 8; name = strtok(NULL, ", "))
        backends[backend_count++] = name;
    SRunner *runner = srunner_create(loop_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
