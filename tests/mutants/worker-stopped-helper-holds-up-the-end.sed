# 09-cpu-offload/procpool.c
# caught by helper a_stopped_helper_does_not_hold_up_the_end
# At the end it waits for the helper, however long that takes.
/^static void end_helper/,/^}/s/waitpid(helper->pid, NULL, WNOHANG) == 0/waitpid(helper->pid, NULL, 0) == 0/
