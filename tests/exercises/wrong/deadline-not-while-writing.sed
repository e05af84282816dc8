# 07-event-loop/deadline
# the echo has to be taken, too
# so that the program waits until it can write
# The clock runs only while something is to be read.
/^static void serve_client/,/^}/ {
    /if (!co_write/i\
        bool in_time = !memchr(buffer, '\\n', (size_t)n);\
        stop_clock(client);
    s/server->echoed += (size_t)n;/&\
        ticking = in_time || start_clock(client);/
}
