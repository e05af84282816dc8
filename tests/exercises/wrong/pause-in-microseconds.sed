# 02-nonblocking-polling/pause
# there is one pause a round, as long as asked for
# expected that who speaks after a silence waits for most of a pause
# usleep() is given milliseconds, but takes microseconds.
/^static void rest(/,/^}/{
    /struct timespec time/d
    /\.tv_nsec/d
    s/nanosleep(&time, NULL)/usleep((unsigned)milliseconds)/
}
s/#include <arpa\/inet.h>/#define _DEFAULT_SOURCE\
&/
