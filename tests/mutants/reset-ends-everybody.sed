# 02-nonblocking-polling/server.c
# caught by clients rude_clients_end_alone
# An error of one client ends the program.
s/if (got == 0 ||/if (got < 0 \&\& errno == ECONNRESET)\
        exit(1);\
    if (got == 0 ||/
