/*
 * kqueue for Linux, as macOS and FreeBSD have it in <sys/event.h>. ../kqueue.c is what it is made
 * of, and tells all that is different. What a program has to know:
 * - A regular file cannot be watched: EINVAL.
 * - EVFILT_SIGNAL: signal() and sigaction() may come before or after EV_ADD, but not after the
 * first wait; then, add it again. A blocked signal is told when it is unblocked.
 * - A socket's error is in fflags as EIO. Which one it is, getsockopt(SO_ERROR) or recv() tell.
 */
#ifndef SYS_EVENT_H
#define SYS_EVENT_H

#include <stdint.h>
#include <time.h>

struct timespec; /* strict C99 has none in <time.h> */

struct kevent {
    uintptr_t ident; /* a descriptor, a signal's number, or any number of the program's own */
    int16_t filter;  /* what to watch there: EVFILT_... */
    uint16_t flags;  /* EV_... */
    uint32_t fflags; /* NOTE_..., by filter */
    intptr_t data;   /* by filter */
    void *udata;     /* the program's own, handed back with every event */
};

#define EV_SET(kevp, a, b, c, d, e, f)   \
    do {                                 \
        struct kevent *ev_set_ = (kevp); \
        ev_set_->ident = (uintptr_t)(a); \
        ev_set_->filter = (int16_t)(b);  \
        ev_set_->flags = (uint16_t)(c);  \
        ev_set_->fflags = (uint32_t)(d); \
        ev_set_->data = (intptr_t)(e);   \
        ev_set_->udata = (f);            \
    } while (0)

/* Filters. In an event, data is: */
#define EVFILT_READ (-1)   /* bytes to read; of a listening socket: clients that wait */
#define EVFILT_WRITE (-2)  /* bytes that there is room for */
#define EVFILT_SIGNAL (-6) /* how often the signal came since it was last told */
#define EVFILT_TIMER (-7)  /* how often it expired since; in a change: the period */
#define EVFILT_USER (-11)  /* what the last change said */

/* Actions */
#define EV_ADD 0x0001     /* add or modify, and enable */
#define EV_DELETE 0x0002  /* remove */
#define EV_ENABLE 0x0004  /* tell again */
#define EV_DISABLE 0x0008 /* watch, but do not tell */

/* Flags */
#define EV_ONESHOT 0x0010  /* delete it once it is told */
#define EV_CLEAR 0x0020    /* tell what is new, not what still holds */
#define EV_RECEIPT 0x0040  /* answer this change with an EV_ERROR event, data 0 if it was made */
#define EV_DISPATCH 0x0080 /* disable it once it is told */

/* In events only */
#define EV_ERROR 0x4000 /* the change failed; data is the errno */
#define EV_EOF 0x8000   /* the other side will not send (EVFILT_READ) or read (EVFILT_WRITE) */

/* fflags of EVFILT_TIMER: the unit of data, in place of milliseconds */
#define NOTE_SECONDS 0x00000001
#define NOTE_MSECONDS 0x00000002
#define NOTE_USECONDS 0x00000004
#define NOTE_NSECONDS 0x00000008

/* fflags of EVFILT_USER: ring, and what to do with the 24 bits that are the program's own */
#define NOTE_TRIGGER 0x01000000
#define NOTE_FFNOP 0x00000000
#define NOTE_FFAND 0x40000000
#define NOTE_FFOR 0x80000000U
#define NOTE_FFCOPY 0xc0000000U
#define NOTE_FFCTRLMASK 0xc0000000U
#define NOTE_FFLAGSMASK 0x00ffffff

/* Makes a queue. Returns its descriptor, to be closed with close(), or -1 with errno: EMFILE,
 * ENFILE, ENOMEM. */
int kqueue(void);

/* Makes the changes, then waits until something is to be told, at most for timeout (NULL: for
 * ever; {0, 0}: not at all), unless nevents is 0. Both lists may be the same array. Returns how
 * many events it stored, 0 when the time is over, or -1 with errno:
 *   EBADF   kq is not a kqueue, or ident not a descriptor
 *   EINTR   a signal handler ran; all changes have been made
 *   EINVAL  negative count, unknown filter or fflags, impossible timeout, period or signal, or a
 *           descriptor that cannot be watched (regular files)
 *   ENOENT  the event to be changed or deleted is not there
 *   ENOMEM  no memory or, for timers and user events, EMFILE: no descriptor
 * A failed change is told by an EV_ERROR event in place of -1 if there is room. Any thread may call
 * it for any queue at any time; but no thread may close the queue while another one uses it. */
int kevent(int kq, const struct kevent *changelist, int nchanges, struct kevent *eventlist,
           int nevents, const struct timespec *timeout);

#endif
