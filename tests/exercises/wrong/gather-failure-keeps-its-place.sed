# 07-event-loop/gather
# a failed connection frees its place
# is the place of a connection that fails free for the next one
# Who has no answer ends without giving back its place.
/^static void run_client(/,/^}/ {
    s/if (ask())/if (!ask())/
    s/program\.answers++;/return;/
    s/^        release/        program.answers++;\
        release/
}
