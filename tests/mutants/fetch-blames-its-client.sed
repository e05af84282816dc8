# 07-event-loop/fetch.c
# caught by fetch upstream_fails
# The other server's nonsense is described as the client's.
s/finish(fetch, 502, "the other server's answer is not.*");/finish(fetch, 502, fetch->response.error);/
