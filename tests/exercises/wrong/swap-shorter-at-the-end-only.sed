# 04-poll/swap
# nor twenty who are left, from anywhere
# still looks at their places
# The array becomes shorter only when the last in it leave; all other places stay empty.
/^static void unwatch(/,/^}/{
    /^{/,/^}/c\
{\
    server->watched[place].fd = -1;\
    while (server->watched[server->count - 1].fd < 0)\
        server->count--;\
}
}
