/*
 * What 06 and 07 take for granted of kqueue: each filter, each flag, and what they do together.
 * Written against <sys/event.h> alone, so that macOS, FreeBSD and the chapter's own kqueue for
 * Linux can all be held to it.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/event.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 20 }; /* seconds after which what should come is taken for missing */

static int kq;
static char red[] = "red", blue[] = "blue"; /* to be told apart as udata */

static void open_queue(void)
{
    signal(SIGPIPE, SIG_IGN);
    kq = kqueue();
    ck_assert_msg(kq >= 0, "kqueue: %s", strerror(errno));
}

static void close_queue(void)
{
    close(kq);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void sleep_ms(long ms)
{
    double end = now() + (double)ms / 1e3;
    while (now() < end) /* a signal may end a sleep early */
        nanosleep(&(struct timespec){0, 1000000}, NULL);
}

static struct kevent change_of(int ident, int filter, int flags)
{
    struct kevent change;
    EV_SET(&change, (uintptr_t)ident, (int16_t)filter, (uint16_t)flags, 0, 0, NULL);
    return change;
}

static void apply(struct kevent change)
{
    ck_assert_msg(kevent(kq, &change, 1, NULL, 0, NULL) == 0, "ident %d, filter %d, flags %#x: %s",
                  (int)change.ident, change.filter, change.flags, strerror(errno));
}

static void set(int ident, int filter, int flags)
{
    apply(change_of(ident, filter, flags));
}

static void set_udata(int ident, int filter, int flags, void *udata)
{
    struct kevent change = change_of(ident, filter, flags);
    change.udata = udata;
    apply(change);
}

/* The errno with which a change fails; 0 if it does not. */
static int error_of(int ident, int filter, int flags)
{
    struct kevent change = change_of(ident, filter, flags);
    return kevent(kq, &change, 1, NULL, 0, NULL) < 0 ? errno : 0;
}

static int wait_for(struct kevent *events, int room, long ms)
{
    struct timespec timeout = {ms / 1000, ms % 1000 * 1000000};
    int count = kevent(kq, NULL, 0, events, room, &timeout);
    ck_assert_msg(count >= 0, "kevent: %s", strerror(errno));
    return count;
}

/* Waits for one event, which has to be this one. */
static struct kevent expect(int ident, int filter)
{
    struct kevent event = {0};
    ck_assert_msg(wait_for(&event, 1, PATIENCE * 1000L) == 1, "nothing of ident %d, filter %d",
                  ident, filter);
    ck_assert_int_eq((int)event.ident, ident);
    ck_assert_int_eq(event.filter, filter);
    ck_assert_int_eq(event.flags & EV_ERROR, 0);
    return event;
}

static void expect_nothing(void)
{
    struct kevent event = {0};
    ck_assert_msg(wait_for(&event, 1, 50) == 0, "ident %d, filter %d, flags %#x, data %d is told",
                  (int)event.ident, event.filter, event.flags, (int)event.data);
}

/* Waits until an event of the filter on fd has these flags and at least that much data. */
static struct kevent expect_until(int fd, int filter, int flags, intptr_t data)
{
    struct kevent event;
    double end = now() + PATIENCE;
    do {
        ck_assert_msg(now() < end, "flags %#x with data >= %d are never told", flags, (int)data);
        event = expect(fd, filter);
    } while ((event.flags & flags) != flags || event.data < data);
    return event;
}

static void make_pair(int pair[2])
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
}

static int listen_anywhere(struct sockaddr_in *address)
{
    socklen_t size = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert(fd >= 0 && bind(fd, (struct sockaddr *)address, size) == 0 && listen(fd, 16) == 0 &&
              getsockname(fd, (struct sockaddr *)address, &size) == 0);
    return fd;
}

static int connect_to(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert(fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) == 0);
    return fd;
}

static void make_tcp_pair(int pair[2])
{
    struct sockaddr_in address;
    int listener = listen_anywhere(&address);
    pair[0] = connect_to(&address);
    pair[1] = accept(listener, NULL, NULL);
    ck_assert_int_ge(pair[1], 0);
    close(listener);
}

static void send_text(int fd, const char *text)
{
    ck_assert_int_eq(write(fd, text, strlen(text)), (int)strlen(text));
}

static void drain(int fd)
{
    char bytes[4096];
    ck_assert_int_gt(read(fd, bytes, sizeof bytes), 0);
}

static size_t fill(int fd)
{
    static const char bytes[64 * 1024];
    size_t sent = 0;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (ssize_t n; (n = write(fd, bytes, sizeof bytes)) > 0; sent += (size_t)n)
        ;
    ck_assert_int_eq(errno, EAGAIN);
    return sent;
}

/* --- EVFILT_READ and EVFILT_WRITE --- */

START_TEST(read_tells_how_many_bytes_there_are)
{
    int pair[2];
    make_pair(pair);
    set_udata(pair[0], EVFILT_READ, EV_ADD, red);
    expect_nothing();
    send_text(pair[1], "hello");
    struct kevent event = expect(pair[0], EVFILT_READ);
    ck_assert_int_eq(event.data, 5);
    ck_assert_ptr_eq(event.udata, red);
    ck_assert_int_eq(event.flags & EV_EOF, 0);
    ck_assert_int_eq(expect(pair[0], EVFILT_READ).data, 5); /* level-triggered */
    drain(pair[0]);
    expect_nothing();
}
END_TEST

START_TEST(what_was_there_before_is_told)
{
    int pair[2];
    make_pair(pair);
    send_text(pair[1], "before");
    set(pair[0], EVFILT_READ, EV_ADD);
    ck_assert_int_eq(expect(pair[0], EVFILT_READ).data, 6);
}
END_TEST

