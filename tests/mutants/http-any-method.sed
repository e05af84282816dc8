# 07-event-loop/http.c
# caught by messages refused_message
# A method that nobody knows is let through.
s/is_known_method(line, method) ? take_target(parser, target) : refuse_method(parser)/take_target(parser, target)/
