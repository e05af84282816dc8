# 09-cpu-offload/server.c
# caught by events only_its_own_page_may_read_answers
# An origin that only begins like the page's own may read the answers, too.
s/if (strcmp(origin, own_origin\[i\]) == 0)/if (strncmp(origin, own_origin[i], strlen(own_origin[i])) == 0)/
