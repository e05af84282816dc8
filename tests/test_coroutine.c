/*
 * The coroutines of chapter 07, and await_demo: that of this build, which the environment may place
 * elsewhere (IN). What happens is told in a story, a letter for each event, so that a test can ask
 * for the order.
 */
#include "coroutines/coroutine.h"
#include "harness.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PLENTY = 120 /* seconds a test may take on a slow, busy machine */ };

static char demo[512]; /* the path of await_demo */
static bool sanitized;
static struct loop *loop;
static char story[256];
static struct task *started; /* by a test, for its coroutines */

static void tell(char event)
{
    size_t length = strlen(story);
    ck_assert(length + 1 < sizeof story);
    story[length] = event;
}

/* Lets the others run until the story has that many letters. */
static void wait_for_story(size_t length)
{
    while (strlen(story) < length)
        ck_assert(co_sleep(1));
}

static void make_loop(void)
{
    loop = loop_new(NULL);
    ck_assert_ptr_nonnull(loop);
    story[0] = '\0';
}

static void free_loop(void)
{
    loop_free(loop);
}

static void run(void (*fn)(void *arg), void *arg)
{
    ck_assert_int_eq(co_run(loop, fn, arg), 0);
}

static void nonblocking_pair(int fds[2])
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(fcntl(fds[i], F_SETFL, O_NONBLOCK), 0);
}

static void close_pair(const int fds[2])
{
    close(fds[0]);
    close(fds[1]);
}

/* --- start, sleep, gather --- */

struct sleeper {
    char name;
    int ms;
};

static void sleep_once(void *arg)
{
    const struct sleeper *sleeper = arg;
    int64_t start = loop_clock();
    tell(sleeper->name);
    ck_assert(co_sleep(sleeper->ms));
    ck_assert_msg(loop_clock() - start >= sleeper->ms * 1000000LL, "woken early");
    tell((char)(sleeper->name - 'A' + 'a'));
}

static void gather_sleepers(void *arg)
{
    struct task *tasks[8];
    size_t count = 0;
    for (struct sleeper *sleeper = arg; sleeper->name; sleeper++)
        tasks[count++] = co_start(loop, sleep_once, sleeper);
    tell('(');
    ck_assert(co_gather(tasks, count));
    tell(')');
}

START_TEST(gather_waits_for_all)
{
    struct sleeper sleepers[] = {{'A', 500}, {'B', 10}, {0, 0}};
    run(gather_sleepers, sleepers);
    ck_assert_str_eq(story, "(ABba)");
}
END_TEST

START_TEST(shorter_sleeps_end_first)
{
    struct sleeper sleepers[] = {{'A', 300}, {'B', 0}, {'C', 400}, {'D', 100}, {'E', 200}, {0, 0}};
    run(gather_sleepers, sleepers);
    ck_assert_str_eq(story, "(ABCDEbdeac)");
}
END_TEST

START_TEST(equal_sleeps_end_in_order)
{
    struct sleeper sleepers[] = {{'A', 5}, {'B', 5}, {'C', 5}, {'D', 5}, {'E', 5}, {0, 0}};
    run(gather_sleepers, sleepers);
    ck_assert_str_eq(story, "(ABCDEabcde)");
}
END_TEST

static void count_up(void *arg)
{
    ck_assert(co_sleep(1));
    ++*(int *)arg;
}

static void gather_thousand(void *arg)
{
    static struct task *tasks[1000];
    for (int i = 0; i < 1000; i++)
        ck_assert_ptr_nonnull(tasks[i] = co_start(loop, count_up, arg));
    ck_assert(co_gather(tasks, 1000));
    ck_assert_int_eq(*(int *)arg, 1000);
}

START_TEST(a_thousand_at_once)
{
    int count = 0;
    run(gather_thousand, &count);
    ck_assert_int_eq(count, 1000);
}
END_TEST

struct node {
    int depth, below; /* below: how many coroutines this one and those it started were */
};

static void start_two_more(void *arg)
{
    struct node *node = arg, children[2] = {{node->depth - 1, 0}, {node->depth - 1, 0}};
    if (node->depth > 0) {
        struct task *tasks[] = {co_start(loop, start_two_more, &children[0]),
                                co_start(loop, start_two_more, &children[1])};
        ck_assert(co_gather(tasks, 2));
    }
    node->below = 1 + children[0].below + children[1].below;
}

START_TEST(coroutines_start_coroutines)
{
    struct node root = {6, 0};
    run(start_two_more, &root);
    ck_assert_int_eq(root.below, 127);
}
END_TEST

