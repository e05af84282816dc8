# 01-blocking/thread
# SIGTERM ends all threads, whatever they wait for
# after SIGTERM, with 4 clients connected, .* still ran .* who waits for a client has to be woken
# close() in the place of shutdown(): a thread that sleeps in recv() sleeps on.
/^static void end_clients/,/^}/s/shutdown(client->fd, SHUT_RDWR)/close(client->fd)/
