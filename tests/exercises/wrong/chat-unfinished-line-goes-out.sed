# 04-poll/chat
# who half-closes gets the rest
# after somebody left in the middle of a line, .* got bytes
# The beginning of a line whose sender has left goes out as if it were complete.
/^static void client_readable/,/^}/{
    /^    if (got > 0)/i\
    if (got == 0 && client->line)\
        broadcast(server, fd, client->line, client->begun);
}