static void gather_late(void *arg)
{
    (void)arg;
    struct task *tasks[] = {co_start(loop, sleep_once, &(struct sleeper){'A', 0}), NULL};
    ck_assert(co_gather(tasks, 0));
    wait_for_story(2); /* A has ended */
    ck_assert_msg(!co_gather(tasks, 2), "one of them was never started");
    tell('.');
}

START_TEST(gather_of_ended_and_missing)
{
    run(gather_late, NULL);
    ck_assert_str_eq(story, "Aa.");
}
END_TEST

static void detach_both(void *arg)
{
    struct task *early = co_start(loop, sleep_once, arg), *late = co_start(loop, sleep_once, arg);
    co_detach(early);
    wait_for_story(4);
    co_detach(late);
    co_detach(NULL);
}

START_TEST(detached_are_freed) /* the sanitizer looks */
{
    run(detach_both, &(struct sleeper){'A', 0});
    ck_assert_str_eq(story, "AAaa");
}
END_TEST

/* --- the stack --- */

/* The sum of 1 to depth, each level's variables kept across a wait at the very bottom. */
static int sum_to(int depth)
{
    volatile int here = depth;
    if (depth == 0) {
        ck_assert(co_sleep(1));
        tell('.');
        return 0;
    }
    return sum_to(depth - 1) + here;
}

static void sum_deep(void *arg)
{
    *(int *)arg = sum_to(*(int *)arg);
}

static void sum_two(void *arg)
{
    int *sums = arg;
    struct task *tasks[] = {co_start(loop, sum_deep, &sums[0]), co_start(loop, sum_deep, &sums[1])};
    ck_assert(co_gather(tasks, 2));
}

START_TEST(waits_deep_inside_calls)
{
    int sums[] = {100, 90};
    run(sum_two, sums);
    ck_assert_int_eq(sums[0], 5050);
    ck_assert_int_eq(sums[1], 4095);
    ck_assert_str_eq(story, "..");
}
END_TEST

static void use_most_of_the_stack(void *arg)
{
    volatile char bytes[CO_STACK_SIZE * 3 / 4];
    for (size_t i = 0; i < sizeof bytes; i += 64)
        bytes[i] = 1;
    ck_assert(co_sleep(1));
    *(bool *)arg = bytes[0] == 1;
}

START_TEST(stack_is_as_large_as_promised)
{
    bool intact = false;
    run(use_most_of_the_stack, &intact);
    ck_assert(intact);
}
END_TEST

/* Calls itself until it has used that much stack. */
static int recurse(size_t left, const volatile char *above)
{
    volatile char bytes[256];
    bytes[0] = above[0];
    return left < sizeof bytes ? 0 : recurse(left - sizeof bytes, bytes) + bytes[0];
}

static void overflow(void *arg)
{
    *(int *)arg = recurse(CO_STACK_SIZE, "x");
}

static void overflow_beside_others(void *arg)
{
    struct task *tasks[5];
    for (int i = 0; i < 5; i++) /* the system lays them one below the other */
        tasks[i] = co_start(loop, i == 2 ? overflow : count_up, arg);
    co_gather(tasks, 5);
}

START_TEST(overflow_ends_the_program)
{
    int status, result = 0;
    if (sanitized)
        return; /* the sanitizers have a report of their own */
    if (fork() == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        co_run(loop, overflow_beside_others, &result);
        _exit(0);
    }
    ck_assert(wait(&status) > 0);
    ck_assert(WIFSIGNALED(status));
    ck_assert(WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS);
}
END_TEST

/* Two mappings each: were they not given back, Linux would soon allow no more. */
static void run_forty_thousand(void *arg)
{
    struct task *tasks[100];
    for (int i = 0; i < (sanitized ? 20 : 400); i++) {
        for (int j = 0; j < 100; j++)
            ck_assert_ptr_nonnull(tasks[j] = co_start(loop, count_up, arg));
        ck_assert(co_gather(tasks, 100));
    }
}

START_TEST(stacks_are_given_back)
{
    int count = 0;
    long before = process_memory_kib(getpid());
    run(run_forty_thousand, &count);
    ck_assert_int_eq(count, sanitized ? 2000 : 40000);
    long grown = process_memory_kib(getpid()) - before;
    ck_assert_msg(before < 0 || sanitized || grown < 4096, "%ld KiB are still held", grown);
}
END_TEST

