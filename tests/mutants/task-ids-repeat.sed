# 09-cpu-offload/tasks.c
# caught by tasks a_thousand_tasks_at_once
# There are 256 ids: two tasks have the same.
s/^    unsigned char bits\[16\];/    static unsigned char last;\
    unsigned char bits[16] = {last++};/
s/getentropy(bits, sizeof bits)/0/
