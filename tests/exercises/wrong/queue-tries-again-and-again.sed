# 08-threadpool/queue
# who waits is outside the pool, and costs nothing
# who waits has to be told, not to ask
# While somebody waits, each round of the loop looks for a place.
/^static void join_line/i\
static void try_again(struct loop *loop, void *arg);\
static struct deferred next_try = {.callback = try_again};\

/^static void join_line/,/^}/s/^    server\.waiting++;/    if (server.waiting++ == 0)\
        loop_defer(server.loop, \&next_try);/
/^static void let_in/,/^}/ {
    /^}/a\
\
static void try_again(struct loop *loop, void *arg)\
{\
    (void)arg;\
    let_in();\
    loop_defer_cancel(loop, &next_try);\
    if (server.first)\
        loop_defer(loop, &next_try);\
}
}
