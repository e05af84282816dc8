# 03-select/idle
# each client has a time of its own
# three clients fell silent .* but were not closed in the same way
# Each wait is as long as the whole time-out, though somebody may be due before.
/^static long long wait_ms/,/^}/s/long long left = .*/long long left = server->idle_ms;/
/^static long long wait_ms/,/^}/{
    s/, now = now_ms()//
    /if (left < 0)/d
    /left = 0;/d
}
