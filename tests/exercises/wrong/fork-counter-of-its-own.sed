# 01-blocking/fork
# SIGTERM ends all processes, and the totals are of all
# whose processes all counted what they sent back, expected 'served 10 clients, .* but there was '.*served 10 clients, 0 bytes
# The counter is in ordinary memory, of which each child has a copy of its own.
/^static atomic_ullong \*shared_counter/,/^}/s/MAP_SHARED/MAP_PRIVATE/
