/*
 * The article's a() and b(), line by line. Each prints a line, waits, and prints another; gather
 * runs both at once, so together they take as long as the longer one.
 *
 *     cc -I.. -o await_demo await_demo.c coroutine.c ../loop.c ../backend_*.c
 */
#include "coroutine.h"

#include <stdio.h>

static void a(void *arg) /*             async def a():                  */
{
    (void)arg;
    puts("A: 시작"); /*                     print("A: 시작")            */
    co_sleep(2000);  /*                     await asyncio.sleep(2)      */
    puts("A: 끝");   /*                     print("A: 끝")              */
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
    if (!loop) {
        perror("loop_new");
        return 1;
    }
    int64_t start = loop_clock();
    int result = co_run(loop, both, loop);
    printf("%.1f s\n", (double)(loop_clock() - start) / 1e9);
    loop_free(loop);
    return result == 0 ? 0 : 1;
}
