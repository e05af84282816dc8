# 04-poll/swap
# who stays is served while others come and go
# does each client know its place when another has been moved
# The last one moves into the gap, but its client still believes to be where it was.
/^static void unwatch(/,/^}/{
    /clients\[last.fd\].place = place/d
}
