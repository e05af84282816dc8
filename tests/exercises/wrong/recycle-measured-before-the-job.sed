# 09-cpu-offload/recycle
# a worker above the limit has no further job
# was to be replaced before it gets another one
# A worker says how much memory it had before the job, so that it is replaced one job too late.
/^static size_t leak_in_worker/,/^}/ {
    s/^    memcpy(&kib, input, sizeof kib);/&\
    struct result result = {.pid = getpid(), .memory_kib = memory_kib()};/
    /^    struct result result = {.pid = getpid(), .memory_kib = memory_kib()};$/d
}
