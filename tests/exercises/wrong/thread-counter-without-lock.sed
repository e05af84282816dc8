# 01-blocking/thread
# no two threads race, and the totals are exact
# ThreadSanitizer saw it in send_all(), thread.c
# The counter that all threads add to is a plain one.
s/atomic_ullong echoed/unsigned long long echoed/
