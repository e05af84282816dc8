# 05-epoll/edge
# each client is registered once, and not anew
# while 4 clients that are registered sent and received, the program called epoll_ctl()
# Who is not finished is registered anew, with the same mask: epoll then remembers instead of a list.
/^static void client_ready/,/^}/s/^        list(server, fd);/        watch(server, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT | EPOLLET);/
