# 04-poll/server.c
# caught by descriptors out_of_descriptors
# accept() without a free descriptor ends the program.
s/else if (errno == EAGAIN || server->paused)/else if (server->paused)\n            exit(1);\n        else if (errno == EAGAIN)/
