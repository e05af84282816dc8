# 05-epoll/server.c
# caught by clients back_pressure
# A client that is owed bytes is still watched for more to read.
s/client->owed ? EPOLLOUT : EPOLLIN/client->owed ? EPOLLOUT | EPOLLIN : EPOLLIN/
