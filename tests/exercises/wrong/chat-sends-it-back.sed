# 04-poll/chat
# a line goes to all others, not back
# got it back itself: it is for the others
# A line goes to all, its sender included.
/^static void broadcast/,/^}/{
    /^{/a\
    (void)sender;
    s/ && fd != sender//
}
