# 03-select/limit
# each one that leaves makes room for one
# are those who leave taken off the count
# The count goes up only.
/^static void client_close/,/^}/{
    /server->count--;/d
}
