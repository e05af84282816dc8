# 08-threadpool/http_server.c
# caught by leaving who_half_closes_in_the_queue_is_told
# Who closes its side and loses its place is not told so.
s/^    client_answer_error(client, 503/    client_drop(client); if (0) &/
