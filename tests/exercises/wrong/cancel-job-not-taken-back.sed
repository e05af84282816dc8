# 08-threadpool/cancel
# what is taken back never runs
# expected their jobs to be taken back
# The client is told that it is late, but its job stays in the queue, and a thread does it later.
/^struct nap {/,/^};/s/^    long long ms;/    atomic_bool runs;\
&/
/^static void nap_work/,/^}/s/const struct nap \*nap = arg;/struct nap *nap = arg;\
    nap->runs = true;/
/^static void nap_late/,/^}/ {
    s/if (!threadpool_cancel(.*/if (nap->runs)/
    s/nap_free(nap);/nap->client = NULL;/
}
