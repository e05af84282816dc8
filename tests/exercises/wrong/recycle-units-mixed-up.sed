# 09-cpu-offload/recycle
# as many are replaced as it takes
# were to wear out 1 worker
# KiB are compared with MiB: each worker is too large after its first job.
/^static void recycle/,/^}/s/server\.max_memory \* INT64_C(1024)/server.max_memory/
