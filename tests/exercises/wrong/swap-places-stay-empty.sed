# 04-poll/swap
# a crowd that has left costs the last one nothing
# still looks at their places
# Who leaves leaves a hole (-1), which the next one gets; but the array never becomes shorter.
/^static int watch(/,/^}/{
    /^{/a\
    for (int place = 1; place < server->count; place++)\
        if (server->watched[place].fd < 0) {\
            server->watched[place] = (struct pollfd){.fd = fd, .events = POLLIN};\
            return place;\
        }
}
/^static void unwatch(/,/^}/{
    /^{/,/^}/c\
{\
    server->watched[place].fd = -1;\
}
}
/^int main/,/^}/{
    s/while (server.count > 1)/for (int fd = 0; fd < MAX_DESCRIPTORS; fd++)\
        if (server.clients[fd].open)/
    s/client_close(&server, server.watched.*/    client_close(\&server, fd);/
}
