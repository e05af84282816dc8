# 07-event-loop/http.c
# caught by messages refused_message
# A coding that does not say where the body ends passes for one that is not known.
s/codings == SEEN_OTHER_CODING/false/
