# 08-threadpool/files.c
# caught by refused out_of_descriptors_is_not_404
# Whoever asks for a name that cannot be is told why the last open failed.
s/^ *errno = ENOENT;.*//
