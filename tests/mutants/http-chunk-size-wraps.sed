# 07-event-loop/http.c
# caught by messages refused_message
# A chunk's size past 2^64 begins again at 0.
s/\*number = SIZE_MAX;/*number = *number * (size_t)base + (size_t)value;/
