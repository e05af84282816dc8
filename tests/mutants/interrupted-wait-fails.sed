# 05-epoll/server.c
# caught by ending signal_ends_it
# EINTR is taken for a failure.
s/if (ready < 0 && !stopping)/if (ready < 0)\
            exit(1);\
        if (ready < 0)/
