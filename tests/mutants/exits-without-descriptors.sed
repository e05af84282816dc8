# 04-poll/server.c
# caught by descriptors out_of_descriptors
# accept() without a free descriptor ends the program.
s/server->paused = errno != EAGAIN;/if (errno != EAGAIN)\
        exit(1);/
