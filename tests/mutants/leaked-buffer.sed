# 05-epoll/server.c
# caught by clients nothing_is_left_of_those_who_leave
# The buffer of a client that is lost is not freed.
/^static void client_close/,/^}/s/free(server->clients\[fd\].owed);//