START_TEST(listening_socket_tells_how_many_wait)
{
    struct sockaddr_in address;
    int listener = listen_anywhere(&address);
    set(listener, EVFILT_READ, EV_ADD);
    expect_nothing();
    for (int i = 0; i < 3; i++)
        connect_to(&address);
    expect_until(listener, EVFILT_READ, 0, 3);
    for (int left = 3; left > 0; left--) {
        ck_assert_int_eq(expect(listener, EVFILT_READ).data, left);
        ck_assert_int_ge(accept(listener, NULL, NULL), 0);
    }
    expect_nothing();
}
END_TEST

START_TEST(half_close_is_told_with_the_bytes_before_it)
{
    int pair[2];
    make_tcp_pair(pair);
    set(pair[0], EVFILT_READ, EV_ADD);
    send_text(pair[1], "hello");
    shutdown(pair[1], SHUT_WR);
    struct kevent event = expect_until(pair[0], EVFILT_READ, EV_EOF, 0);
    ck_assert_int_eq(event.data, 5);
    ck_assert_int_eq(event.fflags, 0);
    drain(pair[0]);
    event = expect(pair[0], EVFILT_READ);
    ck_assert_int_eq(event.data, 0);
    ck_assert(event.flags & EV_EOF);
    send_text(pair[0], "the other way is open"); /* and stays so */
}
END_TEST

START_TEST(reset_is_told_and_left_to_recv)
{
    int pair[2];
    char byte;
    make_tcp_pair(pair);
    set(pair[0], EVFILT_READ, EV_ADD);
    setsockopt(pair[1], SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1},
               sizeof(struct linger));
    close(pair[1]);
    struct kevent event = expect(pair[0], EVFILT_READ);
    ck_assert(event.flags & EV_EOF);
    ck_assert_int_ne(event.fflags, 0);
    ck_assert_int_eq(recv(pair[0], &byte, 1, 0), -1);
    ck_assert_int_eq(errno, ECONNRESET);
}
END_TEST

START_TEST(failed_connect_is_told_and_left_to_so_error)
{
    struct sockaddr_in address;
    int listener = listen_anywhere(&address), fd = socket(AF_INET, SOCK_STREAM, 0), error = 0;
    socklen_t size = sizeof error;
    close(listener);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno == ECONNREFUSED)
        return; /* so fast that there is nothing to wait for */
    set(fd, EVFILT_WRITE, EV_ADD);
    struct kevent event = expect(fd, EVFILT_WRITE);
    ck_assert(event.flags & EV_EOF);
    ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size), 0);
    ck_assert_int_eq(error, ECONNREFUSED);
}
END_TEST

START_TEST(write_tells_when_there_is_room)
{
    int pair[2];
    char bytes[64 * 1024];
    make_tcp_pair(pair);
    set(pair[0], EVFILT_WRITE, EV_ADD);
    intptr_t room = expect(pair[0], EVFILT_WRITE).data;
    ck_assert_int_gt(room, 0);
    /* the peer's kernel may go on taking bytes for a moment */
    size_t full = 0;
    for (int quiet = 0; quiet < 2; quiet = wait_for(&(struct kevent){0}, 1, 200) ? 0 : quiet + 1)
        full += fill(pair[0]);
    expect_nothing();
    for (size_t got = 0; got < full;) {
        ssize_t n = read(pair[1], bytes, sizeof bytes);
        ck_assert_int_gt(n, 0);
        got += (size_t)n;
    }
    ck_assert_int_gt(expect(pair[0], EVFILT_WRITE).data, 0);
}
END_TEST

START_TEST(pipe_tells_both_ends)
{
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    set(fds[0], EVFILT_READ, EV_ADD);
    set(fds[1], EVFILT_WRITE, EV_ADD | EV_ONESHOT);
    ck_assert_int_gt(expect(fds[1], EVFILT_WRITE).data, 0);
    send_text(fds[1], "abc");
    ck_assert_int_eq(expect(fds[0], EVFILT_READ).data, 3);
    close(fds[1]);
    struct kevent event = expect(fds[0], EVFILT_READ);
    ck_assert(event.flags & EV_EOF);
    ck_assert_int_eq(event.data, 3);
}
END_TEST

START_TEST(write_is_at_its_end_when_the_reader_leaves)
{
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    fill(fds[1]);
    set(fds[1], EVFILT_WRITE, EV_ADD);
    expect_nothing();
    close(fds[0]);
    ck_assert(expect(fds[1], EVFILT_WRITE).flags & EV_EOF);
}
END_TEST

START_TEST(two_filters_on_one_descriptor)
{
    int pair[2];
    struct kevent events[4];
    make_pair(pair);
    set_udata(pair[0], EVFILT_READ, EV_ADD, red);
    set_udata(pair[0], EVFILT_WRITE, EV_ADD, blue);
    ck_assert_ptr_eq(expect(pair[0], EVFILT_WRITE).udata, blue);
    send_text(pair[1], "x");
    ck_assert_int_eq(wait_for(events, 4, 1000), 2);
    bool swapped = events[0].filter == EVFILT_WRITE;
    ck_assert_ptr_eq(events[swapped].udata, red);
    ck_assert_ptr_eq(events[!swapped].udata, blue);
    ck_assert_int_eq(events[swapped].filter, EVFILT_READ);

    set(pair[0], EVFILT_WRITE, EV_DISABLE); /* each has a life of its own */
    ck_assert_ptr_eq(expect(pair[0], EVFILT_READ).udata, red);
    set(pair[0], EVFILT_READ, EV_DELETE);
    expect_nothing();
    ck_assert_int_eq(error_of(pair[0], EVFILT_READ, EV_DELETE), ENOENT);
    set_udata(pair[0], EVFILT_WRITE, EV_ENABLE, red);
    ck_assert_ptr_eq(expect(pair[0], EVFILT_WRITE).udata, red);
    set(pair[0], EVFILT_WRITE, EV_DELETE);
    expect_nothing();
}
END_TEST

