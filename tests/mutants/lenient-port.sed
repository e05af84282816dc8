# 02-nonblocking-polling/server.c
# caught by alone bad_argument_is_named
# Digits at the start are enough for a port.
s/!text\[strspn(text, "0123456789")\]/strspn(text, "0123456789")/
