# 04-poll/server.c
# caught by bytes bytes_come_back_exactly
# What send() did not take is forgotten.
s/client->sent += (size_t)n;/client->sent = client->length;/