/* With room for one event at a time, both filters get their turn. */
START_TEST(no_filter_crowds_out_the_other)
{
    int pair[2], reads = 0, writes = 0;
    struct kevent event;
    make_pair(pair);
    send_text(pair[1], "x");
    set(pair[0], EVFILT_READ, EV_ADD);
    set(pair[0], EVFILT_WRITE, EV_ADD);
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(wait_for(&event, 1, 1000), 1);
        *(event.filter == EVFILT_READ ? &reads : &writes) += 1;
    }
    ck_assert_int_ge(reads, 3);
    ck_assert_int_ge(writes, 3);
}
END_TEST

START_TEST(no_edge_is_lost_without_room)
{
    int pair[2], reads = 0, writes = 0;
    struct kevent event;
    make_pair(pair);
    send_text(pair[1], "x");
    set(pair[0], EVFILT_READ, EV_ADD | EV_CLEAR);
    set(pair[0], EVFILT_WRITE, EV_ADD | EV_CLEAR);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(wait_for(&event, 1, 1000), 1);
        *(event.filter == EVFILT_READ ? &reads : &writes) += 1;
    }
    ck_assert_int_eq(reads, 1);
    ck_assert_int_eq(writes, 1);
    drain(pair[0]);
    wait_for(&event, 1, 0); /* the chapter's kqueue may repeat one that was told for the other */
    expect_nothing();
}
END_TEST

START_TEST(one_ready_filter_is_not_told_for_two)
{
    int pair[2];
    make_pair(pair);
    fill(pair[0]);
    send_text(pair[1], "x");
    set(pair[0], EVFILT_READ, EV_ADD | EV_CLEAR);
    set(pair[0], EVFILT_WRITE, EV_ADD | EV_CLEAR);
    expect(pair[0], EVFILT_READ);
    expect_nothing();
}
END_TEST

/* --- flags --- */

START_TEST(add_again_modifies)
{
    int pair[2];
    make_pair(pair);
    send_text(pair[1], "x");
    set_udata(pair[0], EVFILT_READ, EV_ADD, red);
    set_udata(pair[0], EVFILT_READ, EV_ADD, blue);
    struct kevent events[4];
    ck_assert_int_eq(wait_for(events, 4, 1000), 1);
    ck_assert_ptr_eq(events[0].udata, blue);
}
END_TEST

START_TEST(disabled_is_not_told_until_enabled)
{
    int pair[2];
    make_pair(pair);
    set(pair[0], EVFILT_READ, EV_ADD | EV_DISABLE);
    send_text(pair[1], "x");
    expect_nothing();
    set(pair[0], EVFILT_READ, EV_ENABLE);
    expect(pair[0], EVFILT_READ);
    set(pair[0], EVFILT_READ, EV_DISABLE);
    expect_nothing();
    set(pair[0], EVFILT_READ, EV_ADD | EV_ENABLE);
    expect(pair[0], EVFILT_READ);
}
END_TEST

START_TEST(oneshot_is_told_once_and_gone)
{
    int pair[2];
    make_pair(pair);
    set(pair[0], EVFILT_READ, EV_ADD | EV_ONESHOT);
    set(pair[0], EVFILT_WRITE, EV_ADD | EV_DISABLE);
    send_text(pair[1], "x");
    ck_assert(expect(pair[0], EVFILT_READ).flags & EV_ONESHOT);
    expect_nothing();
    ck_assert_int_eq(error_of(pair[0], EVFILT_READ, EV_ENABLE), ENOENT);
    set(pair[0], EVFILT_WRITE, EV_ENABLE); /* the other filter is not concerned */
    expect(pair[0], EVFILT_WRITE);
}
END_TEST

START_TEST(dispatch_is_told_once_and_disabled)
{
    int pair[2];
    make_pair(pair);
    send_text(pair[1], "x");
    set(pair[0], EVFILT_READ, EV_ADD | EV_DISPATCH);
    expect(pair[0], EVFILT_READ);
    expect_nothing();
    set(pair[0], EVFILT_READ, EV_ENABLE | EV_DISPATCH);
    expect(pair[0], EVFILT_READ);
    expect_nothing();
    set(pair[0], EVFILT_READ, EV_DELETE); /* it was there all the time */
}
END_TEST

START_TEST(clear_tells_news_only)
{
    int pair[2];
    make_pair(pair);
    set(pair[0], EVFILT_READ, EV_ADD | EV_CLEAR);
    send_text(pair[1], "x");
    ck_assert_int_eq(expect(pair[0], EVFILT_READ).data, 1);
    expect_nothing();
    send_text(pair[1], "y");
    ck_assert_int_eq(expect(pair[0], EVFILT_READ).data, 2);
    expect_nothing();
    close(pair[1]);
    ck_assert(expect(pair[0], EVFILT_READ).flags & EV_EOF);
    expect_nothing();
}
END_TEST

/* One filter with EV_CLEAR, the other without: the latter is still repeated. */
START_TEST(clear_is_each_filters_own)
{
    int pair[2];
    struct kevent events[4];
    make_pair(pair);
    set(pair[0], EVFILT_READ, EV_ADD);
    set(pair[0], EVFILT_WRITE, EV_ADD | EV_CLEAR);
    expect(pair[0], EVFILT_WRITE);
    expect_nothing();
    send_text(pair[1], "x");
    for (int i = 0; i < 3; i++) {
        int count = wait_for(events, 4, 1000);
        ck_assert_int_ge(count, 1);
        ck_assert(events[0].filter == EVFILT_READ ||
                  (count == 2 && events[1].filter == EVFILT_READ));
    }
    drain(pair[0]);
    wait_for(events, 4, 0); /* EVFILT_WRITE may be told with the other one, but no more */
    expect_nothing();
}
END_TEST

