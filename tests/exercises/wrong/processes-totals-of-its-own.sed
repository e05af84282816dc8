# 05-epoll/processes
# all end together, with the totals of all
# the sum of all workers, but there was
# The totals are in ordinary memory, of which each worker has a copy of its own.
/^static struct totals \*share_totals/,/^}/s/MAP_SHARED/MAP_PRIVATE/
