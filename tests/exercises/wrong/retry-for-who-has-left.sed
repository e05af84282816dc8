# 09-cpu-offload/retry
# nothing is tried for a client that has left
# no more were expected to
# A job that waits for its next try is tried though its client has left.
/^static void errand_gone/,/^}/ {
    s/if (errand->waits || procpool_cancel(\(.*\)))$/if (!errand->waits \&\& procpool_cancel(\1))/
}
/^static void errand_again/,/^}/s/^    client_answer_error/    if (client)\
        client_answer_error/
/^static void errand_done/,/^}/s/ && client && errand_later/ \&\& errand_later/
