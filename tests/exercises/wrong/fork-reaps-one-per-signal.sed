# 01-blocking/fork
# no zombies are left
# expected all child processes to be gone, but there are .* zombies (ended, and nobody waited
# One waitpid() for each SIGCHLD: several that come at the same time are one.
/^static void reap_children/,/^}/{
    s/for (pid_t pid; (pid = waitpid(-1, NULL, WNOHANG)) > 0;)/pid_t pid = waitpid(-1, NULL, WNOHANG);/
    /for (int i/s/^    //
    /if (server->children/s/^    //
    /= server->children\[--/s/^    //
}
/^static void on_signal/,/^}/s/stopping || number == SIGCHLD/stopping/
