/*
 * The stacks that coroutines run on, and how to get from one to another. For coroutine.c only,
 * which can be understood without this file: stack_switch() leaves one function in the middle and
 * goes on in the middle of another.
 *
 * ucontext does it: old, no longer in POSIX, but in glibc, macOS and the BSDs (musl has none). As
 * it also changes the signal mask, which takes a system call, there and back is 0.5 us. A dozen
 * lines of assembly, other ones for each kind of CPU, would do it in 0.015 us, and save about a
 * tenth of what a message costs await_echo.
 */
#ifndef STACK_H
#define STACK_H

#include <stdbool.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

/* The sanitizers follow what is on the stack, and have to be told when it is another one. */
#if defined(__SANITIZE_ADDRESS__)
#define TELL_ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define TELL_TSAN 1
#elif defined(__has_feature) /* clang */
#if __has_feature(address_sanitizer)
#define TELL_ASAN 1
#elif __has_feature(thread_sanitizer)
#define TELL_TSAN 1
#endif
#endif
#if TELL_ASAN
#include <sanitizer/common_interface_defs.h>
#elif TELL_TSAN
#include <sanitizer/tsan_interface.h>
#endif

struct stack {
    ucontext_t context; /* the registers, as they were when it was left */
    const void *lowest; /* its lowest address */
    size_t size;        /* in bytes */
    void *note;         /* a sanitizer's */
    bool left;          /* for AddressSanitizer: it has been left since the last getcontext() */
};

/* Below each stack lies a page that must not be touched: a stack that grows too far (they grow
 * down) ends the program, and does not destroy what happens to lie there. */
static char *stack_map(size_t size, size_t guard)
{
    char *pages = mmap(NULL, guard + size, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (pages == MAP_FAILED)
        return NULL;
    if (mprotect(pages + guard, size, PROT_READ | PROT_WRITE) < 0) {
        munmap(pages, guard + size);
        return NULL;
    }
    return pages + guard;
}

/* Makes a stack, of whole pages, on which entry() starts at the first switch; it must not return.
 * Returns false with errno set. */
static bool stack_make(struct stack *stack, size_t size, void (*entry)(void))
{
    char *lowest = stack_map(size, (size_t)sysconf(_SC_PAGESIZE));
    if (!lowest)
        return false;
    stack->lowest = lowest;
    stack->size = size;
    getcontext(&stack->context);
    stack->context.uc_stack.ss_sp = lowest;
    stack->context.uc_stack.ss_size = size;
    makecontext(&stack->context, entry, 0);
#if TELL_TSAN
    stack->note = __tsan_create_fiber(0);
#endif
    return true;
}

/* Not the stack that is in use. */
static void stack_free(struct stack *stack)
{
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    munmap((char *)stack->context.uc_stack.ss_sp - guard, guard + stack->size);
#if TELL_TSAN
    __tsan_destroy_fiber(stack->note);
#endif
}

/* Notes in `from` where we are, and goes on where `to` was left. Returns when somebody switches
 * back; never, if this is for good. */
static void stack_switch(struct stack *from, struct stack *to, bool for_good)
{
    (void)for_good;
#if TELL_ASAN
    __sanitizer_start_switch_fiber(for_good ? NULL : &from->note, to->lowest, to->size);
    /* swapcontext() in its two steps, for AddressSanitizer warns of that one even if it was told.
     * getcontext() returns twice, as setjmp() does: now, and when somebody switches back. */
    from->left = false;
    getcontext(&from->context);
    if (!from->left) {
        from->left = true;
        setcontext(&to->context);
    }
    __sanitizer_finish_switch_fiber(from->note, NULL, NULL);
#else
#if TELL_TSAN
    from->note = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to->note, 0);
#endif
    swapcontext(&from->context, &to->context);
#endif
}

/* What entry() has to call first. came_from: where the switch came from. */
static void stack_entered(struct stack *came_from)
{
    (void)came_from;
#if TELL_ASAN
    __sanitizer_finish_switch_fiber(NULL, &came_from->lowest, &came_from->size);
#endif
}

#endif
