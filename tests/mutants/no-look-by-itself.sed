# 05-epoll/server.c
# caught by descriptors more_descriptors_while_it_runs
# Out of descriptors, it waits for a client to leave and for nothing else.
s/server->paused ? RETRY_MS : -1/-1/
