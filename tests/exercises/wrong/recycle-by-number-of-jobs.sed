# 09-cpu-offload/recycle
# it is a worker's memory that counts
# was to be kept, but it was replaced
# A worker is replaced after 12 jobs, however little it has leaked.
/^static void recycle/,/^}/d
/^static void errand_done/,/^}/ {
    /recycle(&result);/d
    /be given to this worker/d
}
s/\.timeout_ms = JOB_LIMIT_MS/&, .max_jobs = 12/
