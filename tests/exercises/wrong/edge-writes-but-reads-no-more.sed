# 05-epoll/edge
# who reads late gets all, and costs one buffer
# Once there is room again (EPOLLOUT), go on with both
# When what is owed has gone out, nobody looks for what has come meanwhile.
/^static void client_ready/,/^}/{
    s/^        if (client->owed)/        if (client->owed) {/
    s/^            client_writable(server, fd);/&\
            return;/
    s/^        else$/        } else/
}