START_TEST(no_room_for_a_stack)
{
    if (sanitized)
        return; /* they need the address space themselves */
    struct rlimit limit;
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = 1 << 20; /* less than is in use already */
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
    errno = 0;
    bool failed = !co_start(loop, count_up, NULL) && errno == ENOMEM;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_AS, &limit);
    ck_assert(failed);
}
END_TEST

/* --- descriptors --- */

enum { LONG = 4 << 20 };
static char long_bytes[LONG];

static void write_long(void *arg)
{
    int fd = *(int *)arg;
    tell('w');
    ck_assert(co_write(fd, long_bytes, LONG));
    tell('W');
    close(fd);
}

static void read_long(void *arg)
{
    int fd = *(int *)arg;
    char bytes[1000];
    size_t length = 0;
    ssize_t n;
    tell('r');
    while ((n = co_read(fd, bytes, sizeof bytes)) > 0) {
        ck_assert_msg(memcmp(bytes, long_bytes + length, (size_t)n) == 0, "other bytes");
        length += (size_t)n;
    }
    ck_assert_int_eq(n, 0);
    ck_assert_uint_eq(length, LONG);
    tell('R');
    close(fd);
}

static void write_and_read(void *arg)
{
    int *fds = arg;
    struct task *tasks[] = {co_start(loop, write_long, &fds[0]),
                            co_start(loop, read_long, &fds[1])};
    ck_assert(co_gather(tasks, 2));
}

/* More than fits between them: the writer has to wait, and yet all is written by one call. */
START_TEST(long_write_is_taken_in_parts)
{
    int fds[2];
    nonblocking_pair(fds);
    for (size_t i = 0; i < LONG; i++)
        long_bytes[i] = (char)(i * 31 + i / 251);
    run(write_and_read, fds);
    ck_assert_str_eq(story, "wrWR");
}
END_TEST

enum { PAIRS = 26 };
static int pairs[PAIRS][2];

static void read_one(void *arg)
{
    char byte;
    ck_assert_int_eq(co_read(*(int *)arg, &byte, 1), 1);
    tell(byte);
}

static void write_backwards(void *arg)
{
    (void)arg;
    struct task *tasks[PAIRS];
    for (int i = 0; i < PAIRS; i++)
        tasks[i] = co_start(loop, read_one, &pairs[i][0]);
    for (int i = PAIRS; i-- > 0;) {
        co_sleep(2); /* more than a round: somebody else's turn */
        ck_assert(co_write(pairs[i][1], &"ABCDEFGHIJKLMNOPQRSTUVWXYZ"[i], 1));
    }
    ck_assert(co_gather(tasks, PAIRS));
}

START_TEST(each_waits_for_its_own_descriptor)
{
    for (int i = 0; i < PAIRS; i++)
        nonblocking_pair(pairs[i]);
    run(write_backwards, NULL);
    ck_assert_str_eq(story, "ZYXWVUTSRQPONMLKJIHGFEDCBA");
    for (int i = 0; i < PAIRS; i++)
        close_pair(pairs[i]);
}
END_TEST

/* What was watched must not be any more: neither while nobody waits for it, nor when its number has
 * a new owner. */
static void read_sleep_read(void *arg)
{
    (void)arg;
    int fds[2], first;
    nonblocking_pair(fds);
    first = fds[0];
    ck_assert(co_write(fds[1], "12", 2));
    read_one(&fds[0]);
    sleep_once(&(struct sleeper){'A', 50}); /* not woken by what is left to read */
    close_pair(fds);
    nonblocking_pair(fds);
    ck_assert_int_eq(fds[0], first);
    ck_assert(co_write(fds[1], "3", 1));
    read_one(&fds[0]);
    close_pair(fds);
}

START_TEST(watched_only_while_waited_for)
{
    run(read_sleep_read, NULL);
    ck_assert_str_eq(story, "1Aa3");
}
END_TEST

static void accept_and_echo(void *arg)
{
    char byte;
    int fd = co_accept(*(int *)arg);
    ck_assert_int_ge(fd, 0);
    ck_assert_msg(fcntl(fd, F_GETFL) & O_NONBLOCK, "accepted, but blocking");
    while (co_read(fd, &byte, 1) == 1)
        ck_assert(co_write(fd, &byte, 1));
    close(fd);
}

