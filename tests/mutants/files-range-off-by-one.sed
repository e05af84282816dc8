# 08-threadpool/files.c
# caught by files range
# Of a range, the last byte is missing.
s/\*end = last + 1;/*end = last;/
