# 09-cpu-offload/events.c
# caught by events slow_listeners_are_dropped
# What a slow listener does not take is collected for ever.
s/client_owed(client) > OWED_MAX/false/
