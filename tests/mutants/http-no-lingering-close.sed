# 07-event-loop/http_server.c
# caught by messages refusal_reaches_who_goes_on_sending
# Closed at once behind the last answer: a reset takes it from the client.
s/ linger(client);/ client_close(client);/
