# 08-threadpool/cancel
# each has its own clock
# expected its time to run on, whoever comes
# There is one timer, which whoever comes starts anew.
/^struct nap {/,/^};/ {
    s/^    struct timer timer;.*/    struct nap *next;/
    s/^};/&\
\
static struct nap *naps;\
static struct timer timer;/
}
/^static void nap_free/,/^}/ {
    s/^    timer_stop(.*/    struct nap **link = \&naps;\
    while (*link \&\& *link != nap)\
        link = \&(*link)->next;\
    if (*link)\
        *link = nap->next;/
}
/^static void nap_late/,/^}/c\
static void nap_late(struct loop *loop, void *arg)\
{\
    (void)loop;\
    (void)arg;\
    for (struct nap *nap = naps, *next; nap; nap = next) {\
        struct client *client = nap->client;\
        next = nap->next;\
        if (!threadpool_cancel(server.pool, &nap->job))\
            continue;\
        nap_free(nap);\
        client_answer_error(client, 503, "Retry-After: 1\\r\\n", "no thread was free in time");\
    }\
}
/^static void nap_gone/,/^}/ {
    /timer_stop/d
}
/^static void good_ping/,/^}/ {
    s/nap->timer = .*/nap->next = naps;\
    naps = nap;\
    timer.callback = nap_late;/
    s/&nap->timer/\&timer/
}
