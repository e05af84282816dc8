# 06-kqueue/server.c
# caught by lesson ticks_count_the_clients
# A tick is a tenth of a second.
s/0, 1000, NULL/0, 100, NULL/
