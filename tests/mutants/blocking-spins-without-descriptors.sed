# 01-blocking/server.c
# caught by lesson no_descriptor_for_anybody
# accept() without a free descriptor is tried again at once.
s/sleep(1);/continue;/
