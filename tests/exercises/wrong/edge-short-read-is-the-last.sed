# 05-epoll/edge
# an end of file that comes along is seen
# but then no end of file, for which there is no second edge
# A recv() that returns less than there was room for is taken for the last: EAGAIN is not waited for.
s/return client_writable(server, fd);/return client_writable(server, fd) \&\& got == BUFFER_SIZE;/