START_TEST(receipt_answers_instead_of_events)
{
    int pair[2];
    make_pair(pair);
    send_text(pair[1], "x");
    struct kevent list[3] = {change_of(pair[0], EVFILT_READ, EV_ADD | EV_RECEIPT),
                             change_of(pair[1], EVFILT_READ, EV_DELETE | EV_RECEIPT),
                             change_of(pair[0], EVFILT_WRITE, EV_ADD | EV_RECEIPT)};
    ck_assert_int_eq(kevent(kq, list, 3, list, 3, NULL), 3); /* the same array for both */
    for (int i = 0; i < 3; i++)
        ck_assert(list[i].flags & EV_ERROR);
    ck_assert_int_eq(list[0].data, 0);
    ck_assert_int_eq(list[1].data, ENOENT);
    ck_assert_int_eq((int)list[1].ident, pair[1]);
    ck_assert_int_eq(list[2].data, 0);
    ck_assert_int_eq(list[2].filter, EVFILT_WRITE);
    ck_assert_int_eq(wait_for(list, 3, 1000), 2);
}
END_TEST

START_TEST(changes_and_events_in_one_call)
{
    int first[2], second[2];
    make_pair(first);
    make_pair(second);
    send_text(first[1], "x");
    send_text(second[1], "x");
    set(first[0], EVFILT_READ, EV_ADD);
    struct kevent list[2] = {change_of(first[0], EVFILT_READ, EV_DELETE),
                             change_of(second[0], EVFILT_READ, EV_ADD)};
    ck_assert_int_eq(kevent(kq, list, 2, list, 2, NULL), 1); /* the changes come first */
    ck_assert_int_eq((int)list[0].ident, second[0]);
}
END_TEST

/* --- errors --- */

START_TEST(errors_go_to_the_list_if_there_is_room)
{
    int pair[2];
    make_pair(pair);
    send_text(pair[1], "x");
    struct kevent list[2] = {change_of(pair[0], EVFILT_WRITE, EV_DELETE),
                             change_of(pair[0], EVFILT_READ, EV_ADD)};
    list[0].udata = red;
    ck_assert_int_eq(kevent(kq, list, 2, NULL, 0, NULL), -1);
    ck_assert_int_eq(errno, ENOENT);
    ck_assert_int_eq(kevent(kq, list, 2, list, 1, NULL), 1);
    ck_assert(list[0].flags & EV_ERROR);
    ck_assert_int_eq(list[0].data, ENOENT);
    ck_assert_int_eq((int)list[0].ident, pair[0]);
    ck_assert_ptr_eq(list[0].udata, red);
    expect(pair[0], EVFILT_READ); /* the change after it has been made */
}
END_TEST

START_TEST(every_error_has_its_number)
{
    int pair[2];
    struct kevent event;
    make_pair(pair);
    ck_assert_int_eq(error_of(pair[0], EVFILT_READ, EV_DELETE), ENOENT);
    ck_assert_int_eq(error_of(pair[0], EVFILT_READ, EV_ENABLE), ENOENT);
    ck_assert_int_eq(error_of(pair[0], 100, EV_ADD), EINVAL);
    ck_assert_int_eq(error_of(SIGUSR1, EVFILT_SIGNAL, EV_DELETE), ENOENT);
    ck_assert_int_eq(error_of(1, EVFILT_TIMER, EV_DELETE), ENOENT);
    ck_assert_int_eq(error_of(1, EVFILT_USER, 0), ENOENT);
    close(pair[0]);
    ck_assert_int_eq(error_of(pair[0], EVFILT_READ, EV_ADD), EBADF);
    ck_assert_int_eq(error_of(-1, EVFILT_READ, EV_ADD), EBADF);
    ck_assert_int_eq(kevent(-1, NULL, 0, &event, 1, NULL), -1);
    ck_assert_int_eq(errno, EBADF);
    ck_assert_int_eq(kevent(pair[1], NULL, 0, &event, 1, NULL), -1);
    ck_assert_int_eq(errno, EBADF);
    struct timespec wrong = {0, 2000000000};
    ck_assert_int_eq(kevent(kq, NULL, 0, &event, 1, &wrong), -1);
    ck_assert_int_eq(errno, EINVAL);
}
END_TEST

/* --- descriptors that come and go --- */

START_TEST(close_takes_events_away)
{
    int pair[2], next[2];
    struct kevent events[4];
    make_pair(pair);
    set_udata(pair[0], EVFILT_READ, EV_ADD, red);
    set_udata(pair[0], EVFILT_WRITE, EV_ADD, red);
    send_text(pair[1], "x");
    close(pair[0]); /* while both are ready to be told */
    expect_nothing();
    make_pair(next);
    ck_assert_int_eq(next[0], pair[0]); /* the same number */
    send_text(next[1], "y");
    expect_nothing();
    ck_assert_int_eq(error_of(next[0], EVFILT_READ, EV_ENABLE), ENOENT);
    ck_assert_int_eq(error_of(next[0], EVFILT_WRITE, EV_DELETE), ENOENT);
    set_udata(next[0], EVFILT_READ, EV_ADD, blue);
    ck_assert_int_eq(wait_for(events, 4, 1000), 1);
    ck_assert_int_eq(events[0].filter, EVFILT_READ);
    ck_assert_ptr_eq(events[0].udata, blue);
}
END_TEST

/* Of two changes, the second must not find what the first descriptor of that number has left. */
START_TEST(number_used_again_starts_anew)
{
    int pair[2], next[2];
    make_pair(pair);
    set(pair[0], EVFILT_READ, EV_ADD | EV_DISABLE);
    set(pair[0], EVFILT_WRITE, EV_ADD | EV_CLEAR);
    close(pair[0]);
    make_pair(next);
    ck_assert_int_eq(next[0], pair[0]);
    set(next[0], EVFILT_WRITE, EV_ADD);
    for (int i = 0; i < 3; i++)
        expect(next[0], EVFILT_WRITE);
    ck_assert_int_eq(error_of(next[0], EVFILT_READ, EV_DELETE), ENOENT);
}
END_TEST

