# 09-cpu-offload/http_server.c
# caught by helper fifty_helpers_killed_under_load
# A helper that is started again has the sockets of the clients, and so have its workers.
s/ || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0//
