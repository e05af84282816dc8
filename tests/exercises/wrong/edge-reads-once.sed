# 05-epoll/edge
# all that one edge tells of comes back
# the edge is told once, however much there is to be read
# One recv() for each edge, as if it were level-triggered.
/^static void client_ready/,/^}/{
    s/while (share > 0/if (share > 0/
    s/share--;/return;/
}
