# 06-kqueue/wakeup
# while nobody types, nobody wakes
# it is to be woken, not to look
# Without EV_CLEAR the bell goes on ringing: each kevent() returns at once.
s/EV_ADD | EV_CLEAR/EV_ADD/
