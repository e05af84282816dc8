# 04-poll/server.c
# caught by ending totals_are_right
# The line of totals is missing.
/"served /d
