# 02-nonblocking-polling/connect
# six that do not answer take one time-out
# expected it to wait for all of them at the same time
# All are started at once, but then each is waited for in turn, with a time-out of its own.
/^static void try_all/,/^}/{
    /^{/,/^}/c\
{\
    for (int i = 0; i < client->count; i++)\
        attempt_start(client, &client->attempts[i]);\
    for (int i = 0; i < client->count; i++) {\
        struct attempt *attempt = &client->attempts[i];\
        double end = now() + client->timeout / 1000.0;\
        while (!attempt->answer && now() < end) {\
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);\
            attempt_ask(client, attempt);\
        }\
        if (!attempt->answer)\
            attempt_end(client, attempt, "no answer");\
    }\
}
}
