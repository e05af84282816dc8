/*
 * kqueue for Linux: how one interface for descriptors, timers, signals and threads can be built on
 * what Linux has, a descriptor for each kind of event and epoll to wait for descriptors.
 *
 *     EVFILT_READ, _WRITE  the descriptor itself: one epoll registration for both filters
 *     EVFILT_TIMER         a timerfd for each timer
 *     EVFILT_USER          an eventfd for each user event
 *     EVFILT_SIGNAL        an eventfd for each signal, which a signal handler writes to
 *
 * A kqueue is an epoll instance and a table of slots by descriptor. A slot holds the knotes: what
 * kqueue calls the entry for one (ident, filter) pair. epoll hands back the descriptor, so from
 * readiness to knote it is one step, and a change costs one epoll_ctl(). Timers, signals and user
 * events have idents of their own; a tree finds their descriptor.
 *
 * Every event is looked up anew when kevent() is called: nothing ready is kept between two calls.
 * So a closed descriptor, which the kernel takes out of the epoll instance, is never told. Its slot
 * is out of date then, and epoll_ctl() says so (ENOENT) when the number is used again.
 *
 * What is different from the real one, beside what <sys/event.h> says:
 * - kqueue() cannot see that the program closes its queue. Memory, timers, user events and signal
 *   handlers of a closed queue are kept until kqueue() is given the same number again.
 * - The kernel forgets a closed descriptor only when no other one (dup, fork) leads to the same
 *   open file. In such a program, EV_DELETE before close().
 * - A child process inherits the queue (not over exec), as any epoll instance; it must not use it.
 * - With both filters on one descriptor, EV_CLEAR may tell a filter again when the other has news,
 *   or when there was room for one event only.
 * - A time-out is rounded up to milliseconds.
 * - signalfd would be Linux's own way for signals, but it does not fit: it wants the signal blocked
 *   in every thread, sees two signals as one, keeps handlers from running, and its mask is handed
 *   down to child processes. A handler that passes each signal on to what was there before changes
 *   nothing else in the program, even when the queue has been closed.
 */
#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier): else musl hides struct tcp_info */
#include "sys/event.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <search.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { MAX_DESCRIPTORS = 1 << 20, PAGE_SLOTS = 1024 }; /* Linux's default ceiling (fs.nr_open) */
enum { BATCH = 256 };                                  /* taken from one epoll_wait() */
enum { FAR_AWAY = 1 << 30 }; /* seconds: no time-out is longer, so that sums cannot overflow */
enum { NS_PER_SECOND = 1000 * 1000 * 1000, NS_PER_MS = 1000 * 1000 };
enum { READ, WRITE }; /* the filters of a slot, and what of epoll's makes them ready: */
static const uint32_t readiness[] = {EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR,
                                     EPOLLOUT | EPOLLHUP | EPOLLERR};
enum { LASTING = EV_ADD | EV_ONESHOT | EV_CLEAR | EV_DISPATCH };

struct knote {
    void *udata;
    unsigned flags; /* LASTING ones and EV_DISABLE; 0: there is no such knote */
};

/* 48 bytes for a descriptor, all zero while nothing is watched. */
struct slot {
    struct knote knotes[2];
    struct source *source; /* for a descriptor of our own: the event behind its knotes[READ] */
    unsigned generation;   /* counts registrations: tells an event of an earlier one */
    bool registered;       /* as far as we know: close() ends it, too */
    bool write_first;      /* there was no room for it last time */
};

/* An event that is not a descriptor of the program. */
struct source {
    uintptr_t ident;
    int filter;
    int fd;
    unsigned fflags, seen; /* EVFILT_USER's flags; the signals already told */
    intptr_t data;
};

struct kqueue {
    int epoll;
    pthread_mutex_t lock; /* for all below; held while changing and telling, never while waiting */
    struct slot *pages[MAX_DESCRIPTORS / PAGE_SLOTS];
    void *sources;           /* a tree, see tsearch(3), ordered by filter and ident */
    uint64_t recent_signals; /* a bit for each that was added since the last wait */
};

static _Atomic(struct kqueue *) kqueues[MAX_DESCRIPTORS]; /* by descriptor */

/* --- knotes and epoll --- */

/* Returns NULL if there is no memory, or fd is beyond the table. */
static struct slot *slot_of(struct kqueue *kq, int fd)
{
    if (fd >= MAX_DESCRIPTORS)
        return NULL;
    struct slot **page = &kq->pages[fd / PAGE_SLOTS];
    if (!*page)
        *page = calloc(PAGE_SLOTS, sizeof **page);
    return *page ? &(*page)[fd % PAGE_SLOTS] : NULL;
}

