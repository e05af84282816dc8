# 05-epoll/server.c --edge
# caught by lesson edge_triggered_reads_in_shares
# --edge is accepted and changes nothing.
s/events | server->edge, /events, /
