# 05-epoll/server.c --edge
# caught by lesson edge_triggered_reads_in_shares
# One client that sends fast enough is read for ever.
s/FAIR_SHARE = 4/FAIR_SHARE = 1 << 30/
