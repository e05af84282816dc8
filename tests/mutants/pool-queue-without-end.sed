# 08-threadpool/threadpool.c
# caught by pool full_is_503_and_the_connection_lives
# Any number of jobs may wait.
s/ && pool->queued + pool->busy < pool->room//
