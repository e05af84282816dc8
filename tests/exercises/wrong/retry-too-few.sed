# 09-cpu-offload/retry
# up to seven crashes are made good
# /flaky?crashes=[67]: expected 200, but 500
# There are two waits, and not three.
s/RETRIES = 3/RETRIES = 2/
