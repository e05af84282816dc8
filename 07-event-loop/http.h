/*
 * HTTP/1.1 without a socket: reading messages out of a stream of bytes, however it is cut, and
 * writing the head of an answer. Small and strict, by RFC 9112 (syntax) and RFC 9110 (meaning).
 * Nothing is kept but in the parser that is passed, so each thread may use parsers of its own.
 */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

enum {
    HTTP_LINE_MAX = 8 * 1024,  /* bytes of a start line or a chunk's size line, with its CRLF */
    HTTP_HEAD_MAX = 16 * 1024, /* bytes of start line, header and trailer section together */
    HTTP_FIELDS_MAX = 100      /* fields in them */
};

enum http_kind { HTTP_REQUEST, HTTP_RESPONSE };

enum http_state {
    HTTP_EMPTY,    /* nothing of the message has come yet, empty lines apart (RFC 9112, 2.2) */
    HTTP_READING,  /* a part of it has */
    HTTP_COMPLETE, /* all of it has */
    HTTP_FAILED    /* it is refused, see status: nothing more can be read from this peer */
};

/* One message, while it is read and once it is complete. The strings are NUL-terminated, belong to
 * the parser, and last until http_reset(). All but state is unspecified before HTTP_COMPLETE. */
struct http_parser {
    enum http_state state;
    int status;        /* HTTP_FAILED: what to answer, say 400. A complete response: its status */
    const char *error; /* HTTP_FAILED: what was wrong and what is accepted; a constant */

    /* a request's */
    const char *method;  /* as sent: "GET" */
    char *path;          /* percent-decoded: "/files/a b"; "*" for OPTIONS *; "" with a NUL (%00) */
    const char *query;   /* as sent, without the "?"; "" if there is none: see http_query() */
    bool wants_continue; /* valid while HTTP_READING, too: the head is complete, has asked for leave
                            to send the body ("Expect: 100-continue"), and no body has come yet */

    bool truncated; /* a response's: its body is longer, and was read no further than to body_max */

    int minor_version;  /* of HTTP/1.x: 0 or 1, which stands for higher ones, too */
    bool keep_alive;    /* the sender will use the connection again (RFC 9112, 9.3) */
    const char *body;   /* without chunk framing; "" if there is none */
    size_t body_length; /* bytes */

    /* the parser's own */
    enum http_kind kind;
    size_t body_max;
    int step;              /* what is to come next, of http.c's enum step */
    unsigned seen;         /* which header fields have come, of http.c's SEEN_... */
    char *head;            /* strings of the lines that have come, then the line that is coming */
    size_t head_size;      /* bytes allocated */
    size_t head_length;    /* bytes of those strings */
    size_t line_length;    /* bytes of the line so far */
    size_t head_taken;     /* bytes that count against HTTP_HEAD_MAX */
    size_t fields;         /* that count against HTTP_FIELDS_MAX */
    size_t content_length; /* what the field says */
    size_t left;           /* bytes still to come of the body, or of the chunk */
    char *content;         /* the body; NULL while there is nothing of it */
    size_t content_size;   /* bytes allocated */
};

/* Makes an empty parser. body_max: the most bytes of a body that are accepted (a request with more:
 * 413; a response with more is truncated). It takes no memory besides itself until it is fed. */
void http_init(struct http_parser *parser, enum http_kind kind, size_t body_max);

/* Takes bytes of the stream up to the end of the message. Returns how many it took: all of them,
 * unless the message is complete or refused before. The rest belongs to the next message. Does
 * nothing and returns 0 in the states HTTP_COMPLETE and HTTP_FAILED. Without memory: HTTP_FAILED
 * with status 500. The work is linear in the length of the stream, however it is cut. */
size_t http_feed(struct http_parser *parser, const char *bytes, size_t length);

/* The stream has ended. A response that has no other end (RFC 9112, 6.3) is then complete, any
 * other unfinished message has failed (status 400). HTTP_EMPTY stays HTTP_EMPTY. */
void http_feed_end(struct http_parser *parser);

/* Frees what the message took, and makes the parser ready for the next one. */
void http_reset(struct http_parser *parser);

/* Whether the request, or what has come of it, begins with HEAD: then its answer has no body,
 * not even if it is refused (RFC 9110, 9.3.2). In every state. */
bool http_is_head(const struct http_parser *parser);

/* The value of the first header field of that name (any case) without the white space around it,
 * or NULL. Lasts until http_reset(). Only for a complete message. */
const char *http_header(const struct http_parser *parser, const char *name);

/* The decoded value ("+" and %XX) of the first parameter of that name, as a new string that the
 * caller frees. NULL with errno 0: there is none; with errno EINVAL: it is malformed (a bad escape,
 * or %00); with ENOMEM. */
char *http_query(const char *query, const char *name);

/* --- writing --- */

enum { HTTP_DATE_SIZE = 30 }; /* "Sun, 06 Nov 1994 08:49:37 GMT" and its NUL */

/* Writes the time as RFC 9110, 5.6.7 wants it. */
void http_date(char out[HTTP_DATE_SIZE], time_t when);

/* The head of an answer. */
struct http_head {
    int status;
    const char *type;  /* Content-Type; NULL: none */
    long long length;  /* Content-Length in bytes; -1: none, the body ends with the connection */
    const char *date;  /* from http_date() */
    bool keep_alive;   /* false: says "Connection: close" */
    int minor_version; /* the request's: HTTP/1.0 has to be told "Connection: keep-alive" */
    const char *headers, *more_headers; /* further complete lines, each with its CRLF; NULL: none */
};

/* Writes it with the empty line at its end, and NUL-terminates it. Returns its length in bytes, or
 * 0 if it does not fit into size bytes. */
size_t http_write_head(char *out, size_t size, const struct http_head *head);

/* "Not Found" for 404. */
const char *http_reason(int status);

/* Writes length bytes of text to out as the inside of a JSON string, without the quotes: what needs
 * an escape gets one, and what is not UTF-8 becomes U+FFFD. Returns how many bytes that is: at most
 * 6 for each of text's. No NUL. */
size_t json_escape(char *out, const char *text, size_t length);

#endif
