/*
 * Coroutines on the loop: functions that stop in the middle of a line to wait, and let others run
 * meanwhile. Each one is stackful: it has a stack of its own, so it can wait from within any depth
 * of calls, and no function has to be marked async. Next to Python's asyncio:
 *
 *     async def f(x): ...                   static void f(void *x) { ... }
 *     task = asyncio.create_task(f(x))      task = co_start(loop, f, x);
 *     await asyncio.sleep(2)                co_sleep(2000);
 *     await asyncio.gather(first, second)   co_gather(tasks, 2);
 *     task.cancel()                         co_cancel(task);
 *     asyncio.run(main())                   co_run(loop, main_task, NULL);
 *
 * Only one coroutine runs at a time, until it waits: they need no locks, and one that computes or
 * blocks holds up all others. Each thread may have one loop with coroutines. What waits is to be
 * called from within a coroutine only, the rest from anywhere in the loop's thread.
 */
#ifndef COROUTINE_H
#define COROUTINE_H

#include "loop.h"

#include <sys/types.h>

/* Bytes of stack for each coroutine. Only what has been touched takes memory, a page at least. One
 * that needs more hits the guard page below and the program ends with SIGSEGV: large arrays belong
 * on the heap. */
enum { CO_STACK_SIZE = 64 * 1024 };

/* A Task: a coroutine that was started. Whoever started it owes it one co_gather() or co_detach();
 * after that the pointer is not to be used any more. */
struct task;

/* Has fn(arg) run as a coroutine, soon: not before the caller waits or returns to the loop. arg
 * belongs to the caller. Returns NULL with errno set (ENOMEM) when there is no room for a stack.
 * Linux counts two mappings a stack, and allows 65,530 (vm.max_map_count). */
struct task *co_start(struct loop *loop, void (*fn)(void *arg), void *arg);

/* Nobody will wait for it: it is freed when it has ended. NULL is allowed. */
void co_detach(struct task *task);

/* Waits until all have ended, and frees them. Each may be in one co_gather() only. Returns false if
 * one is NULL (it could not be started), or if the caller was cancelled: then all of them are, too,
 * and it returns when they have ended. */
bool co_gather(struct task *const tasks[], size_t count);

/* Lets others run for ms milliseconds, or until co_wake(). Returns false with errno ECANCELED or
 * ENOMEM. */
bool co_sleep(int64_t ms);

/* The caller's own task. */
struct task *co_current(void);

/* Ends the task's co_sleep(), if it is in one. */
void co_wake(struct task *task);

/* Waits until there is something, then reads what there is, at most size bytes. Returns how many; 0
 * at the end of file; -1 with errno set. It always gives way first, so somebody who never stops
 * sending does not starve the others. fd has to be non-blocking, here and below, and may be waited
 * for by one coroutine at a time. */
ssize_t co_read(int fd, void *bytes, size_t size);

/* Writes all of it, waiting whenever no more fits. Returns false with errno set when that is not
 * possible; some of it may have gone out. Ignore SIGPIPE if fd is a socket or pipe. */
bool co_write(int fd, const void *bytes, size_t length);

/* Waits for the next client. Returns its descriptor, non-blocking, which the caller closes; -1 with
 * errno set, say EMFILE. */
int co_accept(int listener);

/* Makes what the task waits for fail with errno ECANCELED, and all it waits for from then on: so it
 * comes to its end by itself, and closes and frees on its way what belongs to it. A coroutine must
 * not go on when its waits fail. */
void co_cancel(struct task *task);

/* Runs the loop until fn(arg), the first coroutine, has ended or loop_stop() was called; then
 * cancels all that are left and runs until they have ended. Returns 0, or -1 with errno set when
 * fn could not be started or the loop's wait failed. */
int co_run(struct loop *loop, void (*fn)(void *arg), void *arg);

#endif
