# 07-event-loop/gather
# a slow one keeps one place, the others go on
# the next one has to start as soon as any one is done
# As many as the limit says are started, then all of them have to end before the next ones start.
/^static void run_clients/,/^}/ {
    /co_gather(tasks, count);/d
    s/^    for (.*/    for (size_t i = 0, first = 0; i < count; i++) {/
    /co_start/a\
        if (i + 1 == count || i + 1 - first == (size_t)program.limit) {\
            co_gather(tasks + first, i + 1 - first);\
            first = i + 1;\
        }\
    }
}
