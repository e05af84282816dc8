# 09-cpu-offload/recycle
# no worker grows much above the limit
# a worker was found with
# The server looks at its own memory, not at the worker's.
/^static void recycle/,/^}/s/result->memory_kib/memory_kib()/
