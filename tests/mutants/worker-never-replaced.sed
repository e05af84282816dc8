# 09-cpu-offload/procpool.c
# caught by workers after_max_jobs_another_worker
# A worker goes on past --max-jobs, with all that it has leaked.
s/bool recycle = [^;]*;/bool recycle = false;/
