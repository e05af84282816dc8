# 02-nonblocking-polling/connect
# 200 ports are tried at once
# expected an end after one time-out
# The ports are tried in groups of 30, the next group when all of the one before have ended.
/^static void try_all/,/^}/{
    /^{/,/^}/c\
{\
    for (int first = 0; first < client->count; first += 30) {\
        int next = first + 30 < client->count ? first + 30 : client->count;\
        double end = now() + client->timeout / 1000.0;\
        for (int i = first; i < next; i++)\
            attempt_start(client, &client->attempts[i]);\
        while (client->open > 0 && now() < end) {\
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);\
            for (int i = first; i < next; i++)\
                if (!client->attempts[i].answer)\
                    attempt_ask(client, &client->attempts[i]);\
        }\
        for (int i = first; i < next; i++)\
            if (!client->attempts[i].answer)\
                attempt_end(client, &client->attempts[i], "no answer");\
    }\
}
}
