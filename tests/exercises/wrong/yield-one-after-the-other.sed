# 07-event-loop/yield
# a short one overtakes a long one
# but it came after it
# Whoever asks has to wait in a line until those before have their answer.
/^struct work {/,/^};/ {
    s/^    struct client \*client;/&\
    struct work *behind;/
    s/^};/&\
\
static struct work *line;/
}
/^static void work_gone/,/^}/ {
    s/loop_defer_cancel(.*/&\
    struct work **link = \&line;\
    while (*link != work)\
        link = \&(*link)->behind;\
    *link = work->behind;\
    if (link == \&line \&\& line) {\
        loop_defer_cancel(loop, \&line->rest);\
        loop_defer(loop, \&line->rest);\
    }/
}
/^static void work_some/,/^}/ {
    s/^    free(work);/    line = work->behind;\
    if (line)\
        loop_defer(at, \&line->rest);\
    free(work);/
}
/^static void count_primes/,/^}/ {
    s/^    work_some(loop, work);/    struct work **end = \&line;\
    while (*end)\
        end = \&(*end)->behind;\
    *end = work;\
    if (line == work)\
        work_some(loop, work);/
}
