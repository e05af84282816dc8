# 04-poll/server.c
# caught by bytes half_close_gets_all_that_is_owed
# recv() returning 0 is taken for nothing new.
s/if (got == 0 || (errno/if (got < 0 \&\& (errno/
