# 04-poll/server.c
# caught by lesson idle_cpu
# Write interest is registered with nothing to write.
s/POLLOUT : POLLIN/POLLOUT : POLLIN | POLLOUT/
