# 06-kqueue/idle
# a talking client stays
# each byte puts off the end
# The timer is started when the client comes, and never anew.
/^static bool client_ready/,/^}/ {
    /if (moved)/d
    /timer_start/d
}
