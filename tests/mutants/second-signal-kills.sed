# 03-select/server.c
# caught by repeated many_signals
# A signal while it ends already breaks that off.
s/^    stopping = 1;/    if (stopping)\n        _exit(1);\n&/
