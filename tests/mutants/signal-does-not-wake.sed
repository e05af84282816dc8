# 01-blocking/server.c
# caught by ending signal_ends_it
# Interrupted calls are started again: the signal changes nothing.
s/{.sa_handler = on_signal}/{.sa_handler = on_signal, .sa_flags = SA_RESTART}/
