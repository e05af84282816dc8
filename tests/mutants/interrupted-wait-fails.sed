# 05-epoll/server.c
# caught by ending signal_ends_it
# EINTR is taken for a failure.
s/ready < 0 && errno == EINTR/ready < 0 \&\& false/
