# 01-blocking/thread
# each client has a thread, and a silent one holds up nobody
# with 1 other connected and silent, expected a client's byte back, but nothing came
# The main thread joins the thread that it has just started, and accepts nobody until that one ends.
/^static bool start_thread/,/^}/s/pthread_detach(thread)/pthread_join(thread, NULL)/
