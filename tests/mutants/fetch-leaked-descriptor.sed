# 07-event-loop/fetch.c
# caught by fetch client_leaves_during_fetch
# A fetch that is over keeps its descriptor.
/^void fetch_cancel/,/^}/s/close(fetch->fd);//