/* The kernel's descriptor of a timer or a user event may have a number that a socket had. */
START_TEST(timer_after_a_closed_descriptor)
{
    int pair[2];
    make_pair(pair);
    set(pair[0], EVFILT_READ, EV_ADD);
    close(pair[0]);
    struct kevent timer = change_of(7, EVFILT_TIMER, EV_ADD | EV_ONESHOT);
    timer.data = 10;
    apply(timer);
    expect(7, EVFILT_TIMER);
    make_pair(pair);
    send_text(pair[1], "x");
    set(pair[0], EVFILT_READ, EV_ADD);
    expect(pair[0], EVFILT_READ);
}
END_TEST

START_TEST(closed_queue_leaves_nothing_to_the_next)
{
    int pair[2];
    make_pair(pair);
    send_text(pair[1], "x");
    int before = dup(0);
    close(before);
    for (int i = 0; i < 20; i++) {
        struct kevent timer = change_of(i, EVFILT_TIMER, EV_ADD);
        timer.data = 1;
        apply(timer);
        set(pair[0], EVFILT_READ, EV_ADD);
        set(SIGUSR1, EVFILT_SIGNAL, EV_ADD);
        close(kq);
        open_queue();
        ck_assert_int_eq(error_of(i, EVFILT_TIMER, EV_DELETE), ENOENT);
        ck_assert_int_eq(error_of(pair[0], EVFILT_READ, EV_DELETE), ENOENT);
    }
    expect_nothing();
    int next = dup(0);
    ck_assert_int_lt(next, before + 6); /* and no descriptor for each either */
}
END_TEST

START_TEST(hang_up_on_a_disabled_descriptor_costs_nothing)
{
    int pair[2];
    make_pair(pair);
    set(pair[0], EVFILT_READ, EV_ADD | EV_DISABLE);
    close(pair[1]);
    clock_t before = clock(); /* CPU time */
    double start = now();
    ck_assert_int_eq(wait_for(&(struct kevent){0}, 1, 500), 0);
    ck_assert_double_ge(now() - start, 0.5);
    ck_assert_msg(clock() - before < CLOCKS_PER_SEC / 5, "kevent() runs while it should sleep");
    set(pair[0], EVFILT_READ, EV_ENABLE);
    ck_assert(expect(pair[0], EVFILT_READ).flags & EV_EOF);
}
END_TEST

enum { MANY = 1000 };

START_TEST(a_thousand_descriptors)
{
    static int ends[MANY], told[MANY + 100];
    struct kevent events[64];
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = MANY + 100;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < MANY; i += 2) {
        make_pair(ends + i);
        set_udata(ends[i], EVFILT_READ, EV_ADD, &ends[i]);
        set_udata(ends[i + 1], EVFILT_READ, EV_ADD, &ends[i + 1]);
    }
    expect_nothing();
    for (int i = 0; i < MANY; i++)
        send_text(ends[i], "x");
    for (int left = MANY; left > 0;) { /* 64 at a time */
        int count = wait_for(events, 64, PATIENCE * 1000L);
        ck_assert_int_ge(count, 1);
        for (int i = 0; i < count; i++) {
            int fd = (int)events[i].ident;
            ck_assert_int_eq(*(int *)events[i].udata, fd);
            ck_assert_msg(!told[fd], "%d is told though it was drained", fd);
            told[fd] = 1;
            drain(fd);
        }
        left -= count;
    }
    expect_nothing();
}
END_TEST

/* --- time-outs --- */

START_TEST(time_out_is_never_early)
{
    static const long lengths[] = {1, 999999, 1500001, 30000000, 120000000}; /* nanoseconds */
    struct kevent event;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct timespec timeout = {0, lengths[i]};
        double start = now();
        ck_assert_int_eq(kevent(kq, NULL, 0, &event, 1, &timeout), 0);
        ck_assert_double_ge(now() - start, (double)lengths[i] / 1e9);
    }
    ck_assert_int_eq(kevent(kq, NULL, 0, &event, 1, &(struct timespec){0}), 0);
    ck_assert_int_eq(kevent(kq, NULL, 0, NULL, 0, NULL), 0); /* no room: no waiting */
}
END_TEST

static void do_nothing(int number)
{
    (void)number;
}

START_TEST(signal_handler_ends_the_wait)
{
    struct kevent event;
    struct sigaction action = {.sa_handler = do_nothing};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval alarm = {{0, 100000}, {0, 100000}};
    setitimer(ITIMER_REAL, &alarm, NULL);
    ck_assert_int_eq(kevent(kq, NULL, 0, &event, 1, NULL), -1);
    ck_assert_int_eq(errno, EINTR);
}
END_TEST

/* --- EVFILT_TIMER --- */

static void set_timer(int ident, int flags, unsigned unit, long period)
{
    struct kevent change;
    EV_SET(&change, (uintptr_t)ident, EVFILT_TIMER, (uint16_t)flags, unit, period, red);
    apply(change);
}

START_TEST(timer_repeats_and_counts)
{
    set_timer(1, EV_ADD, 0, 20);
    double start = now();
    struct kevent event = expect(1, EVFILT_TIMER);
    ck_assert_double_ge(now() - start, 0.019);
    ck_assert_ptr_eq(event.udata, red);
    ck_assert_int_ge(event.data, 1);
    ck_assert(event.flags & EV_CLEAR); /* set by itself, says the man page */
    sleep_ms(110);
    ck_assert_int_ge(expect(1, EVFILT_TIMER).data, 3); /* as many as were missed, in one event */
    expect(1, EVFILT_TIMER);
    set(1, EVFILT_TIMER, EV_DELETE);
    expect_nothing();
}
END_TEST

