# 08-threadpool/files.c
# caught by refused nothing_but_what_is_below_the_root
# The path ".." leads out of the folder.
s/ && strcmp(step, "..") != 0//
