# 01-blocking/server.c
# caught by running port_in_use
# The start line stays in a buffer.
s/dprintf(STDOUT_FILENO, "listening/printf("listening/
