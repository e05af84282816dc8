# 07-event-loop/http.c
# caught by messages refused_message
# Whatever stands in brackets is an address.
s/return inet_pton(AF_INET6, address, &parsed) == 1;/return parsed.s6_addr == parsed.s6_addr;/
