# 08-threadpool/queue
# beyond --waiting it is 503
# expected 503 for one more at once, but nothing came
# One more than --waiting says may wait.
/^static bool find_place/,/^}/s/server\.waiting == server\.waiting_max/server.waiting > server.waiting_max/
