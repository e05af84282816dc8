# 05-epoll/processes
# workers serve, the parent waits
# waitpid() sleeps until a worker has died
# The parent asks for dead workers again and again (WNOHANG).
/^static void supervise/,/^}/{
    s/waitpid(-1, NULL, 0)/waitpid(-1, NULL, WNOHANG)/
    s/if (started < 0 || ended > 0)/if (started <= 0)/
}
/^static void pause_briefly/,/^}/s/RETRY_MS \* 1000000L/1000000L/
