# 07-event-loop/deadline
# a line's end gains time
# with the next line's first bytes behind it
# A line's end counts only if it is the last byte that was read.
/^static void serve_client/,/^}/s/memchr(buffer, '\\n', (size_t)n)/buffer[n - 1] == '\\n'/