START_TEST(accepts)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0), status;
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    ck_assert(fcntl(listener, F_SETFL, O_NONBLOCK) == 0 && listen(listener, 5) == 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    if (fork() == 0) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        sleep_for(0.1); /* let it wait */
        bool done = connect(fd, (struct sockaddr *)&address, size) == 0 && client_echo(fd, "hello");
        _exit(done ? 0 : 1);
    }
    run(accept_and_echo, &listener);
    ck_assert(wait(&status) > 0 && status == 0);
    close(listener);
}
END_TEST

static void read_and_write_wrongly(void *arg)
{
    (void)arg;
    char byte = 'x';
    ck_assert(co_read(-1, &byte, 1) == -1 && errno == EBADF);
    ck_assert(!co_write(-1, &byte, 1) && errno == EBADF);
    ck_assert(co_accept(-1) == -1 && errno == EBADF);
}

static void write_until_broken(void *arg)
{
    tell('w');
    ck_assert(!co_write(*(int *)arg, long_bytes, LONG) && errno == EPIPE);
    tell('!');
}

static void write_to_one_who_leaves(void *arg)
{
    int *fds = arg;
    struct task *writer = co_start(loop, write_until_broken, &fds[0]);
    wait_for_story(1); /* now it waits for room */
    tell('x');
    close(fds[1]);
    ck_assert(co_gather(&writer, 1));
}

START_TEST(errors_are_told)
{
    int fds[2];
    nonblocking_pair(fds);
    run(read_and_write_wrongly, NULL);
    run(write_to_one_who_leaves, fds);
    ck_assert_str_eq(story, "wx!");
    close(fds[0]);
}
END_TEST

enum { PLENTY_OF_BYTES = 1000 };

static void read_bytewise(void *arg)
{
    char byte;
    for (int i = 0; i < PLENTY_OF_BYTES; i++)
        ck_assert_int_eq(co_read(*(int *)arg, &byte, 1), 1);
    co_cancel(started);
}

static void count_turns(void *arg)
{
    while (co_sleep(0))
        ++*(int *)arg;
}

struct greed {
    int fds[2], turns;
};

static void read_beside_counter(void *arg)
{
    struct greed *greed = arg;
    started = co_start(loop, count_turns, &greed->turns);
    struct task *tasks[] = {started, co_start(loop, read_bytewise, &greed->fds[0])};
    ck_assert(co_gather(tasks, 2));
}

/* There is always something to read, and yet the other one has its turn. */
START_TEST(reading_gives_way)
{
    struct greed greed = {.turns = 0};
    char bytes[PLENTY_OF_BYTES] = "";
    nonblocking_pair(greed.fds);
    ck_assert_int_eq(write(greed.fds[1], bytes, sizeof bytes), sizeof bytes);
    run(read_beside_counter, &greed);
    ck_assert_msg(greed.turns > PLENTY_OF_BYTES / 10, "%d turns", greed.turns);
    close_pair(greed.fds);
}
END_TEST

/* --- waking and cancelling --- */

static void sleep_long(void *arg)
{
    (void)arg;
    tell('z');
    tell(co_sleep(1000000) ? 'w' : errno == ECANCELED ? 'c' : '?');
}

static void wake_sleeper(void *arg)
{
    (void)arg;
    struct task *task = co_start(loop, sleep_long, NULL);
    co_wake(task); /* not asleep yet: nothing to end */
    wait_for_story(1);
    co_wake(task);
    co_wake(task);
    ck_assert(co_gather(&task, 1));
}

START_TEST(wake_ends_a_sleep)
{
    run(wake_sleeper, NULL);
    ck_assert_str_eq(story, "zw");
}
END_TEST

static void wake_reader(void *arg)
{
    int *fds = arg;
    struct task *task = co_start(loop, read_one, &fds[0]);
    co_sleep(1);
    co_wake(task);
    co_sleep(1);
    tell('.');
    ck_assert(co_write(fds[1], "A", 1));
    ck_assert(co_gather(&task, 1));
}

START_TEST(wake_is_nothing_to_a_reader)
{
    int fds[2];
    nonblocking_pair(fds);
    run(wake_reader, fds);
    ck_assert_str_eq(story, ".A");
    close_pair(fds);
}
END_TEST

static void sleep_twice(void *arg)
{
    (void)arg;
    tell('z');
    co_sleep(5);
    tell('1');
    ck_assert(co_sleep(300));
    tell('2');
}

static void wake_too_late(void *arg)
{
    (void)arg;
    tell('z');
    co_sleep(5);
    co_wake(started);
    co_sleep(30);
    tell('.');
}

