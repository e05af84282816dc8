# 03-select/limit
# of many who come at once, N are served
# was to wait in the kernel's queue, but its connection was closed
# Who comes when N are in is accepted and closed.
/^static void accept_clients/,/^}/s/while (server->count < server->max &&/while (true \&\&/
/^static void watch_all/,/^}/s/ && server->count < server->max//
/^static void client_open/,/^}/s/    if (fd >= MAX_DESCRIPTORS || fcntl/    if (server->count >= server->max || fd >= MAX_DESCRIPTORS || fcntl/
