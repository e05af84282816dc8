# 03-select/server.c
# caught by lesson failing_wait
# select() without memory ends the program.
s/if (ready < 0 && !stopping)/if (ready < 0 \&\& errno == ENOMEM)\
            exit(1);\
        if (ready < 0 \&\& !stopping)/
