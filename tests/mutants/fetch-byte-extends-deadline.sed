# 07-event-loop/fetch.c
# caught by fetch upstream_fails
# Each byte of the other server gives it the time anew.
s/^    if (got > 0)$/    if (got > 0)\
        timer_start(fetch->loop, \&fetch->deadline, 500);\
&/
