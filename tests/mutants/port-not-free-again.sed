# 05-epoll/server.c
# caught by ending signal_ends_it
# Without SO_REUSEADDR the port is taken for a minute after the end.
s/SO_REUSEADDR/SO_KEEPALIVE/
