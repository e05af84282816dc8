# 03-select/idle
# a talking client stays
# each byte puts off the end
# The time of a client begins when it connects, and its bytes do not put off the end.
/^static bool client_writable/,/^}/{
    /client->active_ms = now_ms();/d
}
/^static bool client_readable/,/^}/s/\.active_ms = now_ms()/.active_ms = server->clients[fd].active_ms/
