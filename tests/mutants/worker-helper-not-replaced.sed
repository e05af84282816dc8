# 09-cpu-offload/procpool.c
# caught by helper a_killed_helper_costs_its_clients_nothing
# The helper is started once: when it is lost, no worker comes any more.
/^static void helper_lost/,/^}/s/    helper->there = false;//
