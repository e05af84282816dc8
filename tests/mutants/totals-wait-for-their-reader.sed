# 04-poll/server.c
# caught by streams totals_nobody_reads
# The totals wait until a full pipe takes them.
/^    setitimer(/d
