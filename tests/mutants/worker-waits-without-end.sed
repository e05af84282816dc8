# 09-cpu-offload/procpool.c
# caught by helper the_time_in_the_queue_is_limited
# A job waits for a worker for as long as it takes.
/^static void time_is_up/,/^}/s/^        take_out(job->pool, job);/        return;\
&/
