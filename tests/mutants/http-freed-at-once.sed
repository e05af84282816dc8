# 09-cpu-offload/http_server.c
# caught by clients left_between_two_requests
# A client that is closed is freed at once, although others are in the middle of something with it.
s/^static void client_close(struct client \*client)$/static void client_free(struct loop *loop, void *arg); &/
s/loop_defer(server->loop, &client->leave);/client_free(server->loop, client);/
