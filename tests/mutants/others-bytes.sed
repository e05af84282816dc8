# 03-select/server.c
# caught by clients clients_interleaved
# What is owed goes to the client next to it.
/^static bool client_writable/,/^}/s/send(fd,/send(server->clients[fd - 1].open ? fd - 1 : fd,/
