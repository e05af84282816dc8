# 05-epoll/server.c
# caught by descriptors out_of_descriptors
# The listener is watched on although nobody can be accepted.
s/pausing ? EPOLL_CTL_DEL : EPOLL_CTL_ADD/EPOLL_CTL_MOD/
