# 07-event-loop/http.c
# caught by messages limit
# The head may be of any size.
s/head_left = HTTP_HEAD_MAX - parser->head_taken/head_left = 1 << 30/
s/HTTP_HEAD_MAX + HTTP_LINE_MAX))/1 << 30))/
