# 02-nonblocking-polling/server.c
# caught by clients back_pressure
# What a client does not take is collected, however much it is.
/^static void client_ready/,/^}/s/    if (client->owed)/    if (client->owed) {\
        char *more = realloc(client->owed, client->length + BUFFER_SIZE);\
        ssize_t got = recv(fd, more + client->length, BUFFER_SIZE, 0);\
        client->owed = more;\
        client->length += got > 0 ? (size_t)got : 0;\
    }\
    if (client->owed)/
