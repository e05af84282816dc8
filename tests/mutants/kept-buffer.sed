# 04-poll/server.c
# caught by clients buffers_are_given_back
# A client that was once owed bytes keeps a buffer.
/^static bool client_writable/,/^}/s/free(client->owed);//