START_TEST(oneshot_timer_expires_once)
{
    set_timer(1, EV_ADD | EV_ONESHOT, 0, 10);
    ck_assert_int_eq(expect(1, EVFILT_TIMER).data, 1);
    expect_nothing();
    ck_assert_int_eq(error_of(1, EVFILT_TIMER, EV_DELETE), ENOENT);
    set_timer(1, EV_ADD | EV_ONESHOT, 0, 10);
    expect(1, EVFILT_TIMER);
}
END_TEST

START_TEST(timer_knows_units)
{
    const struct {
        unsigned unit;
        long period;
        double seconds;
    } timers[] = {{NOTE_SECONDS, 1, 1},
                  {NOTE_USECONDS, 30000, 0.03},
                  {NOTE_NSECONDS, 30000000, 0.03},
                  {0, 30, 0.03}};
    for (int i = 0; i < 4; i++) {
        double start = now();
        set_timer(i, EV_ADD | EV_ONESHOT, timers[i].unit, timers[i].period);
        expect(i, EVFILT_TIMER);
        ck_assert_double_ge(now() - start, timers[i].seconds - 0.001);
    }
    set_timer(9, EV_ADD | EV_ONESHOT, 0, 0); /* as soon as possible */
    expect(9, EVFILT_TIMER);
}
END_TEST

START_TEST(timer_added_again_starts_anew)
{
    set_timer(1, EV_ADD, 0, 3600 * 1000L);
    set_timer(1, EV_ADD | EV_ONESHOT, 0, 10);
    ck_assert_int_eq(expect(1, EVFILT_TIMER).data, 1);
    set_timer(2, EV_ADD, 0, 10);
    sleep_ms(50);
    set_timer(2, EV_ADD, 0, 3600 * 1000L); /* what it had to tell is dropped */
    expect_nothing();
}
END_TEST

START_TEST(timers_and_descriptors_do_not_meet)
{
    int pair[2];
    struct kevent change;
    make_pair(pair);
    set(pair[0], EVFILT_READ, EV_ADD);
    set_timer(pair[0], EV_ADD, 0, 3600 * 1000L);
    EV_SET(&change, UINTPTR_MAX, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, 10, blue);
    apply(change);
    struct kevent event;
    ck_assert_int_eq(wait_for(&event, 1, PATIENCE * 1000L), 1);
    ck_assert(event.ident == UINTPTR_MAX);
    ck_assert_ptr_eq(event.udata, blue);
    set(pair[0], EVFILT_TIMER, EV_DELETE);
    send_text(pair[1], "x");
    expect(pair[0], EVFILT_READ);
}
END_TEST

START_TEST(disabled_timer_goes_on)
{
    set_timer(1, EV_ADD | EV_DISABLE, 0, 10);
    expect_nothing();
    set(1, EVFILT_TIMER, EV_ENABLE);
    ck_assert_int_ge(expect(1, EVFILT_TIMER).data, 1);
}
END_TEST

/* --- EVFILT_SIGNAL --- */

static bool is_ignored(int number)
{
    struct sigaction action;
    sigaction(number, NULL, &action);
    return action.sa_handler == SIG_IGN;
}

