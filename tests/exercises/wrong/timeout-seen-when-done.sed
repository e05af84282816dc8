# 09-cpu-offload/timeout
# 504 on time for a job that waits
# timeout_ms=300
# Only when the job is done it is seen that the time is up.
/^struct errand {/,/^};/s/^    struct timer timer;.*/    int64_t due;/
/^static void errand_leave/,/^}/ {
    /timer_stop/d
}
/^static void errand_late/,/^}/d
/^static void errand_done/,/^}/ {
    s/^    timer_stop(.*/    bool late = loop_clock() > errand->due;/
    s/^    if (end == PROCJOB_DONE)/    if (late)\
        client_answer_error(client, 504, NULL, "no answer within timeout_ms");\
    else if (end == PROCJOB_DONE)/
}
/^static void work(/,/^}/ {
    s/errand->timer = .*/errand->due = loop_clock() + timeout_ms * 1000000;/
    s/if (timer_start(.* &&$/if (/
    /timer_stop/d
}
