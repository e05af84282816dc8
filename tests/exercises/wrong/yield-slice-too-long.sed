# 07-event-loop/yield
# others are served meanwhile
# expected /health to be answered
# The work goes on for 200 ms before it gives way.
s/SLICE_NS = 5 \*/SLICE_NS = 200 */
