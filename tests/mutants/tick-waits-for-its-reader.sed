# 06-kqueue/server.c
# caught by lesson ticks_wait_for_nobody
# A tick waits until the full pipe takes it, and all clients wait, too.
s/if (poll(&output, 1, 0) > 0)/if (true)/
