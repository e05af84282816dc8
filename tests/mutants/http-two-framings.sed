# 07-event-loop/http.c
# caught by messages refused_message
# Content-Length beside Transfer-Encoding: two readers, two ends.
s/codings && (seen & SEEN_LENGTH)/false/
