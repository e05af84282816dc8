# 08-threadpool/queue
# when the pool is full, all wait and are served in order
# which came earlier: expected the order of arrival
# Who comes joins the line at its beginning.
/^static void join_line/,/^}/ {
    /nap->link = server\.end;/c\
    nap->next = server.first;\
    nap->link = &server.first;
    /\*server\.end = nap;/c\
    if (nap->next)\
        nap->next->link = &nap->next;\
    else\
        server.end = &nap->next;
    s/server\.end = &nap->next;$/&/
    /^    server\.end = &nap->next;$/c\
    server.first = nap;
}