static void slot_clear(struct slot *slot)
{
    *slot = (struct slot){.generation = slot->generation};
}

static bool is_enabled(const struct knote *knote)
{
    return (knote->flags & (EV_ADD | EV_DISABLE)) == EV_ADD;
}

/* epoll knows one trigger for both filters: edge, as soon as one of them wants it. */
static bool is_edge(const struct slot *slot)
{
    const struct knote *read = &slot->knotes[READ], *write = &slot->knotes[WRITE];
    return (is_enabled(read) && read->flags & EV_CLEAR) ||
           (is_enabled(write) && write->flags & EV_CLEAR);
}

/* Has epoll watch what the slot's knotes want, and look anew whether it is there. Returns 0 or an
 * errno; ENOENT: the descriptor has been closed since it was registered. */
static int watch(struct kqueue *kq, int fd, struct slot *slot)
{
    bool wanted = (slot->knotes[READ].flags | slot->knotes[WRITE].flags) & EV_ADD;
    int operation = !wanted ? EPOLL_CTL_DEL : slot->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    uint32_t events = is_enabled(&slot->knotes[READ]) ? EPOLLIN | EPOLLRDHUP : 0;
    if (is_enabled(&slot->knotes[WRITE]))
        events |= EPOLLOUT;
    /* epoll reports hang-ups and errors even if nothing is asked for: at least not again and again.
     * (Taken out of epoll, a disabled descriptor would not be missed when it is closed.) */
    if (!events || is_edge(slot))
        events |= EPOLLET;
    if (operation == EPOLL_CTL_ADD)
        slot->generation++;
    struct epoll_event event = {.events = events,
                                .data.u64 = (uint64_t)slot->generation << 32 | (uint32_t)fd};
    if (epoll_ctl(kq->epoll, operation, fd, &event) == 0) {
        slot->registered = wanted;
        return 0;
    }
    if (errno == EPERM || errno == ELOOP) /* a regular file; a queue in itself */
        return EINVAL;
    return errno == ENOSPC ? ENOMEM : errno;
}

static void knote_change(struct knote *knote, const struct kevent *change)
{
    if (change->flags & EV_ADD)
        knote->flags = change->flags & LASTING;
    if (change->flags & EV_DISABLE)
        knote->flags |= EV_DISABLE;
    if (change->flags & EV_ENABLE)
        knote->flags &= ~(unsigned)EV_DISABLE;
    if (change->flags & EV_DELETE)
        knote->flags = 0;
    knote->udata = change->udata; /* of every change: EV_ENABLE and NOTE_TRIGGER set it, too */
}

/* --- EVFILT_READ, EVFILT_WRITE --- */

static int change_descriptor(struct kqueue *kq, const struct kevent *change)
{
    int fd = (int)change->ident;
    if (change->ident > INT_MAX)
        return EBADF;
    if (change->fflags)
        return EINVAL;
    struct slot *slot = slot_of(kq, fd);
    if (!slot)
        return ENOMEM;
    struct slot changed = *slot; /* if epoll refuses, nothing has happened */
    struct knote *knote = &changed.knotes[change->filter == EVFILT_READ ? READ : WRITE];
    if (!knote->flags && !(change->flags & EV_ADD))
        return fcntl(fd, F_GETFD) < 0 ? EBADF : ENOENT;
    knote_change(knote, change);
    int error = watch(kq, fd, &changed);
    if (error == ENOENT && slot->registered) {
        slot_clear(slot); /* these were another file's knotes; they went when it was closed */
        return change_descriptor(kq, change);
    }
    if (!error)
        *slot = changed;
    return error;
}

static intptr_t bytes_to_read(int fd)
{
    int bytes;
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (ioctl(fd, FIONREAD, &bytes) == 0)
        return bytes;
    /* a listening socket: tcpi_unacked is then the length of its queue, see tcp_get_info() */
    if (errno == EINVAL && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0)
        return info.tcpi_unacked;
    return 1; /* the system does not tell */
}

static intptr_t room_to_write(int fd)
{
    int room, used;
    socklen_t size = sizeof room;
    if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, &size) < 0)
        return PIPE_BUF; /* no socket; a pipe takes that much at least, see pipe(7) */
    if (ioctl(fd, TIOCOUTQ, &used) < 0)
        used = 0;
    return room > used ? room - used : 0;
}

