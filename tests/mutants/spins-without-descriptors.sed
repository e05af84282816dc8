# 05-epoll/server.c
# caught by descriptors out_of_descriptors
# The listener is watched on although nobody can be accepted.
s/server->paused ? 0 : EPOLLIN/EPOLLIN/
