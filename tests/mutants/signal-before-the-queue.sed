# 06-kqueue/server.c
# caught by signals early_signal
# A signal is ignored until the queue watches it.
s/sa_handler = on_signal/sa_handler = SIG_IGN/
