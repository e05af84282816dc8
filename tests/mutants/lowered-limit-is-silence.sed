# 04-poll/server.c
# caught by running fewer_descriptors_while_it_runs
# When poll() refuses the array, nobody is asked.
s/ready < 0 && fd <= server->highest/false \&\& fd <= server->highest/
