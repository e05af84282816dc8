# 07-event-loop/http.c
# caught by fetch upstream_says_much
# A body larger than is passed on is refused, and not cut.
s/^    if (parser->kind == HTTP_REQUEST) {$/    {/
