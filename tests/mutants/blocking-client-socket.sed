# 03-select/server.c
# caught by clients back_pressure
# One client that does not read blocks everybody.
/^static void client_open/,/^}/s/ && fcntl(fd, F_SETFL, O_NONBLOCK) == 0//
