# 07-event-loop/http_server.c
# caught by descriptors out_of_descriptors
# The listener is watched on although nobody can be accepted.
s/server->listener, 0, listener_ready/server->listener, LOOP_READ, listener_ready/
