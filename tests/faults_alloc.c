/*
 * Preloaded into a program (LD_PRELOAD): refuses it memory. In the environment, FAULT_FROM=N and
 * FAULT_COUNT=K: the Nth allocation and the K - 1 after it fail. FAULT_FILE names a file with two
 * numbers that all processes of the program share: how many allocations there were, and how many of
 * them were refused.
 */
#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier): RTLD_NEXT */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct counts {
    atomic_long allocations, refused;
};
static struct counts *counts; /* NULL before the program's own code runs: the loader gets all */
static long from, count;

__attribute__((constructor)) static void map_counts(void)
{
    const char *file = getenv("FAULT_FILE"), *first = getenv("FAULT_FROM"),
               *many = getenv("FAULT_COUNT");
    int fd = file && first && many ? open(file, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    from = strtol(first, NULL, 10);
    count = strtol(many, NULL, 10);
    void *shared = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (shared != MAP_FAILED)
        counts = shared;
}

static bool refuse(void)
{
    long number = counts ? atomic_fetch_add(&counts->allocations, 1) + 1 : 0;
    if (number < from || number >= from + count || !counts)
        return false;
    atomic_fetch_add(&counts->refused, 1);
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    static void *(*real)(size_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "malloc");
    return refuse() ? NULL : real(size);
}

void *calloc(size_t many, size_t size)
{
    static void *(*real)(size_t, size_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "calloc");
    return refuse() ? NULL : real(many, size);
}

void *realloc(void *old, size_t size)
{
    static void *(*real)(void *, size_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "realloc");
    return refuse() ? NULL : real(old, size);
}
