# 05-epoll/edge
# who reads late gets all, and costs one buffer
# Once there is room again (EPOLLOUT), go on with both
# When what is owed has gone out, nobody looks for what has come meanwhile.
/^static void client_ready/,/^}/s/^    while (share > 0.*/    if (client->owed) {\
        client_writable(server, fd);\
        return;\
    }\
    while (share > 0 \&\& client_readable(server, fd))/
