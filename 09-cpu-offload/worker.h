/*
 * The other side of the process pool: the helper process, and the workers it
 * forks.
 *
 * A fork() copies the whole process: its locks, held by threads that the copy
 * does not have, and its open sockets. So workers are not forked by the server
 * but by a helper: the same program, started once more, which has one thread
 * and no clients, and does nothing else. It can be started at any time, and
 * again.
 */
#ifndef WORKER_H
#define WORKER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What goes over a worker's socket, in either direction: a frame, then length
 * bytes. */
struct frame {
    uint32_t magic;  /* FRAME_MAGIC: whatever else this is, it is not a frame */
    uint32_t length; /* at most FRAME_MAX */
    uint64_t job;    /* which job it is about */
};
enum { FRAME_MAGIC = 0x4a4f4221, FRAME_MAX = 4096 };

/* What the server tells the helper, and what it is told. Together with a reply
 * that started a worker comes the server's end of the worker's socket
 * (SCM_RIGHTS, see unix(7)). */
struct order {
    int32_t what; /* 's': start a worker; 'k': kill the worker pid */
    int32_t pid;
};
struct reply {
    int32_t pid;   /* of the worker; -1: none could be started */
    int32_t error; /* then: why, an errno */
};

/* Does a job: reads length bytes at input, writes at most FRAME_MAX bytes to
 * output and returns how many. Called in a worker, where nobody else is: may
 * compute, block or crash. */
typedef size_t worker_function(const void *input, size_t length, void *output);

/* To be called first thing in main(). Returns, unless this process is to be the
 * helper: then it never does. (Python's `if __name__ == '__main__'` is there for
 * the same reason.) */
void helper_main(char **argv, worker_function *work);

/* Starts the helper, from a program with threads, too. What is open and not
 * close-on-exec, workers have as well, under the same number. Returns the socket
 * to give it orders by (blocking, close-on-exec), and its process id in *pid; -1
 * with errno set on failure. When that socket is closed, also because the server
 * was killed, the helper kills all workers and ends. */
int helper_start(pid_t *pid);

#endif
