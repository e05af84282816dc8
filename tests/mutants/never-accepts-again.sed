# 03-select/server.c
# caught by descriptors out_of_descriptors
# Once out of descriptors, the listener is never looked at again.
s/bool knocking = server->paused || /bool knocking = /
