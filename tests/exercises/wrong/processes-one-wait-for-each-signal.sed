# 05-epoll/processes
# a worker that was killed is replaced
# after kill -9 of 4 of 4 workers, .* zombies that nobody has waited for
# One waitpid() for each SIGCHLD: of four workers that die at the same time, one is replaced.
s/^static volatile sig_atomic_t stopping;/static volatile sig_atomic_t stopping, died;/
/^static void on_signal/i\
static void on_child(int number)\
{\
    (void)number;\
    died = 1;\
}\

/^static void supervise/,/^}/{
    /^{/,/^}/c\
{\
    signal(SIGCHLD, on_child);\
    for (int i = 0; i < workers; i++)\
        replace(pids, 0, start_worker(server));\
    while (!stopping) {\
        pause_briefly();\
        if (!died)\
            continue;\
        died = 0;\
        pid_t ended = waitpid(-1, NULL, WNOHANG);\
        if (ended > 0 && replace(pids, ended, 0))\
            replace(pids, 0, start_worker(server));\
    }\
}
}
