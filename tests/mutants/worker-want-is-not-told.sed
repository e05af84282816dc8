# 09-cpu-offload/procpool.c
# caught by helper no_worker_can_be_forked_for_a_while
# Nobody is told that no worker can be had.
/^static void attempt_failed/,/^}/s/    if (pool->alive > 0)/    if (pool->alive >= 0)/
