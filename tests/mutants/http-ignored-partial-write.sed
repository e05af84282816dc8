# 07-event-loop/http_server.c
# caught by connection client_that_does_not_read
# What send() did not take of the answers is forgotten.
s/client->owed_start += (size_t)n;/client->owed_start = client->owed_end;/