static void block_both(void *arg)
{
    struct task *waker = co_start(loop, wake_too_late, arg);
    started = co_start(loop, sleep_twice, arg);
    wait_for_story(2);
    sleep_for(0.05); /* both sleeps are over now, in this order, and in the same round */
    ck_assert(co_gather((struct task *[]){waker, started}, 2));
}

START_TEST(woken_twice_resumed_once)
{
    run(block_both, NULL);
    ck_assert_str_eq(story, "zz1.2");
}
END_TEST

static void cancel_sleeper(void *arg)
{
    (void)arg;
    struct task *task = co_start(loop, sleep_long, NULL);
    wait_for_story(1);
    co_cancel(task);
    tell('.'); /* it has its turn when we wait, not before */
    co_sleep(50);
    co_cancel(task); /* has ended: nothing happens */
    co_wake(task);
    ck_assert(co_gather(&task, 1));
    co_sleep(1); /* nobody calls back to what is freed */
}

START_TEST(cancelled_sleep)
{
    run(cancel_sleeper, NULL);
    ck_assert_str_eq(story, "z.c");
}
END_TEST

static void cancel_before_it_runs(void *arg)
{
    (void)arg;
    struct task *task = co_start(loop, sleep_long, NULL);
    co_cancel(task);
    ck_assert(co_gather(&task, 1));
}

START_TEST(cancelled_before_it_ran)
{
    run(cancel_before_it_runs, NULL);
    ck_assert_str_eq(story, "zc");
}
END_TEST

/* --- the end --- */

static void hold_a_buffer(void *arg)
{
    int *fds = arg;
    char *bytes = malloc(100);
    ck_assert_ptr_nonnull(bytes);
    ck_assert(co_read(fds[0], bytes, 100) == -1 && errno == ECANCELED);
    ck_assert(!co_sleep(1000000) && errno == ECANCELED); /* all further waits fail, too */
    tell('r');
    free(bytes);
}

static void hold_a_writer(void *arg)
{
    int *fds = arg;
    char *bytes = calloc(1, LONG);
    ck_assert_ptr_nonnull(bytes);
    ck_assert(!co_write(fds[0], bytes, LONG) && errno == ECANCELED);
    tell('w');
    free(bytes);
}

static void gather_two(void *arg)
{
    struct task *tasks[] = {co_start(loop, sleep_long, arg), co_start(loop, sleep_long, arg)};
    ck_assert(!co_gather(tasks, 2));
    tell('g');
}

static void start_another(void *arg)
{
    ck_assert(!co_sleep(1000000));
    co_detach(co_start(loop, sleep_long, arg)); /* even now: it is cancelled from the start */
}

static void cancel_gather(void *arg)
{
    struct task *task = co_start(loop, gather_two, arg);
    wait_for_story(2);
    co_cancel(task);
    ck_assert(co_gather(&task, 1));
    tell('.');
}

START_TEST(cancelled_gather_cancels_all)
{
    run(cancel_gather, NULL);
    ck_assert_str_eq(story, "zzccg.");
}
END_TEST

/* Returns, and leaves behind coroutines that wait for all there is to wait for. */
static void leave_others(void *arg)
{
    co_detach(co_start(loop, hold_a_buffer, arg));
    co_detach(co_start(loop, hold_a_writer, arg));
    co_detach(co_start(loop, gather_two, arg));
    co_detach(co_start(loop, start_another, arg));
    wait_for_story(2);
    tell('.');
}

static void check_rest_of_story(const char *begin)
{
    ck_assert_msg(strncmp(story, begin, strlen(begin)) == 0, "%s", story);
    const char *rest = story + strlen(begin);
    ck_assert_msg(strlen(rest) == 7, "%s", story);
    ck_assert_ptr_nonnull(strchr(rest, 'r'));
    ck_assert_ptr_nonnull(strchr(rest, 'w'));
    ck_assert_msg(strstr(rest, "ccg") != NULL, "gather returned before those it waits for");
    ck_assert_str_eq(story + strlen(story) - 2, "zc");
}

START_TEST(those_left_are_cancelled)
{
    int fds[2];
    nonblocking_pair(fds);
    run(leave_others, fds);
    check_rest_of_story("zz.");
    close_pair(fds);
}
END_TEST

static void stop_the_loop(struct loop *of, void *arg)
{
    (void)arg;
    loop_stop(of);
}

static void leave_others_and_stay(void *arg)
{
    struct timer timer = {.callback = stop_the_loop};
    leave_others(arg);
    ck_assert(timer_start(loop, &timer, 1));
    ck_assert(!co_sleep(1000000) && errno == ECANCELED);
}

