# 07-event-loop/http.c
# caught by messages refused_message
# The second Host is accepted beside the first.
s/parser->seen & SEEN_HOST)$/false)/
