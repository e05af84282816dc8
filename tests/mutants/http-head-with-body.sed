# 07-event-loop/http_server.c
# caught by endpoints head_is_get_without_the_body
# HEAD is answered with a body, which the client takes for the next answer.
s/client->head ? 0 : (size_t)answer->length/(size_t)answer->length/
