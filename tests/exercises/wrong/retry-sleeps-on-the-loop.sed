# 09-cpu-offload/retry
# who waits for the next try is in nobody's way
# while a job waits
# The program sleeps until the next try, and serves nobody meanwhile.
/^static void errand_again/,/^}/d
/^static bool errand_later/,/^}/ {
    s/errand->waits = timer_start(.*/nanosleep(\&(struct timespec){.tv_nsec = ms * 1000000}, NULL);/
    s/return errand->waits;/return procpool_submit(server.workers, \&errand->job);/
}
/errand->timer = (struct timer)/d
