# 09-cpu-offload/procpool.c
# caught by workers workers_come_back_while_clients_have_all_descriptors
# The descriptor of a worker that has died goes to the next client.
/^static void keep_place/,/^}/{
    s/\*fd >= 0 \&\& dup2(STDIN_FILENO, \*fd) < 0/*fd >= 0/
    s/\*fd = dup(STDIN_FILENO);/*fd = pool->alive + pool->ordered > 0 ? -1 : dup(STDIN_FILENO);/
}
