/*
 * Which endpoints an HTTP server has, by its own word: GET / lists them. Who tests with these takes
 * up new ones without being told of them.
 */
#ifndef ENDPOINTS_H
#define ENDPOINTS_H

enum { ENDPOINTS_MAX = 64 };

struct endpoint {
    char method[8];   /* GET or POST */
    char target[256]; /* ready to be sent, with arguments that make the answer a quick one */
    char body[64];    /* of a POST; else empty */
};

/* Finds the endpoints in the page (HTML), and GET / itself. Where the page leaves something open
 * (n=N, /files/NAME) a value is put in; /fetch is sent to that port. Returns how many there are. */
int endpoints_on(const char *page, int port, struct endpoint endpoints[ENDPOINTS_MAX]);

#endif
