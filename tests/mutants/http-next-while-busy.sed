# 07-event-loop/http_server.c
# caught by connection pipelined_answers_come_in_order
# The next request is dealt with while the one before is not answered.
s/used < length && !client->busy/used < length/
