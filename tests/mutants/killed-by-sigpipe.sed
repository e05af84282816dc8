# 01-blocking/server.c
# caught by running sigpipe_and_stop_and_continue
# Sending to a client that has left kills the server.
/signal(SIGPIPE, SIG_IGN);/d
