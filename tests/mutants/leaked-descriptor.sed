# 03-select/server.c
# caught by clients nothing_is_left_of_those_who_leave
# A client that has left keeps its descriptor.
/^static void client_close/,/^}/s/close(fd);//
