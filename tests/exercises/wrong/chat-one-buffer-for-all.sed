# 04-poll/chat
# a hundred clients talk at once
# where another's line was to be whole
# One buffer, in the place of one for each client, holds the beginnings of lines.
/^static void client_said/,/^}/{
    /^{/,/^}/c\
{\
    static char begun[LONGEST_LINE];\
    struct client *client = &server->clients[fd];\
    size_t lines = complete_lines(bytes, length);\
    broadcast(server, fd, bytes, lines);\
    client->begun = length - lines;\
    client->line = client->begun > 0 ? begun : NULL;\
    if (client->begun >= LONGEST_LINE)\
        client_close(server, fd);\
    else\
        memcpy(begun, bytes + lines, client->begun);\
}
}
/^static void client_close/,/^}/{
    /free(server->clients\[fd\].line)/d
}
