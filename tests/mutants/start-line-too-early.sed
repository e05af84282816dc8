# 05-epoll/server.c
# caught by few few_descriptors
# It says that it listens, and then has no descriptor for the rest.
s/^    serve(&server);/    dprintf(STDOUT_FILENO, "listening on %s:%d\\n", server.host, server.port);\n&/
s/if (dprintf([^)]*) < 0 && !stopping)/if (false)/
