# 02-nonblocking-polling/pause
# while nobody speaks, it rests
# with '--pause 1000' and .* expected less than 5 % of a CPU
# All of the pause is in tv_nsec: for a second, nanosleep() fails with EINVAL, and at once.
/^static void rest(/,/^}/{
    s/\.tv_sec = milliseconds \/ 1000,/.tv_sec = 0,/
    s/milliseconds % 1000 \* 1000000L/milliseconds * 1000000L/
}
