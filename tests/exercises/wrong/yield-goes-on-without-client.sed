# 07-event-loop/yield
# work ends with its client
# is their work given up when the client is
# When the client has gone, the work goes on to its end, and only the answer is left out.
/^static void work_gone/,/^}/ {
    s/loop_defer_cancel(.*/work->client = NULL;/
    /free(work)/d
}
/^static void work_some/,/^}/s/^    answer_count/    if (client)\
        answer_count/