START_TEST(ignored_signal_is_told_and_counted)
{
    sigset_t before, after;
    sigprocmask(SIG_SETMASK, NULL, &before);
    signal(SIGTERM, SIG_IGN);
    set_udata(SIGTERM, EVFILT_SIGNAL, EV_ADD, red);
    expect_nothing();
    for (int i = 0; i < 3; i++)
        kill(getpid(), SIGTERM);
    struct kevent event = expect(SIGTERM, EVFILT_SIGNAL);
    ck_assert_int_eq(event.data, 3);
    ck_assert_ptr_eq(event.udata, red);
    ck_assert(event.flags & EV_CLEAR); /* set by itself, says the man page */
    expect_nothing();
    kill(getpid(), SIGTERM);
    ck_assert_int_eq(expect(SIGTERM, EVFILT_SIGNAL).data, 1);

    kill(getpid(), SIGTERM);
    set(SIGTERM, EVFILT_SIGNAL, EV_DELETE);
    expect_nothing();
    set(SIGTERM, EVFILT_SIGNAL, EV_ADD); /* knows nothing of earlier ones */
    expect_nothing();
    set(SIGTERM, EVFILT_SIGNAL, EV_DELETE);
    ck_assert(is_ignored(SIGTERM)); /* as it was before */
    sigprocmask(SIG_SETMASK, NULL, &after);
    ck_assert_int_eq(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
    kill(getpid(), SIGTERM);
}
END_TEST

START_TEST(signal_may_be_ignored_after_it_is_added)
{
    set(SIGTERM, EVFILT_SIGNAL, EV_ADD);
    set(SIGUSR1, EVFILT_SIGNAL, EV_ADD | EV_ONESHOT);
    signal(SIGTERM, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    expect_nothing();
    kill(getpid(), SIGTERM);
    expect(SIGTERM, EVFILT_SIGNAL);
    kill(getpid(), SIGUSR1);
    expect(SIGUSR1, EVFILT_SIGNAL);
    kill(getpid(), SIGUSR1);
    expect_nothing();
}
END_TEST

static volatile sig_atomic_t handled;

static void count_signal(int number)
{
    (void)number;
    handled++;
}

START_TEST(handler_and_queue_both_get_the_signal)
{
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    set(SIGUSR1, EVFILT_SIGNAL, EV_ADD);
    kill(getpid(), SIGUSR1);
    expect(SIGUSR1, EVFILT_SIGNAL);
    ck_assert_int_eq(handled, 1);
    set(SIGUSR1, EVFILT_SIGNAL, EV_DELETE);
    kill(getpid(), SIGUSR1);
    ck_assert_int_eq(handled, 2);
    set(SIGUSR1, EVFILT_SIGNAL, EV_ADD);
    close(kq);
    kill(getpid(), SIGUSR1);
    ck_assert_int_eq(handled, 3);
    open_queue();
    kill(getpid(), SIGUSR1);
    ck_assert_int_eq(handled, 4);
    expect_nothing();
}
END_TEST

START_TEST(signal_ends_a_wait_in_progress)
{
    struct kevent event;
    signal(SIGUSR1, SIG_IGN);
    set(SIGUSR1, EVFILT_SIGNAL, EV_ADD);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        sleep_ms(100);
        kill(parent, SIGUSR1);
        _exit(0);
    }
    ck_assert_int_eq(kevent(kq, NULL, 0, &event, 1, NULL), 1);
    ck_assert_int_eq((int)event.ident, SIGUSR1);
    ck_assert_int_eq(event.data, 1);
    waitpid(child, NULL, 0);
}
END_TEST

START_TEST(child_is_told)
{
    set(SIGCHLD, EVFILT_SIGNAL, EV_ADD); /* which by default does nothing */
    pid_t child = fork();
    if (child == 0)
        _exit(3);
    int status;
    expect(SIGCHLD, EVFILT_SIGNAL);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(WEXITSTATUS(status), 3);
}
END_TEST

/* The filter has the lower precedence: what ends a process still does. */
START_TEST(default_action_is_done)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        signal(SIGTERM, SIG_DFL); /* the test framework has a handler */
        kq = kqueue();
        set(SIGTERM, EVFILT_SIGNAL, EV_ADD);
        kill(getpid(), SIGTERM);
        _exit(1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}
END_TEST

START_TEST(signal_goes_to_every_queue)
{
    int first = kq;
    struct kevent event, change = change_of(SIGUSR1, EVFILT_SIGNAL, EV_ADD);
    signal(SIGUSR1, SIG_IGN);
    apply(change);
    int second = kqueue();
    ck_assert_int_eq(kevent(second, &change, 1, NULL, 0, NULL), 0);
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR1);
    ck_assert_int_eq(expect(SIGUSR1, EVFILT_SIGNAL).data, 2);
    ck_assert_int_eq(kevent(second, NULL, 0, &event, 1, &(struct timespec){PATIENCE, 0}), 1);
    ck_assert_int_eq(event.data, 2);
    set(SIGUSR1, EVFILT_SIGNAL, EV_DELETE);
    kill(getpid(), SIGUSR1);
    expect_nothing();
    ck_assert_int_eq(kevent(second, NULL, 0, &event, 1, &(struct timespec){PATIENCE, 0}), 1);
    ck_assert_int_eq(event.data, 1);
    kq = first;
    close(second);
}
END_TEST

static void *wait_for_end(void *end)
{
    char byte;
    return read(*(int *)end, &byte, 1) < 0 ? end : NULL;
}

/* Threads that know nothing of signals do not swallow any. */
START_TEST(signal_is_told_beside_threads)
{
    int fds[2];
    pthread_t thread;
    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_end, &fds[0]), 0);
    signal(SIGUSR1, SIG_IGN);
    set(SIGUSR1, EVFILT_SIGNAL, EV_ADD);
    for (int i = 0; i < 20; i++) {
        kill(getpid(), SIGUSR1);
        expect(SIGUSR1, EVFILT_SIGNAL);
    }
    close(fds[1]);
    pthread_join(thread, NULL);
}
END_TEST

/* --- EVFILT_USER --- */

static void set_user(int flags, unsigned fflags)
{
    struct kevent change;
    EV_SET(&change, 5, EVFILT_USER, (uint16_t)flags, fflags, 0, red);
    apply(change);
}

START_TEST(user_event_is_told_when_triggered)
{
    set_user(EV_ADD | EV_CLEAR, 0);
    expect_nothing();
    set_user(0, NOTE_TRIGGER);
    set_user(0, NOTE_TRIGGER); /* twice is once */
    ck_assert_ptr_eq(expect(5, EVFILT_USER).udata, red);
    expect_nothing();
    set_user(EV_DISABLE, 0);
    set_user(0, NOTE_TRIGGER);
    expect_nothing();
    set_user(EV_ENABLE, 0);
    expect(5, EVFILT_USER);
    set_user(EV_DISABLE, 0);
    set_user(EV_ENABLE, 0);
    expect_nothing();
    set_user(EV_DELETE, 0);
    ck_assert_int_eq(error_of(5, EVFILT_USER, 0), ENOENT);
}
END_TEST

START_TEST(user_event_without_clear_stays)
{
    set_user(EV_ADD, 0);
    set_user(0, NOTE_TRIGGER);
    expect(5, EVFILT_USER);
    expect(5, EVFILT_USER);
    set_user(EV_DELETE, 0);
    set_user(EV_ADD | EV_ONESHOT, 0);
    expect_nothing();
    set_user(0, NOTE_TRIGGER);
    expect(5, EVFILT_USER);
    expect_nothing();
    ck_assert_int_eq(error_of(5, EVFILT_USER, 0), ENOENT);
}
END_TEST

START_TEST(user_event_keeps_flags)
{
    static const struct {
        unsigned operation, result;
    } steps[] = {{NOTE_FFCOPY | 0x0f0, 0x0f0},
                 {NOTE_FFNOP | 0xfff, 0x0f0},
                 {NOTE_FFOR | 0x00f, 0x0ff},
                 {NOTE_FFAND | 0x03c, 0x03c},
                 {NOTE_FFCOPY | 0x100, 0x100}};
    set_user(EV_ADD, NOTE_FFCOPY);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        set_user(0, NOTE_TRIGGER | steps[i].operation);
        ck_assert_int_eq(expect(5, EVFILT_USER).fflags & NOTE_FFLAGSMASK, steps[i].result);
    }
}
END_TEST

