# 07-event-loop/deadline
# bytes that trickle gain no time
# after some 12 bytes
# The clock starts anew with whatever comes.
/^static void serve_client/,/^}/ {
    /if (memchr/d
    s/^            ticking = start_clock/        ticking = start_clock/
}
