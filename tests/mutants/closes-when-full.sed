# 02-nonblocking-polling/server.c
# caught by bytes half_close_gets_all_that_is_owed
# EAGAIN from send() is taken for a lost client.
/^static bool client_writable/,/^}/s/errno != EAGAIN && errno != EINTR/true/
