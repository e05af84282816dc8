# 04-poll/chat
# lines stay whole, however they are cut
# lines are for others once they are complete
# What recv() returns goes out at once, whether a line ends there or not.
/^static void client_said/,/^}/s/size_t lines = complete_lines(bytes, length);/size_t lines = memchr(bytes, '\\n', length) || complete_lines(bytes, length) == 0 ? length : 0;/
