# 08-threadpool/files.c
# caught by refused symbolic_links_are_not_followed
# A symbolic link leads out of the folder.
s/O_NOFOLLOW | //
