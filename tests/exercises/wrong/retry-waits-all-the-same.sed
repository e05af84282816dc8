# 09-cpu-offload/retry
# after eight it gives up, and its waits have grown
# expected 500 after waits of 100, 200 and 400 ms
# Each wait is as long as the first one.
/^static bool errand_later/,/^}/{
    s/long ms = .*/long ms = FIRST_WAIT_MS;\
    errand->retries++;/
}
