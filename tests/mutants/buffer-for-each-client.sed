# 05-epoll/server.c
# caught by lesson ten_thousand_at_once
# Each client has a buffer of its own, used or not.
s/^    bool open;/    char buffer[1024];\
    bool open;/
