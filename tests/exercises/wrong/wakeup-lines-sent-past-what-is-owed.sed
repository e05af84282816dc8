# 06-kqueue/wakeup
# 10,000 lines arrive in order
# what its socket does not take is owed
# A line is sent at once: whatever the socket does not take is lost.
/^static void client_tell/,/^}/c\
static void client_tell(struct server *server, int fd, const char *bytes, size_t length)\
{\
    ssize_t n = send(fd, bytes, length, 0);\
    if (n > 0)\
        server->echoed += (size_t)n;\
}
