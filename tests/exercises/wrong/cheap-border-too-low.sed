# 08-threadpool/cheap
# small sums are answered though no thread is free
# with all threads asleep and the queue full, expected the sum
# Sums of more than 50 squares go to the pool, though they cost far less than the way there.
s/CHEAP = 5000/CHEAP = 50/