/* Which error it is, only getsockopt(SO_ERROR) or recv() tell, and to the first who asks: so that
 * is left to the program. */
static uint32_t socket_error(int fd, uint32_t ready)
{
    int type;
    socklen_t size = sizeof type;
    return ready & EPOLLERR && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 ? EIO : 0;
}

static void tell_descriptor(int fd, int filter, uint32_t ready, struct kevent *event)
{
    event->ident = (uintptr_t)fd;
    event->filter = filter == READ ? EVFILT_READ : EVFILT_WRITE;
    event->data = filter == READ ? bytes_to_read(fd) : room_to_write(fd);
    event->fflags = socket_error(fd, ready);
    if (ready & (filter == READ ? EPOLLRDHUP | EPOLLHUP : EPOLLHUP | EPOLLERR))
        event->flags |= EV_EOF;
}

/* --- EVFILT_SIGNAL --- */

/* A signal may be watched by any number of queues. All of them have its eventfd, edge-triggered;
 * nobody reads it. It is never closed, for a handler may be about to write to it in any thread. */
struct watched_signal {
    atomic_int eventfd;      /* 0: not made yet */
    atomic_uint count;       /* how often it came */
    struct sigaction before; /* what the program had set */
    int watchers;
};
static struct watched_signal signals[NSIG];
static pthread_mutex_t signals_lock = PTHREAD_MUTEX_INITIALIZER; /* for changes, not the handler */

static bool has_handler(const struct sigaction *action)
{
    return action->sa_flags & SA_SIGINFO ||
           (action->sa_handler != SIG_IGN && action->sa_handler != SIG_DFL);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    struct watched_signal *watched = &signals[number];
    int before = errno, fd = atomic_load(&watched->eventfd);
    atomic_fetch_add(&watched->count, 1);
    if (write(fd, &(uint64_t){1}, sizeof(uint64_t)) < 0) /* full, after 2^64 signals: */
        errno = before;                                  /* then it is readable anyway */
    errno = before;
    if (watched->before.sa_flags & SA_SIGINFO)
        watched->before.sa_sigaction(number, info, context);
    else if (has_handler(&watched->before))
        watched->before.sa_handler(number);
}

/* kqueue has the lower precedence. A signal that ends or stops the process does so, and nobody is
 * there to be told. And SIGCHLD ignored means that children leave no zombie: so it is left alone.
 */
static bool is_left_alone(int number, const struct sigaction *action)
{
    if (!has_handler(action) && action->sa_handler == SIG_IGN)
        return number == SIGCHLD;
    return !has_handler(action) && number != SIGCHLD && number != SIGURG && number != SIGWINCH &&
           number != SIGCONT;
}

static bool is_ours(const struct sigaction *action)
{
    return action->sa_flags & SA_SIGINFO && action->sa_sigaction == on_signal;
}

/* Puts on_signal() before what the program has set, unless it is there already. */
static void install_handler(int number)
{
    struct sigaction now, ours;
    pthread_mutex_lock(&signals_lock);
    if (sigaction(number, NULL, &now) == 0 && !is_ours(&now) && !is_left_alone(number, &now)) {
        signals[number].before = now;
        atomic_fetch_add(&signals[number].eventfd, 0); /* for a handler in another thread */
        ours = now;                                    /* with its mask and flags */
        ours.sa_flags =
            (has_handler(&now) ? now.sa_flags & ~(int)SA_RESETHAND : SA_RESTART) | SA_SIGINFO;
        ours.sa_sigaction = on_signal;
        sigaction(number, &ours, NULL);
    }
    pthread_mutex_unlock(&signals_lock);
}

/* Returns the signal's eventfd, or -1 with errno. */
static int signal_open(int number)
{
    struct watched_signal *watched = &signals[number];
    pthread_mutex_lock(&signals_lock);
    int fd = atomic_load(&watched->eventfd);
    if (fd == 0)
        fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd >= 0) {
        atomic_store(&watched->eventfd, fd);
        watched->watchers++;
    }
    pthread_mutex_unlock(&signals_lock);
    return fd;
}

static void signal_close(int number)
{
    struct sigaction now;
    pthread_mutex_lock(&signals_lock);
    if (--signals[number].watchers == 0 && sigaction(number, NULL, &now) == 0 && is_ours(&now))
        sigaction(number, &signals[number].before, NULL);
    pthread_mutex_unlock(&signals_lock);
}

/* --- EVFILT_TIMER, EVFILT_SIGNAL, EVFILT_USER --- */

