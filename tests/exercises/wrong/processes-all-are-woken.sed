# 05-epoll/processes
# a new client wakes one worker
# One for each client is enough (EPOLLEXCLUSIVE
# All workers wait for the same listener without EPOLLEXCLUSIVE.
/^static bool watch_listener/,/^}/s/EPOLLIN | EPOLLEXCLUSIVE/EPOLLIN/