enum { ROUNDS = 500 };
static int answers[2]; /* a pipe */

static void *trigger_often(void *unused)
{
    struct kevent change;
    char byte;
    EV_SET(&change, 5, EVFILT_USER, 0, NOTE_TRIGGER, 0, red);
    for (int i = 0; i < ROUNDS; i++)
        if (kevent(kq, &change, 1, NULL, 0, NULL) < 0 || read(answers[0], &byte, 1) != 1)
            return answers;
    return unused;
}

START_TEST(another_thread_ends_the_wait)
{
    pthread_t thread;
    struct kevent event;
    void *failed;
    ck_assert_int_eq(pipe(answers), 0);
    set_user(EV_ADD | EV_CLEAR, 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, trigger_often, NULL), 0);
    for (int i = 0; i < ROUNDS; i++) { /* each ring is answered: none may be lost */
        ck_assert_int_eq(kevent(kq, NULL, 0, &event, 1, NULL), 1);
        ck_assert_int_eq(event.filter, EVFILT_USER);
        send_text(answers[1], "!");
    }
    pthread_join(thread, &failed);
    ck_assert_ptr_null(failed);
    expect_nothing();
}
END_TEST

static void *churn(void *unused)
{
    for (int i = 0; i < ROUNDS; i++) {
        int pair[2];
        struct kevent change;
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 || write(pair[1], "x", 1) != 1)
            return red;
        EV_SET(&change, (uintptr_t)pair[0], EVFILT_READ, EV_ADD, 0, 0, unused);
        kevent(kq, &change, 1, NULL, 0, NULL);
        close(pair[0]);
        close(pair[1]);
    }
    return NULL;
}

/* Descriptors and events come and go in one thread while another one waits. */
START_TEST(changes_during_a_wait)
{
    pthread_t thread;
    struct kevent events[8];
    ck_assert_int_eq(pthread_create(&thread, NULL, churn, blue), 0);
    set_timer(1, EV_ADD, 0, 1);
    double end = now() + 1;
    for (int i = 0; now() < end; i++) {
        int count = wait_for(events, 8, 100);
        for (int j = 0; j < count; j++)
            ck_assert_ptr_eq(events[j].udata, events[j].filter == EVFILT_TIMER ? red : blue);
        set_timer(2, i % 2 ? EV_ADD : EV_ADD | EV_ONESHOT, 0, 1);
    }
    void *failed;
    pthread_join(thread, &failed);
    ck_assert_ptr_null(failed);
}
END_TEST

static void add_filter_tests(TCase *group)
{
    const TTest *const tests[] = {read_tells_how_many_bytes_there_are,
                                  what_was_there_before_is_told,
                                  listening_socket_tells_how_many_wait,
                                  half_close_is_told_with_the_bytes_before_it,
                                  reset_is_told_and_left_to_recv,
                                  failed_connect_is_told_and_left_to_so_error,
                                  write_tells_when_there_is_room,
                                  pipe_tells_both_ends,
                                  write_is_at_its_end_when_the_reader_leaves,
                                  two_filters_on_one_descriptor,
                                  no_filter_crowds_out_the_other,
                                  no_edge_is_lost_without_room,
                                  one_ready_filter_is_not_told_for_two,
                                  add_again_modifies,
                                  disabled_is_not_told_until_enabled,
                                  oneshot_is_told_once_and_gone,
                                  dispatch_is_told_once_and_disabled,
                                  clear_tells_news_only,
                                  clear_is_each_filters_own,
                                  receipt_answers_instead_of_events,
                                  changes_and_events_in_one_call,
                                  errors_go_to_the_list_if_there_is_room,
                                  every_error_has_its_number,
                                  close_takes_events_away,
                                  number_used_again_starts_anew,
                                  timer_after_a_closed_descriptor,
                                  closed_queue_leaves_nothing_to_the_next,
                                  hang_up_on_a_disabled_descriptor_costs_nothing,
                                  a_thousand_descriptors,
                                  NULL};
    for (int i = 0; tests[i]; i++)
        tcase_add_test(group, tests[i]);
}

static void add_event_tests(TCase *group)
{
    const TTest *const tests[] = {time_out_is_never_early,
                                  signal_handler_ends_the_wait,
                                  timer_repeats_and_counts,
                                  oneshot_timer_expires_once,
                                  timer_knows_units,
                                  timer_added_again_starts_anew,
                                  timers_and_descriptors_do_not_meet,
                                  disabled_timer_goes_on,
                                  ignored_signal_is_told_and_counted,
                                  signal_may_be_ignored_after_it_is_added,
                                  handler_and_queue_both_get_the_signal,
                                  signal_ends_a_wait_in_progress,
                                  child_is_told,
                                  default_action_is_done,
                                  signal_goes_to_every_queue,
                                  signal_is_told_beside_threads,
                                  user_event_is_told_when_triggered,
                                  user_event_without_clear_stays,
                                  user_event_keeps_flags,
                                  another_thread_ends_the_wait,
                                  changes_during_a_wait,
                                  NULL};
    for (int i = 0; tests[i]; i++)
        tcase_add_test(group, tests[i]);
}

static Suite *kqueue_suite(void)
{
    Suite *suite = suite_create("kqueue");
    TCase *group = tcase_create("kqueue");
    tcase_set_timeout(group, 3 * PATIENCE);
    tcase_add_checked_fixture(group, open_queue, close_queue);
    suite_add_tcase(suite, group);
    add_filter_tests(group);
    add_event_tests(group);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(kqueue_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
