# 05-epoll/edge
# who floods starves nobody
# after a share of the one it is the others' turn
# A client is read until EAGAIN, however long that takes.
s/FAIR_SHARE = 8/FAIR_SHARE = 1 << 30/
