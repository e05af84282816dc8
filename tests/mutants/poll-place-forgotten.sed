# 07-event-loop/backend_poll.c --backend poll
# caught by clients nothing_is_left_of_those_who_leave
# Who fills a gap in the list is looked for at its old place.
s/state->places\[state->list\[place\].fd\] = place;//
