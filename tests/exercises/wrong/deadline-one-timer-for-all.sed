# 07-event-loop/deadline
# each client has its own deadline
# is there still when the
# There is one timer for all: whoever comes, or ends a line, takes it away from the one before.
/^struct client {/,/^}/ {
    /struct timer timer;/d
}
/^static void on_late/i\
static struct timer timer;\

/^static bool start_clock/,/^}/ {
    s/^    int64_t ms = .*/&\
    timer.callback = on_late;\
    timer.arg = client;/
}
/^static void serve_client/,/^}/ {
    /client->timer = /d
}
s/&client->timer/\&timer/
