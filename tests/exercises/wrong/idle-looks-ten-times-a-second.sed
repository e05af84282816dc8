# 03-select/idle
# waiting costs no CPU
# the program woke up .* it can sleep until the first of them is due
# select() gets a tenth of a second, whoever is due next.
/^static long long wait_ms/,/^}/s/long long left = .*/long long left = 100;/
/^static long long wait_ms/,/^}/{
    s/, now = now_ms()//
    /if (left < 0)/d
    /left = 0;/d
}
