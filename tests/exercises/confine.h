/*
 * Keeps a stranger's program from doing harm: it may hang, crash, fork without end, eat memory and
 * print without end, and nothing of it is left afterwards.
 *
 * On Linux all of its processes are found, whatever they do to hide: those whose parent has ended
 * become children of the supervisor (a subreaper). Run by root, the program gets a user of its own,
 * so that it cannot touch the files and processes of others. Elsewhere there are only the limits
 * of setrlimit().
 */
#ifndef CONFINE_H
#define CONFINE_H

#include <stdbool.h>
#include <sys/types.h>

struct confinement {
    bool roomy;          /* no limit to its address space: sanitizers reserve terabytes */
    bool perturb;        /* what is freed is overwritten (glibc), so that using it shows */
    long memory_mib;     /* that all its processes together may use */
    const char *scratch; /* the program's working directory */
    uid_t user;          /* which the program will be, if root runs it; else 0 */
};
extern struct confinement confinement;

/* Makes the calling process, which supervises, the one that inherits whatever loses its parent, and
 * chooses confinement.user. */
void confine_begin(void);

/* Confines the calling process, which is about to become the program. A process_prepare(). */
void confine_program(void);

/* Gives the folder, not what is in it, to the user that the program will be. */
void confine_give(const char *folder);

/* Why the processes below this one have to be stopped: too many of them, or too much memory. NULL
 * while they keep to their limits. */
const char *confine_violation(void);

/* Kills all processes below this one, and waits for them. */
void confine_sweep(void);

#endif
