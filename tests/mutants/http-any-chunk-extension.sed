# 07-event-loop/http.c
# caught by messages refused_message
# Behind the size of a chunk anything may stand.
s/ || !are_extensions(line + digits)//
