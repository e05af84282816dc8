# 07-event-loop/http_server.c
# caught by messages refused_head_has_no_body
# A HEAD that is refused is answered with a body.
s/client->head = http_is_head(&client->request);/client->head = false;/
