# 06-kqueue/idle
# each client has a time of its own
# were not closed in the same way
# There is one timer, number 0, which whoever sends starts anew; all are closed by it.
/^static void timer_start/,/^}/ {
    s/(uintptr_t)fd/0/
    s/if (server->idle_ms > 0)/if (fd >= 0 \&\& server->idle_ms > 0)/
}
/^static void timer_stop/,/^}/d
/^static void client_close/,/^}/ {
    /timer_stop/d
}
/^static void client_timed_out/,/^}/c\
static void clients_timed_out(struct server *server)\
{\
    for (int fd = 0; fd < 1000; fd++)\
        if (server->clients[fd].open)\
            client_close(server, fd);\
}
s/client_timed_out(server, (int)events\[i\]\.ident)/clients_timed_out(server)/
