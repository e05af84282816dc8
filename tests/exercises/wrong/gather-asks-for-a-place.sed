# 07-event-loop/gather
# who waits for a place sleeps
# has to sleep until it is woken
# Who waits for a place looks again in each round of the loop.
/^static void take_out/,/^}/d
/^static bool acquire/,/^}/c\
static bool acquire(struct semaphore *semaphore)\
{\
    while (semaphore->places == 0)\
        co_sleep(0);\
    semaphore->places--;\
    return true;\
}
/^static void release/,/^}/c\
static void release(struct semaphore *semaphore)\
{\
    semaphore->places++;\
}
