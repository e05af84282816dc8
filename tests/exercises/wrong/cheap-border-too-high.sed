# 08-threadpool/cheap
# the pool gets the large sums, and only those
# expected as many jobs of the pool's
# The loop adds up to ten million squares itself.
s/CHEAP = 5000/CHEAP = 10 * 1000 * 1000/
