# 07-event-loop/gather
# as many at a time as the limit says
# can a place that is free be taken twice
# A place becomes free before the one who was woken for it runs, who then takes it without a look.
/^static bool acquire/,/^}/ {
    s/^    if (self\.admitted)/    if (self.admitted) {\
        semaphore->places--;/
    /^    struct waiting \*\*link/i\
    }
}
/^static void release/,/^}/s/next->admitted = true;/next->admitted = true;\
    semaphore->places++;/
