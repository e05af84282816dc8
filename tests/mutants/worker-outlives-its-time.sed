# 09-cpu-offload/procpool.c
# caught by workers over_its_time
# A worker that takes too long is left alone, not killed.
s/^    give_order(pool, 'k', pid);//