START_TEST(stopped_from_outside)
{
    int fds[2];
    nonblocking_pair(fds);
    run(leave_others_and_stay, fds);
    check_rest_of_story("zz.");
    run(gather_sleepers, (struct sleeper[]){{'A', 0}, {0, 0}}); /* the loop is as good as new */
    close_pair(fds);
}
END_TEST

static void *run_in_thread(void *arg)
{
    int *count = arg;
    struct loop *own = loop_new(NULL);
    ck_assert_ptr_nonnull(own);
    ck_assert_int_eq(co_run(own, count_up, count), 0);
    loop_free(own);
    return NULL;
}

START_TEST(each_thread_has_its_own)
{
    pthread_t threads[4];
    int counts[4] = {0};
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, run_in_thread, &counts[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_eq(counts[i], 1);
    }
}
END_TEST

/* --- the article's example --- */

START_TEST(demo_prints_what_the_article_says)
{
    static const char lines[] = "A: 시작\nB: 시작\nB: 끝\nA: 끝\n";
    struct process process = process_start((const char *const[]){demo, NULL}, 0);
    ck_assert_int_eq(process_end(&process, 0), 0);
    ck_assert_msg(strncmp(process.output, lines, strlen(lines)) == 0, "%s", process.output);
    char *end;
    double seconds = strtod(process.output + strlen(lines), &end);
    ck_assert_str_eq(end, " s\n");
    ck_assert_msg(seconds >= 2 && seconds < 3, "%.1f s, not 2", seconds);
}
END_TEST

static TCase *add_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, PLENTY);
    tcase_add_checked_fixture(tcase, make_loop, free_loop);
    suite_add_tcase(suite, tcase);
    return tcase;
}

static Suite *coroutine_suite(void)
{
    Suite *suite = suite_create("coroutines");
    TCase *tasks = add_case(suite, "tasks");
    tcase_add_test(tasks, gather_waits_for_all);
    tcase_add_test(tasks, shorter_sleeps_end_first);
    tcase_add_test(tasks, equal_sleeps_end_in_order);
    tcase_add_test(tasks, a_thousand_at_once);
    tcase_add_test(tasks, coroutines_start_coroutines);
    tcase_add_test(tasks, gather_of_ended_and_missing);
    tcase_add_test(tasks, detached_are_freed);

    TCase *stack = add_case(suite, "stack");
    tcase_add_test(stack, waits_deep_inside_calls);
    tcase_add_test(stack, stack_is_as_large_as_promised);
    tcase_add_test(stack, overflow_ends_the_program);
    tcase_add_test(stack, stacks_are_given_back);
    tcase_add_test(stack, no_room_for_a_stack);

    TCase *descriptors = add_case(suite, "descriptors");
    tcase_add_test(descriptors, long_write_is_taken_in_parts);
    tcase_add_test(descriptors, each_waits_for_its_own_descriptor);
    tcase_add_test(descriptors, watched_only_while_waited_for);
    tcase_add_test(descriptors, accepts);
    tcase_add_test(descriptors, errors_are_told);
    tcase_add_test(descriptors, reading_gives_way);

    TCase *ends = add_case(suite, "waking, cancelling, ending");
    tcase_add_test(ends, wake_ends_a_sleep);
    tcase_add_test(ends, wake_is_nothing_to_a_reader);
    tcase_add_test(ends, woken_twice_resumed_once);
    tcase_add_test(ends, cancelled_sleep);
    tcase_add_test(ends, cancelled_before_it_ran);
    tcase_add_test(ends, cancelled_gather_cancels_all);
    tcase_add_test(ends, those_left_are_cancelled);
    tcase_add_test(ends, stopped_from_outside);
    tcase_add_test(ends, each_thread_has_its_own);
    if (access(demo, X_OK) == 0)
        tcase_add_test(add_case(suite, "demo"), demo_prints_what_the_article_says);
    return suite;
}

int main(void)
{
    const char *sanitizers = getenv("SAN"), *in = getenv("IN");
    sanitized = sanitizers && *sanitizers;
    snprintf(demo, sizeof demo, "%s07-event-loop/coroutines/await_demo", in ? in : "");
    if (access(demo, X_OK) < 0)
        fprintf(stderr, "%s is not tested: it has not been built\n", demo);
    signal(SIGPIPE, SIG_IGN);
    SRunner *runner = srunner_create(coroutine_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
