# 04-poll/chat
# who does not read is closed, nobody waits
# nobody has to wait for it
# When a client's socket is full, the server waits until there is room.
/^static ssize_t client_send/,/^}/{
    s/^        n = 0;/        n = poll(\&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1) >= 0\
                ? client_send(server, fd, bytes, length)\
                : 0;/
}
