/*
 * What the bytes of a request may look like, and what a server owes to those that may not: an
 * answer that says why, and the end of the connection. Where two readers of the same bytes see
 * different requests, one of them can be made to let a request through that nobody has looked at
 * ("request smuggling"); so whatever is not plainly right is refused (RFC 9112, 11.2).
 */
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PLENTY = 120 }; /* seconds a test may take on a slow, busy machine */

#define GET "GET /health HTTP/1.1\r\n"
#define HOST "Host: localhost\r\n"
#define REQUEST(fields) GET HOST fields "\r\n"
#define CHUNKED(body) REQUEST("Transfer-Encoding: chunked\r\n") body

/* Follows every message below: to be answered after a good one, and not after a bad one. */
static const char next_request[] = "GET /sum?n=10 HTTP/1.1\r\n" HOST "\r\n";
static const char next_result[] = "285";

/* Sends the bytes in one piece, or one by one. Whoever is refused may not get rid of all of them.
 */
static void deliver(int fd, const char *bytes, size_t length, bool whole)
{
    size_t cut = whole ? length : 1;
    for (size_t sent = 0; sent < length; sent += cut)
        if (!client_send(fd, bytes + sent, cut))
            return;
}

/* --- good ones --- */

static const struct {
    const char *name, *section; /* of RFC 9112, unless said otherwise */
    const char *bytes;
    size_t length;
} accepted[] = {
    {"plain", "2.1", BYTES(REQUEST(""))},
    {"empty line before it", "2.2", BYTES("\r\n" REQUEST(""))},
    {"query", "3.2.1", BYTES("GET /health?a=b&&=&c HTTP/1.1\r\n" HOST "\r\n")},
    {"escaped letter in the path", "RFC 3986, 6.2.2.2",
     BYTES("GET /%68ealth HTTP/1.1\r\n" HOST "\r\n")},
    {"absolute form", "3.2.2", BYTES("GET http://localhost/health HTTP/1.1\r\n" HOST "\r\n")},
    {"absolute form, other Host", "3.2.2",
     BYTES("GET http://localhost/health HTTP/1.1\r\nHost: example.com\r\n\r\n")},
    {"empty Host", "3.2", BYTES(GET "Host:\r\n\r\n")},
    {"Host with port", "3.2", BYTES(GET "Host: localhost:8000\r\n\r\n")},
    {"Host that is an IPv6 address", "3.2", BYTES(GET "Host: [::1]:8000\r\n\r\n")},
    {"Host that is an address to come", "RFC 3986, 3.2.2", BYTES(GET "Host: [v1.a:b]\r\n\r\n")},
    {"Host with an escape", "RFC 3986, 3.2.2", BYTES(GET "Host: local%68ost\r\n\r\n")},
    {"higher minor version", "RFC 9110, 2.5", BYTES("GET /health HTTP/1.2\r\n" HOST "\r\n")},
    {"field name in any case", "5", BYTES(GET "hOST: localhost\r\n\r\n")},
    {"no space after the colon", "5", BYTES(GET "Host:localhost\r\n\r\n")},
    {"tabs around a value", "5", BYTES(GET "Host:\t localhost \t\r\n\r\n")},
    {"empty value", "5", BYTES(REQUEST("X-Empty:\r\n"))},
    {"colon in a value", "5", BYTES(REQUEST("X-Time: 12:30: now\r\n"))},
    {"bytes beyond ASCII in a value", "RFC 9110, 5.5", BYTES(REQUEST("X-Name: J\xfcrgen\r\n"))},
    {"every sign of a token in a name", "RFC 9110, 5.6.2",
     BYTES(REQUEST("!#$%&'*+-.^_`|~09azAZ: x\r\n"))},
    {"length 0", "6.2", BYTES(REQUEST("Content-Length: 0\r\n"))},
    {"a body", "6.2", BYTES(REQUEST("Content-Length: 5\r\n") "hello")},
    {"length with leading zeros", "6.2", BYTES(REQUEST("Content-Length: 0005\r\n") "hello")},
    {"body that looks like a request", "6.2",
     BYTES(REQUEST("Content-Length: 26\r\n") "GET / HTTP/1.1\r\nHost: x\r\n\r")},
    {"no chunk but the last", "7.1", BYTES(CHUNKED("0\r\n\r\n"))},
    {"chunks", "7.1", BYTES(CHUNKED("5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n"))},
    {"hexadecimal size", "7.1", BYTES(CHUNKED("a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n"))},
    {"size with leading zeros", "7.1", BYTES(CHUNKED("0005\r\nhello\r\n000\r\n\r\n"))},
    {"chunk that looks like chunks", "7.1", BYTES(CHUNKED("7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"))},
    {"chunk extension", "7.1.1", BYTES(CHUNKED("5;a=b\r\nhello\r\n0;c\r\n\r\n"))},
    {"quoted chunk extension", "7.1.1", BYTES(CHUNKED("5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n"))},
    {"blanks in a chunk extension", "7.1.1",
     BYTES(CHUNKED("5 ; a = \"\\\"\" ;b\r\nhello\r\n0\r\n\r\n"))},
    {"trailers", "7.1.2", BYTES(CHUNKED("5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"))},
    {"length among the trailers", "6.5.1",
     BYTES(CHUNKED("5\r\nhello\r\n0\r\nContent-Length: 99\r\n\r\n"))},
    {"coding in any case", "7", BYTES(REQUEST("Transfer-Encoding: CHUNKed\r\n") "0\r\n\r\n")},
    {"a name that only looks like the coding's", "6.1",
     BYTES(REQUEST("Transfer_Encoding: chunked\r\nContent-Length: 5\r\n") "hello")},
    {"keep-alive", "9.3", BYTES(REQUEST("Connection: keep-alive, x-other\r\n"))},
};

