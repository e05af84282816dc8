# 07-event-loop/yield
# however long one number takes
# a matter of the clock
# The work gives way after 10,000 numbers, whether they took a millisecond or seconds.
/^static const int64_t SLICE_NS/d
/^static void work_some/,/^}/ {
    /int64_t stop/d
    s/if (loop_clock() >= stop)/if (work->next % 10000 == 0)/
}
