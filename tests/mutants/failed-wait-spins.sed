# 05-epoll/server.c
# caught by lesson failing_wait
# A wait that fails is tried again at once.
/poll(NULL, 0, RETRY_MS);/d
s/if (ready < 0 && !stopping).*/if (ready < 0)\
            continue;/
