# 07-event-loop/http.c
# caught by messages refused_message
# LF alone ends a line, too: others see other lines.
s/length < 2 || line\[text\] != '\\r'/length < 2/
