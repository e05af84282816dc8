# 06-kqueue/wakeup
# a line wakes the server
# has to wake the one who sleeps in kevent
# The line is put where the server looks after each kevent(), but kevent() does not return for it.
/^static bool lines_put/,/^}/ {
    /if (!ending && !bell/d
    /fail(server, "bell")/d
}
/^static void serve/,/^}/ {
    s/knocking = server->paused, rung = false/knocking = server->paused/
    /else if (.*EVFILT_USER)/d
    /rung = true/d
    /if (rung)/d
    s/^ *deliver_lines/        deliver_lines/
}