static int compare_sources(const void *left, const void *right)
{
    const struct source *a = left, *b = right;
    if (a->filter != b->filter)
        return a->filter < b->filter ? -1 : 1;
    return a->ident < b->ident ? -1 : a->ident > b->ident;
}

/* Returns the descriptor that becomes readable with the event, or -1 with errno. */
static int source_open(const struct kevent *change)
{
    if (change->filter == EVFILT_SIGNAL)
        return signal_open((int)change->ident);
    if (change->filter == EVFILT_TIMER)
        return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

static void source_free(struct source *source)
{
    if (source->filter == EVFILT_SIGNAL)
        signal_close((int)source->ident);
    else
        close(source->fd);
    free(source);
}

/* Makes the source, without a knote yet. Returns NULL with errno. */
static struct source *source_add(struct kqueue *kq, const struct kevent *change)
{
    struct source *source = malloc(sizeof *source);
    if (!source)
        return NULL;
    *source = (struct source){.ident = change->ident, .filter = change->filter};
    source->fd = source_open(change);
    if (source->fd < 0) {
        free(source);
        return NULL;
    }
    struct slot *slot = slot_of(kq, source->fd);
    if (!slot || !tsearch(source, &kq->sources, compare_sources)) {
        source_free(source);
        errno = ENOMEM;
        return NULL;
    }
    slot_clear(slot); /* knotes of an earlier descriptor of that number, which has been closed */
    slot->source = source;
    if (source->filter == EVFILT_SIGNAL)
        source->seen = atomic_load(&signals[source->ident].count);
    return source;
}

static void source_remove(struct kqueue *kq, struct source *source)
{
    struct slot *slot = slot_of(kq, source->fd);
    slot->knotes[READ].flags = 0;
    watch(kq, source->fd, slot);
    slot_clear(slot);
    tdelete(source, &kq->sources, compare_sources);
    source_free(source);
}

/* Starts the timer anew, and drops what it has not told yet. Returns 0 or an errno. */
static int timer_start(int fd, const struct kevent *change)
{
    long second = 1000, period = change->data > 0 ? change->data : 1; /* 0: the shortest */
    if (change->fflags == NOTE_SECONDS)
        second = 1;
    else if (change->fflags == NOTE_USECONDS)
        second = 1000000;
    else if (change->fflags == NOTE_NSECONDS)
        second = NS_PER_SECOND;
    else if (change->fflags != 0 && change->fflags != NOTE_MSECONDS)
        return EINVAL;
    struct itimerspec timer = {.it_value.tv_sec = period / second};
    timer.it_value.tv_nsec = period % second * (NS_PER_SECOND / second);
    if (!(change->flags & EV_ONESHOT))
        timer.it_interval = timer.it_value;
    return change->data < 0 || timerfd_settime(fd, 0, &timer, NULL) < 0 ? EINVAL : 0;
}

static int user_change(struct source *source, const struct kevent *change)
{
    uint64_t one = 1;
    unsigned bits = change->fflags & NOTE_FFLAGSMASK;
    unsigned operation = change->fflags & NOTE_FFCTRLMASK;
    if (operation == NOTE_FFAND)
        source->fflags &= bits;
    else if (operation == NOTE_FFOR)
        source->fflags |= bits;
    else if (operation == NOTE_FFCOPY)
        source->fflags = bits;
    source->data = change->data;
    return change->fflags & NOTE_TRIGGER && write(source->fd, &one, sizeof one) < 0 ? errno : 0;
}

/* What a change means to the filter, beside its knote. Returns 0 or an errno. */
static int source_change(struct kqueue *kq, struct source *source, const struct kevent *change)
{
    if (source->filter == EVFILT_USER)
        return user_change(source, change);
    if (!(change->flags & EV_ADD))
        return 0;
    if (source->filter == EVFILT_TIMER)
        return timer_start(source->fd, change);
    install_handler((int)source->ident);
    kq->recent_signals |= (uint64_t)1 << (source->ident - 1);
    return 0;
}

/* signal() or sigaction() after EV_ADD take on_signal() away. So programs can do both in any order,
 * it is put back before the first wait. */
static void reinstall_handlers(struct kqueue *kq)
{
    pthread_mutex_lock(&kq->lock);
    for (int number = 1; kq->recent_signals; number++, kq->recent_signals >>= 1)
        if (kq->recent_signals & 1)
            install_handler(number);
    pthread_mutex_unlock(&kq->lock);
}

static int change_source(struct kqueue *kq, const struct kevent *change)
{
    if (change->filter == EVFILT_SIGNAL && (change->ident < 1 || change->ident >= NSIG))
        return EINVAL;
    struct source key = {.ident = change->ident, .filter = change->filter};
    struct source **found = tfind(&key, &kq->sources, compare_sources);
    struct source *source = found ? *found : NULL;
    if (!source && !(change->flags & EV_ADD))
        return ENOENT;
    if (source && change->flags & EV_DELETE) {
        source_remove(kq, source);
        return 0;
    }
    if (!source && !(source = source_add(kq, change)))
        return errno;
    struct slot *slot = slot_of(kq, source->fd);
    int error = source_change(kq, source, change);
    if (!error) {
        knote_change(&slot->knotes[READ], change);
        if (source->filter != EVFILT_USER)
            slot->knotes[READ].flags |= EV_CLEAR; /* by themselves, says the man page */
        error = watch(kq, source->fd, slot);
    }
    if (error && !found)
        source_remove(kq, source);
    return error;
}

/* Returns false if there is nothing to tell (any more). */
static bool tell_source(struct source *source, struct kevent *event)
{
    uint64_t count = 0;
    unsigned came;
    event->ident = source->ident;
    event->filter = (int16_t)source->filter;
    switch (source->filter) {
    case EVFILT_TIMER:
        event->data = read(source->fd, &count, sizeof count) < 0 ? 0 : (intptr_t)count;
        return event->data > 0;
    case EVFILT_SIGNAL:
        came = atomic_load(&signals[source->ident].count);
        event->data = came - source->seen;
        source->seen = came;
        return event->data > 0;
    default: /* EVFILT_USER: with EV_CLEAR, it is silent until it is triggered again */
        if (event->flags & EV_CLEAR && read(source->fd, &count, sizeof count) < 0)
            return false;
        event->data = source->data;
        event->fflags = source->fflags;
        return true;
    }
}

/* --- kqueue() and kevent() --- */

/* Frees what is left of a queue that the program has closed. */
static void kqueue_free(struct kqueue *kq)
{
    pthread_mutex_lock(&kq->lock);
    kq->epoll = -1;     /* the number is another queue's by now */
    while (kq->sources) /* a node of a tsearch() tree begins with what it holds */
        source_remove(kq, *(struct source **)kq->sources);
    for (int i = 0; i < MAX_DESCRIPTORS / PAGE_SLOTS; i++)
        free(kq->pages[i]);
    pthread_mutex_unlock(&kq->lock);
    pthread_mutex_destroy(&kq->lock);
    free(kq);
}

int kqueue(void)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0)
        return -1;
    struct kqueue *kq = fd < MAX_DESCRIPTORS ? calloc(1, sizeof *kq) : NULL;
    if (!kq) {
        close(fd);
        errno = ENOMEM;
        return -1;
    }
    kq->epoll = fd;
    pthread_mutex_init(&kq->lock, NULL);
    struct kqueue *closed = atomic_exchange(&kqueues[fd], kq);
    if (closed)
        kqueue_free(closed);
    return fd;
}

