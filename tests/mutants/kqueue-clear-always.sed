# 06-kqueue/server.c
# caught by clients bulk_clients_at_once
# Edge-triggered even without --edge, with one read for each event.
s/EV_ADD | server->edge/EV_ADD | EV_CLEAR/
