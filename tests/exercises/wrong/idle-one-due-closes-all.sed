# 03-select/idle
# a silent client is closed, in time
# a client was closed .* after its last byte, which is too early
# When select() has waited in vain, all clients are closed, and not only those who are due.
/^static void close_idle/,/^}/{
    /^{/,/^}/c\
{\
    for (int fd = server->highest; server->idle_ms > 0 && fd >= 0; fd--)\
        if (server->clients[fd].open)\
            client_close(server, fd);\
}
}
/^static void serve(/,/^}/{
    s/^        close_idle(server);/        if (ready == 0)\
            close_idle(server);/
}
