# 05-epoll/server.c
# caught by streams closed_streams
# The first socket becomes stdout, if that is closed.
s/for (int fd = 0; fd <= STDERR_FILENO; fd++)$/for (int fd = 0; fd < 0; fd++)/
