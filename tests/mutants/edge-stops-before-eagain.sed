# 05-epoll/server.c --edge
# caught by bytes bytes_come_back_exactly
# Edge-triggered, but one read for each event.
s/int share = .*/int share = 1;/
s/bool again = [^;]*;/bool again = false;/
