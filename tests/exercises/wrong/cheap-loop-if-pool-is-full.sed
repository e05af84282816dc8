# 08-threadpool/cheap
# small sums are answered though no thread is free
# who adds up a million squares on the loop holds up everybody
# Sums that the pool does not take are added up by the loop, be they large or small.
/^static void hand_over/,/^}/ {
    s/^    } else {/    } else if (task->work_is_sum) {\
        work(task);\
        done(task, true);\
&/
    s/^    task->number = number;/&\
    task->work_is_sum = done != ping_done;/
}
/^struct task {/,/^};/s/^    long long number;/    bool work_is_sum;\
&/
/^static void hand_over/i\
static void ping_done(void *arg, bool ran);\

