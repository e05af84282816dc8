# 01-blocking/fork
# a killed process, or a failing fork(), ends one client
# after fork() failed for a while, and works again, expected one more client to connect, but it could not
# When fork() fails, the whole server ends.
/^static void fork_child/,/^}/{
    /^    if (pid == 0)/i\
    if (pid < 0) {\
        perror("fork");\
        exit(1);\
    }
}
