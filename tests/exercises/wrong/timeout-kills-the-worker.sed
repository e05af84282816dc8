# 09-cpu-offload/timeout
# 504 on time for a job that runs, and its worker goes on
# a job that is out of time was to run on
# When the time is up, the worker that has the job is killed.
/^static void errand_late/,/^}/ {
    s/^    errand_leave(errand);/    pid_t pids[256];\
    bool busy[256];\
    for (int i = procpool_workers(server.workers, pids, busy, 256); i-- > 0;)\
        if (busy[i])\
            kill(pids[i], SIGKILL);\
&/
}
