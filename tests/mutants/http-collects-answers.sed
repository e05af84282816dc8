# 07-event-loop/http_server.c
# caught by connection client_that_does_not_read
# Who reads no answers has its requests read on: no back-pressure.
s/client_owed(client) < BUFFER_SIZE)/true)/
