# 03-select/limit
# of many who come at once, N are served
# should be served and the others wait, but .* were served
# The limit decides whether to watch the listener, but not how many are accepted then.
/^static void accept_clients/,/^}/s/while (server->count < server->max &&/while (true \&\&/
