# 06-kqueue/wakeup
# while nobody types, nobody wakes
# is the bell silent again
# Without EV_CLEAR the bell goes on ringing: each kevent() returns at once.
s/EV_ADD | EV_CLEAR/EV_ADD/
