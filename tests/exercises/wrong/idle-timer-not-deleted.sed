# 06-kqueue/idle
# each has a timer, which goes with it
# timers still run: they are not the descriptor's
# The timer is left to close(), which takes away only what is about the descriptor.
/^static void timer_stop/,/^}/d
/^static void client_close/,/^}/ {
    /timer_stop/d
}
