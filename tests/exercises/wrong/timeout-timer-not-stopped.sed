# 09-cpu-offload/timeout
# each request has its own time
# was to be 200, but 504
# The timer of a request that was answered goes on, and answers the client's next one.
/^static void errand_done/,/^}/ {
    /timer_stop/d
    /free(errand);/d
}
