# 01-blocking/fork
# each process has open what is its own
# expected the parent to have 1 socket open, the listener, but it has
# The parent does not close its copy of the client's socket.
/^static void fork_child/,/^}/{
    /^    close(fd);/d
}
