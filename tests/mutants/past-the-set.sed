# 03-select/server.c
# caught by lesson select_ends_at_fd_setsize
# FD_SET() with descriptors past the end of the set.
s/fd >= MAX_DESCRIPTORS/fd >= 1 << 20/
s/fd < MAX_DESCRIPTORS/fd < 1 << 20/
s/struct client clients\[MAX_DESCRIPTORS\]/struct client clients[1 << 20]/
