# 08-threadpool/queue
# who leaves frees the place
# after the one in the queue had left
# Those who wait move up only when a job is done, not when one is taken back out of the queue.
/^static void nap_gone/,/^}/ {
    /let_in/d
}
/^static bool nap_ended/,/^}/ {
    /let_in/d
}
