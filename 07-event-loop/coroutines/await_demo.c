/*
 * The article's a() and b(), line by line:
 *
 *     async def a():
 *         print("A: 시작")
 *         await asyncio.sleep(2)
 *         print("A: 끝")
 *     ...
 *     await asyncio.gather(a(), b())
 *
 * While one waits, the other runs. B sleeps for less and so ends first; together they take 2 s and
 * not 3.
 *
 *     cc -I.. -o await_demo await_demo.c coroutine.c ../loop.c ../backend_*.c
 */
#include "coroutine.h"

#include <stdio.h>

static void a(void *arg)
{
    (void)arg;
    puts("A: 시작");
    co_sleep(2000);
    puts("A: 끝");
}

static void b(void *arg)
{
    (void)arg;
    puts("B: 시작");
    co_sleep(1000);
    puts("B: 끝");
}

static void both(void *loop)
{
    struct task *tasks[] = {co_start(loop, a, NULL), co_start(loop, b, NULL)};
    co_gather(tasks, 2);
}

int main(void)
{
    struct loop *loop = loop_new(NULL);
    int64_t start = loop_clock();
    if (!loop || co_run(loop, both, loop) < 0) {
        perror("await_demo");
        return 1;
    }
    printf("%.1f s\n", (double)(loop_clock() - start) / 1e9);
    loop_free(loop);
    return 0;
}
