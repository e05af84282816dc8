# 06-kqueue/server.c
# caught by clients back_pressure
# A client that is owed bytes is still watched for more to read.
s/EV_DISABLE/EV_ENABLE/
