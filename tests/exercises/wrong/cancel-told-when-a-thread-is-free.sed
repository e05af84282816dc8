# 08-threadpool/cancel
# who has waited too long is told so at once
# expected 503 as soon as --max-wait was over
# Only when a thread is free it is seen that the client has waited too long.
/^struct nap {/,/^};/ {
    /struct timer timer;/d
    s/^    long long ms;/    int64_t asked;\
    bool late;\
&/
}
/^static void nap_free/,/^}/ {
    /timer_stop/d
}
/^static void nap_work/,/^}/ {
    s/const struct nap \*nap = arg;/struct nap *nap = arg;\
    nap->late = loop_clock() - nap->asked > server.max_wait * INT64_C(1000000);\
    if (nap->late)\
        return;/
}
/^static void nap_done/,/^}/ {
    s/^    nap_free/    bool late = nap->late;\
    nap_free/
    s/^    if (client)/    if (client \&\& late)\
        client_answer_error(client, 503, "Retry-After: 1\\r\\n", "no thread was free in time");\
    else if (client)/
}
/^static void nap_late/,/^}/d
/^static void nap_gone/,/^}/ {
    /timer_stop/d
}
/^static void good_ping/,/^}/ {
    s/nap->timer = .*/nap->asked = loop_clock();/
    s/if (timer_start(.* &&$/if (/
}
