# 02-nonblocking-polling/connect
# a port that does not answer holds up no other
# it had not ended after
# The sockets are not set to O_NONBLOCK, so connect() waits.
/^static void attempt_start/,/^}/s/ || fcntl(attempt->fd, F_SETFL, O_NONBLOCK) < 0//
