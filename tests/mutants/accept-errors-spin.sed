# 05-epoll/server.c
# caught by accepting accept_fails
# Only a want of descriptors pauses accepting: with any other error it is tried again at once.
s/bool pausing = errno != EAGAIN;/bool pausing = errno == EMFILE;/