static int make_change(struct kqueue *kq, const struct kevent *change)
{
    if (change->filter == EVFILT_READ || change->filter == EVFILT_WRITE)
        return change_descriptor(kq, change);
    if (change->filter == EVFILT_TIMER || change->filter == EVFILT_SIGNAL ||
        change->filter == EVFILT_USER)
        return change_source(kq, change);
    return EINVAL;
}

/* Returns how many answers it stored, or -1 with errno for an error that did not find room. */
static int make_changes(struct kqueue *kq, const struct kevent *changes, int nchanges,
                        struct kevent *events, int nevents)
{
    int told = 0, error = 0;
    pthread_mutex_lock(&kq->lock);
    for (int i = 0; i < nchanges; i++) {
        struct kevent change = changes[i]; /* events may be the same array */
        error = make_change(kq, &change);
        if (!error && !(change.flags & EV_RECEIPT))
            continue;
        if (told == nevents)
            break;
        change.flags = EV_ERROR;
        change.data = error;
        events[told++] = change;
        error = 0;
    }
    pthread_mutex_unlock(&kq->lock);
    if (error)
        errno = error;
    return error ? -1 : told;
}

/* After a knote has been told. Returns whether epoll has to know. */
static bool knote_told(struct slot *slot, struct knote *knote)
{
    bool level = !(knote->flags & EV_CLEAR);
    if (knote->flags & EV_ONESHOT)
        knote->flags = 0;
    else if (knote->flags & EV_DISPATCH)
        knote->flags |= EV_DISABLE;
    else
        return level && is_edge(slot); /* it is to be told again if it still holds */
    return true;
}

