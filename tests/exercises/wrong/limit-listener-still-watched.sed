# 03-select/limit
# who waits to be let in costs no CPU
# the listener is ready all that time, so who watches it does not sleep
# When full, nobody is accepted, but select() is still asked about the listener.
/^static void watch_all/,/^}/s/ && server->count < server->max//
