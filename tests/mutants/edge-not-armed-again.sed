# 05-epoll/server.c --edge
# caught by bytes bytes_come_back_exactly
# A client whose share is used up is not told of what is left.
s/bool again = [^;]*;/bool again = false;/