/* Stores the events, at most room, that readiness of one descriptor means. Returns how many. */
static int tell(struct kqueue *kq, int fd, uint32_t ready, struct kevent *events, int room)
{
    struct slot *slot = slot_of(kq, fd);
    bool change = false, write_first = slot->write_first;
    int told = 0;
    for (int i = 0; i < 2; i++) {
        int filter = write_first ? !i : i;
        struct knote *knote = &slot->knotes[filter];
        struct kevent event = {.flags = knote->flags & (LASTING & ~EV_ADD), .udata = knote->udata};
        if (!is_enabled(knote) || !(ready & readiness[filter]))
            continue;
        if (told == room) {
            slot->write_first = filter == WRITE;
            change |= is_edge(slot); /* epoll would not say it again */
            break;
        }
        if (!slot->source)
            tell_descriptor(fd, filter, ready, &event);
        else if (!tell_source(slot->source, &event))
            continue;
        events[told++] = event;
        change |= knote_told(slot, knote);
    }
    if (slot->source && !slot->knotes[READ].flags)
        source_remove(kq, slot->source);
    else if (change)
        watch(kq, fd, slot); /* fails only if the descriptor has just been closed */
    return told;
}

static int tell_all(struct kqueue *kq, const struct epoll_event *ready, int nready,
                    struct kevent *events, int nevents)
{
    int told = 0;
    pthread_mutex_lock(&kq->lock);
    for (int i = 0; i < nready; i++) {
        int fd = (int)(ready[i].data.u64 & UINT32_MAX);
        /* another thread may have changed it while this one came back from waiting */
        if (slot_of(kq, fd)->generation == ready[i].data.u64 >> 32)
            told += tell(kq, fd, ready[i].events, events + told, nevents - told);
    }
    pthread_mutex_unlock(&kq->lock);
    return told;
}

/* When a time-out that starts now is over, in nanoseconds of the monotonic clock. */
static int64_t time_after(const struct timespec *timeout)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t seconds = timeout->tv_sec < FAR_AWAY ? timeout->tv_sec : FAR_AWAY;
    return (now.tv_sec + seconds) * NS_PER_SECOND + now.tv_nsec + timeout->tv_nsec;
}

/* Milliseconds until then, rounded up so that no wait ends early. */
static int time_left(int64_t end)
{
    int64_t ns = end - time_after(&(struct timespec){0});
    int64_t ms = (ns + NS_PER_MS - 1) / NS_PER_MS;
    return ns <= 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
}

static int wait_for_events(struct kqueue *kq, struct kevent *events, int nevents,
                           const struct timespec *timeout)
{
    int64_t end = timeout ? time_after(timeout) : 0;
    reinstall_handlers(kq);
    for (;;) { /* readiness may come to nothing: what it was about is gone, or not asked for */
        struct epoll_event ready[BATCH];
        int room = nevents < BATCH ? nevents : BATCH;
        int left = timeout ? time_left(end) : -1;
        int nready = epoll_wait(kq->epoll, ready, room, left);
        bool interrupted = nready < 0 && errno == EINTR;
        if (interrupted) /* perhaps by on_signal(), with an event for us */
            nready = epoll_wait(kq->epoll, ready, room, 0);
        if (nready < 0) {
            errno = errno == EINVAL ? EBADF : errno; /* closed, and now another descriptor */
            return -1;
        }
        int told = tell_all(kq, ready, nready, events, nevents);
        if (told == 0 && interrupted) {
            errno = EINTR;
            return -1;
        }
        if (told > 0 || left == 0)
            return told;
    }
}

int kevent(int kq_fd, const struct kevent *changelist, int nchanges, struct kevent *eventlist,
           int nevents, const struct timespec *timeout)
{
    if (nchanges < 0 || nevents < 0 ||
        (timeout &&
         (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= NS_PER_SECOND))) {
        errno = EINVAL;
        return -1;
    }
    struct kqueue *kq = kq_fd >= 0 && kq_fd < MAX_DESCRIPTORS ? atomic_load(&kqueues[kq_fd]) : NULL;
    if (!kq) {
        errno = EBADF;
        return -1;
    }
    int told = make_changes(kq, changelist, nchanges, eventlist, nevents);
    return told != 0 || nevents == 0 ? told : wait_for_events(kq, eventlist, nevents, timeout);
}
