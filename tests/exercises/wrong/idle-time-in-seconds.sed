# 06-kqueue/idle
# a silent client is closed, in time
# which is too early
# The timer is given seconds, though without NOTE_SECONDS it counts milliseconds.
/^static void timer_start/,/^}/s/0, server->idle_ms, NULL/0, server->idle_ms \/ 1000, NULL/
