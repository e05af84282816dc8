# 08-threadpool/cancel
# no timer is left behind
# the end of the connection
# When the client leaves, its timer goes on, and rings for whoever has the memory next.
/^static void nap_free/,/^}/ {
    /timer_stop/d
}
/^static void nap_gone/,/^}/ {
    /timer_stop/d
}
