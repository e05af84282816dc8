# 02-nonblocking-polling/connect
# an answer that comes late is heard, and is the right one
# to be '[0-9]* refused', but it is '[0-9]* open'
# A socket that poll() finds writable is taken for open, without a look at SO_ERROR.
s/#include <netinet\/in.h>/&\
#include <poll.h>/
/^static void attempt_ask/,/^}/{
    /^{/,/^}/c\
{\
    if (poll(&(struct pollfd){.fd = attempt->fd, .events = POLLOUT}, 1, 0) == 1)\
        attempt_end(client, attempt, "open");\
}
}
