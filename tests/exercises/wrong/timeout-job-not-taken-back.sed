# 09-cpu-offload/timeout
# nobody does that job any more
# after its 504 the job was to leave the queue
# The client is told, but its job stays with the pool, and a worker does it for nobody.
/^static void errand_leave/,/^}/ {
    /if (procpool_cancel/d
    /free(errand)/d
}