START_TEST(accepted_message)
{
    for (int whole = 0; whole < 2; whole++) {
        struct http_client client = connect_http();
        deliver(client.fd, accepted[_i].bytes, accepted[_i].length, whole);
        deliver(client.fd, next_request, strlen(next_request), whole);
        ck_assert_msg(http_receive(&client) == 200 && strstr(client.body, "\"ok\""), "%s (%s): %s",
                      accepted[_i].name, accepted[_i].section, http_describe(&client));
        ck_assert_msg(http_receive(&client) == 200 && strstr(client.body, next_result),
                      "what follows %s (%s): %s", accepted[_i].name, accepted[_i].section,
                      http_describe(&client));
        http_close(&client);
    }
}
END_TEST

/* --- bad ones --- */

static const struct {
    const char *name, *section; /* of RFC 9112, unless said otherwise */
    int status, or_status;      /* two where the RFC leaves the choice; 0: no second one */
    const char *bytes;
    size_t length;
} refused[] = {
    /* the request line */
    {"no version", "3", 400, 0, BYTES("GET /health\r\n" HOST "\r\n")},
    {"no target", "3", 400, 0, BYTES("GET HTTP/1.1\r\n" HOST "\r\n")},
    {"empty method", "3.1", 400, 0, BYTES(" /health HTTP/1.1\r\n" HOST "\r\n")},
    {"method that is no token", "3.1", 400, 0, BYTES("G(ET /health HTTP/1.1\r\n" HOST "\r\n")},
    {"two spaces", "3", 400, 0, BYTES("GET  /health HTTP/1.1\r\n" HOST "\r\n")},
    {"two spaces before the version", "3", 400, 0, BYTES("GET /health  HTTP/1.1\r\n" HOST "\r\n")},
    {"tab for space", "3", 400, 0, BYTES("GET\t/health\tHTTP/1.1\r\n" HOST "\r\n")},
    {"space before it", "3", 400, 0, BYTES(" " REQUEST(""))},
    {"space behind it", "3", 400, 0, BYTES("GET /health HTTP/1.1 \r\n" HOST "\r\n")},
    {"a fourth word", "3", 400, 0, BYTES("GET /health HTTP/1.1 now\r\n" HOST "\r\n")},
    {"space in the target", "3.2", 400, 0, BYTES("GET /hea lth HTTP/1.1\r\n" HOST "\r\n")},
    {"NUL in the target", "2.2", 400, 0, BYTES("GET /health\0 HTTP/1.1\r\n" HOST "\r\n")},
    {"control byte in the target", "3.2", 400, 0, BYTES("GET /\x01 HTTP/1.1\r\n" HOST "\r\n")},
    {"raw UTF-8 in the target", "3.2", 400, 0, BYTES("GET /\xc3\xbc HTTP/1.1\r\n" HOST "\r\n")},
    {"fragment", "3.2.1", 400, 0, BYTES("GET /health#x HTTP/1.1\r\n" HOST "\r\n")},
    {"no slash in front", "3.2.1", 400, 0, BYTES("GET health HTTP/1.1\r\n" HOST "\r\n")},
    {"* for something else than OPTIONS", "3.2.4", 400, 0, BYTES("GET * HTTP/1.1\r\n" HOST "\r\n")},
    {"escape without digits", "RFC 3986, 2.1", 400, 0, BYTES("GET /% HTTP/1.1\r\n" HOST "\r\n")},
    {"escape with one digit", "RFC 3986, 2.1", 400, 0, BYTES("GET /%4 HTTP/1.1\r\n" HOST "\r\n")},
    {"escape with other letters", "RFC 3986, 2.1", 400, 0,
     BYTES("GET /%zz HTTP/1.1\r\n" HOST "\r\n")},
    {"version in small letters", "2.3", 400, 0, BYTES("GET /health http/1.1\r\n" HOST "\r\n")},
    {"version without a dot", "2.3", 400, 0, BYTES("GET /health HTTP/11\r\n" HOST "\r\n")},
    {"version without a minor", "2.3", 400, 0, BYTES("GET /health HTTP/1.\r\n" HOST "\r\n")},
    {"minor version of two digits", "2.3", 400, 0, BYTES("GET /health HTTP/1.10\r\n" HOST "\r\n")},
    {"major version of two digits", "2.3", 400, 0, BYTES("GET /health HTTP/01.1\r\n" HOST "\r\n")},
    {"another protocol", "2.3", 400, 0, BYTES("GET /health SIP/1.1\r\n" HOST "\r\n")},
    {"version 2.0", "RFC 9110, 15.6.6", 505, 0, BYTES("GET /health HTTP/2.0\r\n" HOST "\r\n")},
    {"version 0.9", "RFC 9110, 15.6.6", 505, 0, BYTES("GET /health HTTP/0.9\r\n" HOST "\r\n")},
    {"unknown method", "RFC 9110, 15.6.2", 501, 0, BYTES("BREW /health HTTP/1.1\r\n" HOST "\r\n")},
    {"method in small letters", "RFC 9110, 9.1", 501, 0,
     BYTES("get /health HTTP/1.1\r\n" HOST "\r\n")},
    {"CONNECT", "RFC 9110, 9.3.6", 501, 405,
     BYTES("CONNECT localhost:80 HTTP/1.1\r\n" HOST "\r\n")},
    {"HTTP/2's preface", "RFC 9113, 3.4", 505, 400, BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")},
    {"a TLS handshake", "3", 400, 0, BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")},

    /* where lines end */
    {"LF for CRLF throughout", "2.2", 400, 0, BYTES("GET /health HTTP/1.1\nHost: localhost\n\n")},
    {"LF behind the request line", "2.2", 400, 0, BYTES("GET /health HTTP/1.1\n" HOST "\r\n")},
    {"LF behind a field", "2.2", 400, 0, BYTES(GET "X: y\n" HOST "\r\n")},
    {"LF for the empty line", "2.2", 400, 0, BYTES(GET HOST "\n")},
    {"LF before the request line", "2.2", 400, 0, BYTES("\n" REQUEST(""))},
    {"CR behind the request line", "2.2", 400, 0, BYTES("GET /health HTTP/1.1\r" HOST "\r\n")},
    {"CR behind a field", "2.2", 400, 0, BYTES(GET "X: y\r" HOST "\r\n")},
    {"CR within a value", "2.2", 400, 0, BYTES(REQUEST("X: a\rb\r\n"))},
    {"two CRs", "2.2", 400, 0, BYTES(REQUEST("X: y\r\r\n"))},

    /* fields */
    {"no Host", "3.2", 400, 0, BYTES(GET "\r\n")},
    {"no Host in absolute form", "3.2", 400, 0,
     BYTES("GET http://localhost/health HTTP/1.1\r\n\r\n")},
    {"Host twice", "3.2", 400, 0, BYTES(GET HOST HOST "\r\n")},
    {"two Hosts", "3.2", 400, 0, BYTES(GET HOST "Host: example.com\r\n\r\n")},
    {"space in Host", "3.2", 400, 0, BYTES(GET "Host: local host\r\n\r\n")},
    {"path in Host", "3.2", 400, 0, BYTES(GET "Host: localhost/health\r\n\r\n")},
    {"bad address in Host", "RFC 3986, 3.2.2", 400, 0, BYTES(GET "Host: [::::]\r\n\r\n")},
    {"bad escape in Host", "RFC 3986, 2.1", 400, 0, BYTES(GET "Host: a%zz\r\n\r\n")},
    {"escape without digits in Host", "RFC 3986, 2.1", 400, 0, BYTES(GET "Host: %\r\n\r\n")},
    {"bad address in the target", "RFC 3986, 3.2.2", 400, 0,
     BYTES("GET http://[::::]/health HTTP/1.1\r\n" HOST "\r\n")},
    {"bad escape in the target's host", "RFC 3986, 2.1", 400, 0,
     BYTES("GET http://a%zz/health HTTP/1.1\r\n" HOST "\r\n")},
    {"space before the colon", "5.1", 400, 0, BYTES(GET "Host : localhost\r\n\r\n")},
    {"tab before the colon", "5.1", 400, 0, BYTES(REQUEST("X\t: y\r\n"))},
    {"space before the first field", "2.2", 400, 0, BYTES(GET " X: y\r\n" HOST "\r\n")},
    {"folded field", "5.2", 400, 0, BYTES(REQUEST("X: a\r\n b\r\n"))},
    {"folded with a tab", "5.2", 400, 0, BYTES(REQUEST("X: a\r\n\tb\r\n"))},
    {"folded with nothing", "5.2", 400, 0, BYTES(REQUEST("X: a\r\n \r\n"))},
    {"no colon", "5", 400, 0, BYTES(REQUEST("nonsense\r\n"))},
    {"no name", "5", 400, 0, BYTES(REQUEST(": y\r\n"))},
    {"space in a name", "5.1", 400, 0, BYTES(REQUEST("X Y: z\r\n"))},
    {"bracket in a name", "5.1", 400, 0, BYTES(REQUEST("X(Y): z\r\n"))},
    {"bytes beyond ASCII in a name", "5.1", 400, 0, BYTES(REQUEST("X\xfc: y\r\n"))},
    {"NUL in a name", "5.1", 400, 0, BYTES(REQUEST("X\0: y\r\n"))},
    {"NUL in a value", "RFC 9110, 5.5", 400, 0, BYTES(REQUEST("X: a\0b\r\n"))},

    /* lengths */
    {"two lengths", "6.3", 400, 0,
     BYTES(REQUEST("Content-Length: 5\r\nContent-Length: 6\r\n") "hello!")},
    {"two lengths in one field", "6.3", 400, 0,
     BYTES(REQUEST("Content-Length: 5, 6\r\n") "hello!")},
    {"empty length", "6.3", 400, 0, BYTES(REQUEST("Content-Length:\r\n"))},
    {"negative length", "6.3", 400, 0, BYTES(REQUEST("Content-Length: -1\r\n"))},
    {"length with a plus", "6.3", 400, 0, BYTES(REQUEST("Content-Length: +5\r\n") "hello")},
    {"hexadecimal length", "6.3", 400, 0, BYTES(REQUEST("Content-Length: 0x5\r\n") "hello")},
    {"broken length", "6.3", 400, 0, BYTES(REQUEST("Content-Length: 5.0\r\n") "hello")},
    {"length in two words", "6.3", 400, 0, BYTES(REQUEST("Content-Length: 5 5\r\n") "hello")},
    {"quoted length", "6.3", 400, 0, BYTES(REQUEST("Content-Length: \"5\"\r\n") "hello")},
    {"length with a vertical tab", "6.3", 400, 0,
     BYTES(REQUEST("Content-Length: \v5\r\n") "hello")},
    {"length of letters", "6.3", 400, 0, BYTES(REQUEST("Content-Length: five\r\n") "hello")},
    {"space before the length's colon", "5.1", 400, 0,
     BYTES(REQUEST("Content-Length : 5\r\n") "hello")},
    {"folded length", "5.2", 400, 0, BYTES(REQUEST("Content-Length:\r\n 5\r\n") "hello")},
    {"length of 2^64 + 5", "6.3", 413, 400,
     BYTES(REQUEST("Content-Length: 18446744073709551621\r\n") "hello")},
    {"length of 2^63 + 5", "6.3", 413, 400,
     BYTES(REQUEST("Content-Length: 9223372036854775813\r\n") "hello")},
    {"length beyond the limit", "RFC 9110, 15.5.14", 413, 0,
     BYTES(REQUEST("Content-Length: 65537\r\n"))},

    /* length and coding: what the one reader takes as the body, the other takes as a request */
    {"CL.TE", "6.1", 400, 0,
     BYTES(REQUEST("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n") "0\r\n\r\nG")},
    {"TE.CL", "6.1", 400, 0,
     BYTES(REQUEST("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n") "1\r\nG\r\n0\r\n\r\n")},
    {"length 0 and a coding", "6.1", 400, 0,
     BYTES(REQUEST("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n") "0\r\n\r\n")},
    {"space before the coding's colon", "5.1", 400, 0,
     BYTES(REQUEST("Transfer-Encoding : chunked\r\nContent-Length: 5\r\n") "0\r\n\r\n")},
    {"folded coding", "5.2", 400, 0,
     BYTES(REQUEST("Transfer-Encoding:\r\n chunked\r\n") "0\r\n\r\n")},
    {"coding behind a folded field", "5.2", 400, 0,
     BYTES(REQUEST("X: y\r\n Transfer-Encoding: chunked\r\n") "0\r\n\r\n")},
    {"coding behind a LF", "2.2", 400, 0,
     BYTES(REQUEST("X: y\nTransfer-Encoding: chunked\r\n") "0\r\n\r\n")},

    /* codings */
    {"unknown coding", "6.1", 501, 0, BYTES(REQUEST("Transfer-Encoding: gzip, chunked\r\n"))},
    {"unknown coding alone", "6.3", 400, 0, BYTES(REQUEST("Transfer-Encoding: gzip\r\n"))},
    {"identity", "7", 400, 0, BYTES(REQUEST("Transfer-Encoding: identity\r\n"))},
    {"xchunked", "6.3", 400, 0, BYTES(REQUEST("Transfer-Encoding: xchunked\r\n") "0\r\n\r\n")},
    {"chunked is not last", "6.3", 400, 0, BYTES(REQUEST("Transfer-Encoding: chunked, gzip\r\n"))},
    {"chunked twice", "6.1", 400, 0,
     BYTES(REQUEST("Transfer-Encoding: chunked, chunked\r\n") "0\r\n\r\n")},
    {"two coding fields", "6.3", 400, 0,
     BYTES(REQUEST("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n") "0\r\n\r\n")},
    {"two coding fields, chunked last", "6.1", 501, 0,
     BYTES(REQUEST("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n") "0\r\n\r\n")},
    {"vertical tab before the coding", "6.1", 400, 0,
     BYTES(REQUEST("Transfer-Encoding: \vchunked\r\n") "0\r\n\r\n")},
    {"vertical tab behind the coding", "6.1", 400, 0,
     BYTES(REQUEST("Transfer-Encoding: chunked\v\r\n") "0\r\n\r\n")},
    {"NUL behind the coding", "6.1", 400, 0,
     BYTES(REQUEST("Transfer-Encoding: chunked\0\r\n") "0\r\n\r\n")},
    {"quoted coding", "6.1", 400, 0,
     BYTES(REQUEST("Transfer-Encoding: \"chunked\"\r\n") "0\r\n\r\n")},
    {"coding in two words", "6.1", 400, 0,
     BYTES(REQUEST("Transfer-Encoding: chunked x\r\n") "0\r\n\r\n")},
    {"coding with a parameter", "7", 400, 0,
     BYTES(REQUEST("Transfer-Encoding: chunked;x=y\r\n") "0\r\n\r\n")},
    {"empty coding", "6.1", 400, 0, BYTES(REQUEST("Transfer-Encoding:\r\n"))},
    {"coding in HTTP/1.0", "6.1", 400, 501,
     BYTES("GET /health HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")},

    /* chunks */
    {"0x before the size", "7.1", 400, 0, BYTES(CHUNKED("0x5\r\nhello\r\n0\r\n\r\n"))},
    {"minus before the size", "7.1", 400, 0, BYTES(CHUNKED("-1\r\nhello\r\n0\r\n\r\n"))},
    {"plus before the size", "7.1", 400, 0, BYTES(CHUNKED("+5\r\nhello\r\n0\r\n\r\n"))},
    {"space before the size", "7.1", 400, 0, BYTES(CHUNKED(" 5\r\nhello\r\n0\r\n\r\n"))},
    {"space behind the size", "7.1", 400, 0, BYTES(CHUNKED("5 \r\nhello\r\n0\r\n\r\n"))},
    {"tab behind the size", "7.1", 400, 0, BYTES(CHUNKED("5\t\r\nhello\r\n0\r\n\r\n"))},
    {"underscore in the size", "7.1", 400, 0, BYTES(CHUNKED("0_5\r\nhello\r\n0\r\n\r\n"))},
    {"no size", "7.1", 400, 0, BYTES(CHUNKED("\r\nhello\r\n0\r\n\r\n"))},
    {"extension without a size", "7.1", 400, 0, BYTES(CHUNKED(";x\r\nhello\r\n0\r\n\r\n"))},
    {"size of other letters", "7.1", 400, 0, BYTES(CHUNKED("g\r\nhello\r\n0\r\n\r\n"))},
    {"NUL behind the size", "7.1", 400, 0, BYTES(CHUNKED("5\0\r\nhello\r\n0\r\n\r\n"))},
    {"size of 2^64 + 5", "7.1", 413, 400,
     BYTES(CHUNKED("10000000000000005\r\nhello\r\n0\r\n\r\n"))},
    {"size of 2^64 - 1", "7.1", 413, 400, BYTES(CHUNKED("ffffffffffffffff\r\nhello\r\n0\r\n\r\n"))},
    {"size of 2^63", "7.1", 413, 400, BYTES(CHUNKED("8000000000000000\r\nhello\r\n0\r\n\r\n"))},
    {"size of 2^32 + 5", "7.1", 413, 400, BYTES(CHUNKED("100000005\r\nhello\r\n0\r\n\r\n"))},
    {"LF behind the size", "7.1", 400, 0, BYTES(CHUNKED("5\nhello\r\n0\r\n\r\n"))},
    {"LF behind the data", "7.1", 400, 0, BYTES(CHUNKED("5\r\nhello\n0\r\n\r\n"))},
    {"LF behind the last size", "7.1", 400, 0, BYTES(CHUNKED("5\r\nhello\r\n0\n\r\n"))},
    {"LF for the last empty line", "7.1", 400, 0, BYTES(CHUNKED("5\r\nhello\r\n0\r\n\n"))},
    {"LF in an extension", "7.1.1", 400, 0, BYTES(CHUNKED("5;a\nb\r\nhello\r\n0\r\n\r\n"))},
    {"CR in an extension", "7.1.1", 400, 0, BYTES(CHUNKED("5;a\rb\r\nhello\r\n0\r\n\r\n"))},
    {"CR behind the size", "7.1", 400, 0, BYTES(CHUNKED("5\rhello\r\n0\r\n\r\n"))},
    {"no name of an extension", "7.1.1", 400, 0, BYTES(CHUNKED("5;\r\nhello\r\n0\r\n\r\n"))},
    {"no value of an extension", "7.1.1", 400, 0, BYTES(CHUNKED("5;a=\r\nhello\r\n0\r\n\r\n"))},
    {"bracket in an extension", "7.1.1", 400, 0, BYTES(CHUNKED("5;bad[=\"\r\nhello\r\n0\r\n\r\n"))},
    {"extension with an open quote", "7.1.1", 400, 0,
     BYTES(CHUNKED("5;a=\"b\r\nhello\r\n0\r\n\r\n"))},
    {"longer than its size", "7.1", 400, 0, BYTES(CHUNKED("5\r\nhello!\r\n0\r\n\r\n"))},
    {"shorter than its size", "7.1", 400, 0, BYTES(CHUNKED("5\r\nhell\r\n0\r\n\r\n"))},
    {"nothing between chunks", "7.1", 400, 0, BYTES(CHUNKED("5\r\nhello0\r\n\r\n"))},
    {"trailer without a colon", "7.1.2", 400, 0, BYTES(CHUNKED("0\r\nnonsense\r\n\r\n"))},
    {"folded trailer", "5.2", 400, 0, BYTES(CHUNKED("0\r\nX: a\r\n b\r\n\r\n"))},
    {"space before a trailer's colon", "5.1", 400, 0, BYTES(CHUNKED("0\r\nX : a\r\n\r\n"))},
    {"LF behind a trailer", "2.2", 400, 0, BYTES(CHUNKED("0\r\nX: a\n\r\n"))},
};

START_TEST(refused_message)
{
    for (int whole = 0; whole < 2; whole++) {
        struct http_client client = connect_http();
        deliver(client.fd, refused[_i].bytes, refused[_i].length, whole);
        deliver(client.fd, next_request, strlen(next_request), true);
        int status = http_receive(&client);
        ck_assert_msg(status > 0 &&
                          (status == refused[_i].status || status == refused[_i].or_status),
                      "%s (%s): not %d, but: %s", refused[_i].name, refused[_i].section,
                      refused[_i].status, http_describe(&client));
        ck_assert_msg(client.closes && http_at_end(&client), "%s (%s): it goes on behind that",
                      refused[_i].name, refused[_i].section);
        http_close(&client);
        int other = connect_client();
        ck_assert_msg(is_served(other), "%s: others are not served any more", refused[_i].name);
        close(other);
    }
}
END_TEST

/* An answer to HEAD has no body, not even if it is refused (RFC 9110, 9.3.2): a client that knows
 * this would take a body for the next answer. */
static const struct {
    int status;
    const char *request;
    const char *filler; /* many of these behind it; NULL: none */
} refused_heads[] = {
    {400, "HEAD /health HTTP/1.1\r\n\r\n", NULL},
    {400, "HEAD  /health HTTP/1.1\r\n" HOST "\r\n", NULL},
    {400, "HEAD /health HTTP/1.1\r\n" HOST HOST, NULL},
    {400, "HEAD /health HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n", NULL},
    {400, "HEAD /health HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nx\r\n", NULL},
    {413, "HEAD /health HTTP/1.1\r\n" HOST "Content-Length: 65537\r\n\r\n", NULL},
    {414, "HEAD /", "xxxxxxxxxx"},
    {417, "HEAD /health HTTP/1.1\r\n" HOST "Expect: x\r\n\r\n", NULL},
    {431, "HEAD /health HTTP/1.1\r\n", "X: y\r\n"},
    {501, "HEAD /health HTTP/1.1\r\n" HOST "Transfer-Encoding: x, chunked\r\n\r\n", NULL},
    {505, "HEAD /health HTTP/2.0\r\n" HOST "\r\n", NULL},
};

START_TEST(refused_head_has_no_body)
{
    struct http_client client = connect_http();
    ck_assert(http_send(&client, refused_heads[_i].request));
    for (int i = 0; refused_heads[_i].filler && i < 4000; i++)
        http_send(&client, refused_heads[_i].filler); /* it may not get rid of all of them */
    assert_status(&client, http_receive_head(&client), refused_heads[_i].status);
    ck_assert_msg(client.closes && http_at_end(&client), "there is more than a head");
    http_close(&client);
}
END_TEST

/* Closing a socket that has unread bytes resets the connection, and the reset throws away what the
 * other side has received and not read yet. So the server has to read on for a while (RFC 9112,
 * 9.6). */
START_TEST(refusal_reaches_who_goes_on_sending)
{
    enum { MUCH = 200 * 1024 };
    for (int i = 0; i < 10; i++) {
        struct http_client client = connect_http();
        ck_assert(http_send(&client, "nonsense\r\n"));
        client_send(client.fd, pattern(MUCH), MUCH);
        sleep_for(0.02);
        assert_status(&client, http_receive(&client), 400);
        ck_assert(http_at_end(&client));
        http_close(&client);
    }
}
END_TEST

/* Nor may a refused client keep its connection for as long as it likes. */
START_TEST(refused_client_that_stays_is_dropped)
{
    int before = process_descriptors(server.pid);
    struct http_client client = connect_http();
    ck_assert(http_send(&client, "nonsense\r\n\r\n"));
    assert_status(&client, http_receive(&client), 400);
    ck_assert_msg(descriptors_become(before), "its connection stays open");
    http_close(&client);
}
END_TEST

/* --- how large --- */

/* prefix, then count times filler, then suffix. The caller frees it. */
static char *padded(const char *prefix, const char *filler, size_t count, const char *suffix)
{
    char *text = malloc(strlen(prefix) + count * strlen(filler) + strlen(suffix) + 1);
    ck_assert_ptr_nonnull(text);
    char *end = stpcpy(text, prefix);
    while (count-- > 0)
        end = stpcpy(end, filler);
    stpcpy(end, suffix);
    return text;
}

#define FIFTY "12345678901234567890123456789012345678901234567890"

static const struct {
    const char *name;
    int status;
    const char *prefix, *filler;
    size_t count;
    const char *suffix;
} limits[] = {
    {"request line", 200, "GET /health?", "x", 8000, " HTTP/1.1\r\n" HOST "\r\n"},
    {"request line", 414, "GET /health?", "x", 8200, " HTTP/1.1\r\n" HOST "\r\n"},
    {"endless request line", 414, "GET /health?", "x", 1 << 20, ""},
    {"long method", 501, "", "x", 8200, " /health HTTP/1.1\r\n" HOST "\r\n"},
    {"endless method", 501, "", "x", 1 << 20, ""},
    {"one long field", 200, GET HOST "X: ", "y", 7900, "\r\n\r\n"},
    {"one long field", 431, GET HOST "X: ", "y", 16400, "\r\n\r\n"},
    {"endless field", 431, GET HOST "X: ", "y", 1 << 20, ""},
    {"many fields", 200, GET HOST, "X: " FIFTY FIFTY FIFTY "\r\n", 98, "\r\n"},
    {"many fields", 431, GET HOST, "X: " FIFTY FIFTY FIFTY FIFTY "\r\n", 90, "\r\n"},
    {"endless fields", 431, GET HOST, "X: y\r\n", 200000, ""},
    {"body", 200, REQUEST("Content-Length: 65536\r\n"), "x", 65536, ""},
    {"chunk", 200, CHUNKED("10000\r\n"), "x", 65536, "\r\n0\r\n\r\n"},
    {"chunk", 413, CHUNKED("10001\r\n"), "x", 65537, "\r\n0\r\n\r\n"},
    {"many chunks", 200, CHUNKED(""), "10\r\n0123456789abcdef\r\n", 4096, "0\r\n\r\n"},
    {"many chunks", 413, CHUNKED(""), "10\r\n0123456789abcdef\r\n", 4097, "0\r\n\r\n"},
    {"endless chunks", 413, CHUNKED(""), "10\r\n0123456789abcdef\r\n", 50000, ""},
    {"trailers", 200, CHUNKED("0\r\n"), "X: y\r\n", 90, "\r\n"},
    {"endless trailers", 431, CHUNKED("0\r\n"), "X: y\r\n", 200000, ""},
};

START_TEST(limit)
{
    struct http_client client = connect_http();
    char *request =
        padded(limits[_i].prefix, limits[_i].filler, limits[_i].count, limits[_i].suffix);
    http_send(&client, request); /* whoever is refused may not get rid of all of it */
    int status = http_receive(&client);
    ck_assert_msg(status == limits[_i].status, "%s of %zu bytes: not %d, but: %s", limits[_i].name,
                  strlen(request), limits[_i].status, http_describe(&client));
    ck_assert(client.closes == (status != 200));
    if (client.closes)
        ck_assert(http_at_end(&client));
    free(request);
    http_close(&client);
}
END_TEST

/* Chunk extensions mean nothing to us, and take no room in the body: they need a limit of their
 * own.
 */
START_TEST(endless_chunk_extension)
{
    struct http_client client = connect_http();
    char *request = padded(CHUNKED("5;"), "x", 1 << 20, "");
    http_send(&client, request);
    int status = http_receive(&client);
    ck_assert_msg(status >= 400 && status < 500 && client.closes, "%s", http_describe(&client));
    free(request);
    http_close(&client);
}
END_TEST

/* --- Expect: 100-continue (RFC 9110, 10.1.1) --- */

START_TEST(expect_is_answered_before_the_body)
{
    struct http_client client = connect_http();
    ck_assert(http_send(&client, REQUEST("Content-Length: 5\r\nExpect: 100-Continue\r\n")));
    assert_status(&client, http_receive(&client), 100);
    ck_assert(http_send(&client, "hello"));
    assert_status(&client, http_receive(&client), 200);
    assert_status(&client, http_get(&client, "/health"), 200);
    http_close(&client);
}
END_TEST

START_TEST(expect_of_a_body_too_large)
{
    struct http_client client = connect_http();
    ck_assert(http_send(&client, REQUEST("Content-Length: 65537\r\nExpect: 100-continue\r\n")));
    assert_status(&client, http_receive(&client), 413);
    ck_assert(http_at_end(&client));
    http_close(&client);
}
END_TEST

START_TEST(expect_means_nothing_in_1_0)
{
    struct http_client client = connect_http();
    ck_assert(http_send(&client, "GET /health HTTP/1.0\r\nContent-Length: 5\r\n"
                                 "Expect: 100-continue\r\n\r\n"));
    ck_assert(!client_has_input(client.fd, 0.2));
    ck_assert(http_send(&client, "hello"));
    assert_status(&client, http_receive(&client), 200);
    http_close(&client);
}
END_TEST

/* --- how long a connection lasts (RFC 9112, 9.3) --- */

static const struct {
    const char *request;
    const char *connection; /* what the answer says; NULL: nothing, or keep-alive */
} lasting[] = {
    {GET HOST "\r\n", NULL},
    {GET HOST "Connection: close\r\n\r\n", "close"},
    {GET HOST "Connection: CLOSE\r\n\r\n", "close"},
    {GET HOST "Connection: x, close ,y\r\n\r\n", "close"},
    {GET HOST "Connection: x\r\nConnection: close\r\n\r\n", "close"},
    {"GET /health HTTP/1.0\r\n\r\n", "close"},
    {"GET /health HTTP/1.0\r\nConnection: close\r\n\r\n", "close"},
    {"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "keep-alive"},
    {"GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: localhost\r\n\r\n", "keep-alive"},
};

START_TEST(connection_lasts_as_long_as_it_should)
{
    struct http_client client = connect_http();
    ck_assert(http_send(&client, lasting[_i].request));
    assert_status(&client, http_receive(&client), 200);
    const char *said = http_field(&client, "Connection"), *wanted = lasting[_i].connection;
    ck_assert_msg(wanted ? said && strcasecmp(said, wanted) == 0 : !client.closes, "%s%s",
                  lasting[_i].request, http_describe(&client));
    if (client.closes)
        ck_assert(http_at_end(&client));
    else
        assert_status(&client, http_get(&client, "/health"), 200);
    http_close(&client);
}
END_TEST

Suite *http_syntax_suite(void)
{
    Suite *suite = suite_create("HTTP syntax");
    TCase *messages = tcase_create("messages");
    tcase_set_timeout(messages, PLENTY);
    tcase_add_checked_fixture(messages, start_server, stop_server);
    tcase_add_loop_test(messages, accepted_message, 0, COUNT(accepted));
    tcase_add_loop_test(messages, refused_message, 0, COUNT(refused));
    tcase_add_loop_test(messages, refused_head_has_no_body, 0, COUNT(refused_heads));
    tcase_add_test(messages, refusal_reaches_who_goes_on_sending);
    tcase_add_test(messages, refused_client_that_stays_is_dropped);
    tcase_add_loop_test(messages, limit, 0, COUNT(limits));
    tcase_add_test(messages, endless_chunk_extension);
    tcase_add_test(messages, expect_is_answered_before_the_body);
    tcase_add_test(messages, expect_of_a_body_too_large);
    tcase_add_test(messages, expect_means_nothing_in_1_0);
    tcase_add_loop_test(messages, connection_lasts_as_long_as_it_should, 0, COUNT(lasting));
    suite_add_tcase(suite, messages);
    return suite;
}
