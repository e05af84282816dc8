/*
 * What 07-event-loop/http.[ch] promises, rule by rule. Every message is read whole, byte by byte
 * and in two pieces, cut anywhere: what comes of it must be the same.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static void *counted_realloc(void *memory, size_t size);
#define realloc(memory, size) counted_realloc(memory, size)
#define malloc(size) counted_realloc(NULL, size)
/* NOLINTNEXTLINE(bugprone-suspicious-include): the module itself, with its memory counted */
#include "../07-event-loop/http.c"
#undef realloc
#undef malloc

enum { BODY_MAX = 10 };

/* What the module asked for; asking fails when none are left. */
static struct {
    size_t calls, largest, left;
} memory = {.left = SIZE_MAX};

static void *counted_realloc(void *old, size_t size)
{
    memory.calls++;
    if (size > memory.largest)
        memory.largest = size;
    if (memory.left == 0) {
        errno = ENOMEM;
        return NULL;
    }
    memory.left--;
    return realloc(old, size);
}

/* --- reading a message in every way --- */

static struct http_parser parser; /* the test's message */

static void forget(void)
{
    http_reset(&parser);
}

struct input {
    enum http_kind kind;
    const char *bytes;
    size_t length;
    size_t body_max;
    bool ends; /* with the end of the stream */
};

static bool open_state(const struct http_parser *p)
{
    return p->state == HTTP_EMPTY || p->state == HTTP_READING;
}

/* Feeds the input in pieces of that many bytes, after a first one. Returns how many it took. */
static size_t feed(struct http_parser *p, const struct input *input, size_t first, size_t piece)
{
    size_t taken = 0, next = first;
    http_init(p, input->kind, input->body_max);
    while (taken < input->length && open_state(p)) {
        size_t left = input->length - taken, n = next < left ? next : left;
        size_t got = http_feed(p, input->bytes + taken, n);
        ck_assert(got == n || (got < n && !open_state(p)));
        taken += got;
        next = piece;
    }
    if (!open_state(p)) {
        ck_assert_uint_eq(http_feed(p, "x", 1), 0);
    } else if (input->ends) {
        http_feed_end(p);
    }
    return taken;
}

static void assert_same(const struct http_parser *a, const struct http_parser *b)
{
    ck_assert_int_eq(a->state, b->state);
    ck_assert_int_eq(a->wants_continue, b->wants_continue);
    ck_assert_int_eq(http_is_head(a), http_is_head(b));
    if (a->state == HTTP_FAILED)
        ck_assert_str_eq(a->error, b->error);
    if (a->state == HTTP_FAILED || a->state == HTTP_COMPLETE)
        ck_assert_int_eq(a->status, b->status);
    if (a->state != HTTP_COMPLETE)
        return;
    ck_assert_int_eq(a->minor_version, b->minor_version);
    ck_assert_int_eq(a->keep_alive, b->keep_alive);
    ck_assert_int_eq(a->truncated, b->truncated);
    ck_assert_uint_eq(a->body_length, b->body_length);
    ck_assert_mem_eq(a->body, b->body, a->body_length + 1);
    ck_assert_uint_eq(a->head_length, b->head_length);
    ck_assert_mem_eq(a->head, b->head, a->head_length);
}

/* Reads the input in every way into the test's parser. Returns how many bytes it took. */
static size_t read_input(const struct input *input)
{
    http_reset(&parser);
    size_t taken = feed(&parser, input, input->length, input->length);
    size_t cuts = input->length < 400 ? input->length : 0;
    for (size_t first = 0; first <= cuts; first++) {
        struct http_parser other;
        size_t others = first == 0 ? feed(&other, input, 1, 1)
                                   : feed(&other, input, first, input->length - first);
        ck_assert_msg(taken == others, "took %zu bytes, %zu when cut at %zu", taken, others, first);
        assert_same(&parser, &other);
        http_reset(&other);
    }
    if (parser.state == HTTP_FAILED)
        ck_assert_msg(!strpbrk(parser.error, "\"\\\n") && strlen(parser.error) > 10, "%s",
                      parser.error);
    return taken;
}

static size_t read_request(const char *bytes, size_t length)
{
    return read_input(&(struct input){HTTP_REQUEST, bytes, length, BODY_MAX, false});
}

/* pattern again and again, length bytes of it, as a string; the caller frees it */
static char *repeat(const char *pattern, size_t length)
{
    size_t period = strlen(pattern);
    char *all = calloc(length + 1, 1);
    ck_assert_ptr_nonnull(all);
    for (size_t i = 0; i < length; i++)
        all[i] = pattern[i % period];
    return all;
}

/* Reads the request: before, then as many a as make it length bytes in all, then after. */
static size_t read_padded(const char *before, const char *after, size_t length)
{
    static char request[32 * 1024];
    char *padding = repeat("a", length - strlen(before) - strlen(after));
    snprintf(request, sizeof request, "%s%s%s", before, padding, after);
    free(padding);
    return read_request(request, length);
}

static void assert_refused(int status)
{
    ck_assert_int_eq(parser.state, HTTP_FAILED);
    ck_assert_msg(parser.status == status, "%d, %s", parser.status, parser.error);
}

/* --- requests that are accepted --- */

#define GET "GET / HTTP/1.1\r\n"
#define HOST "Host: h\r\n"
#define CHUNKED "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"

static const struct {
    const char *rule, *request, *method, *path, *query, *body;
} accepted[] = {
    {"9112 2.1: the smallest", GET HOST "\r\n", "GET", "/", "", ""},
    {"9112 2.2: empty lines before it", "\r\n\r\n" GET HOST "\r\n", "GET", "/", "", ""},
    {"9110 9.1: every method but CONNECT", "HEAD / HTTP/1.1\r\n" HOST "\r\n", "HEAD", "/", "", ""},
    {"9110 9.1: every method but CONNECT", "PUT / HTTP/1.1\r\n" HOST "\r\n", "PUT", "/", "", ""},
    {"9110 9.1: every method but CONNECT", "DELETE / HTTP/1.1\r\n" HOST "\r\n", "DELETE", "/", "",
     ""},
    {"9110 9.1: every method but CONNECT", "TRACE / HTTP/1.1\r\n" HOST "\r\n", "TRACE", "/", "",
     ""},
    {"5789 2: PATCH", "PATCH / HTTP/1.1\r\n" HOST "\r\n", "PATCH", "/", "", ""},
    {"9110 2.5: a higher minor version", "GET / HTTP/1.2\r\n" HOST "\r\n", "GET", "/", "", ""},
    {"9110 2.5: a higher minor version", "GET / HTTP/1.9\r\n" HOST "\r\n", "GET", "/", "", ""},
    {"9112 2.3: HTTP/1.0, without Host", "GET / HTTP/1.0\r\n\r\n", "GET", "/", "", ""},
    {"9112 3.2.1: a query", "GET /sum?n=1&m=%20? HTTP/1.1\r\n" HOST "\r\n", "GET", "/sum",
     "n=1&m=%20?", ""},
    {"9112 3.2.1: an empty query", "GET /sum? HTTP/1.1\r\n" HOST "\r\n", "GET", "/sum", "", ""},
    {"3986 2.1: escapes, once", "GET /a%20b%2fc%2525+ HTTP/1.1\r\n" HOST "\r\n", "GET",
     "/a b/c%25+", "", ""},
    {"3986 2.1: an escaped ? is none", "GET /a%3fb%23?c HTTP/1.1\r\n" HOST "\r\n", "GET", "/a?b#",
     "c", ""},
    {"3986 2.1: bytes that are not ASCII", "GET /%C3%A9%ff%01 HTTP/1.1\r\n" HOST "\r\n", "GET",
     "/\xc3\xa9\xff\x01", "", ""},
    {"3986 3.3: dots are left to others", "GET /../a/./%2e%2e HTTP/1.1\r\n" HOST "\r\n", "GET",
     "/../a/./..", "", ""},
    {"3986 7.3: a NUL leads nowhere", "GET /a%00b?c=%00 HTTP/1.1\r\n" HOST "\r\n", "GET", "",
     "c=%00", ""},
    {"3986 3.3: a NUL behind the ?", "GET /a?%00 HTTP/1.1\r\n" HOST "\r\n", "GET", "/a", "%00", ""},
    {"3986 3.3: two slashes", "GET //a//b HTTP/1.1\r\n" HOST "\r\n", "GET", "//a//b", "", ""},
    {"9112 3.2.2: absolute-form", "GET http://h:80/a?b HTTP/1.1\r\n" HOST "\r\n", "GET", "/a", "b",
     ""},
    {"9110 4.2.3: its path may be empty", "GET http://h HTTP/1.1\r\n" HOST "\r\n", "GET", "/", "",
     ""},
    {"9110 4.2.3: before a query, too", "GET HTTP://h?a%20 HTTP/1.1\r\n" HOST "\r\n", "GET", "/",
     "a%20", ""},
    {"3986 3.2.2: escapes in a name", "GET http://a%20%C3%a9.b%41/ HTTP/1.1\r\n" HOST "\r\n", "GET",
     "/", "", ""},
    {"3986 3.2.2: escapes in a name", GET "Host: %41b%ff:80\r\n\r\n", "GET", "/", "", ""},
    {"3986 3.2.2: addresses", GET "Host: [1:2:3:4:5:6:7:8]:80\r\n\r\n", "GET", "/", "", ""},
    {"3986 3.2.2: addresses", GET "Host: [ffff::1.2.3.4]\r\n\r\n", "GET", "/", "", ""},
    {"3986 3.2.2: addresses", GET "Host: [::]:\r\n\r\n", "GET", "/", "", ""},
    {"3986 3.2.2: addresses to come", GET "Host: [v1F.a:b!]:80\r\n\r\n", "GET", "/", "", ""},
    {"3986 3.2.2: addresses to come", "GET http://[V0.:]?a HTTP/1.1\r\n" HOST "\r\n", "GET", "/",
     "a", ""},
    {"3986 3.2.2: an address", "GET hTTp://[::1]:8000/ HTTP/1.1\r\nHost: [::1]\r\n\r\n", "GET", "/",
     "", ""},
    {"9112 3.2.4: asterisk-form", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "OPTIONS", "*", "", ""},
    {"9112 3.2.4: OPTIONS of a path", "OPTIONS /a HTTP/1.1\r\n" HOST "\r\n", "OPTIONS", "/a", "",
     ""},
    {"9112 3.2: an empty Host", GET "Host:\r\n\r\n", "GET", "/", "", ""},
    {"9110 7.2: a Host with a port", GET "Host: a-b_c.de:65535\r\n\r\n", "GET", "/", "", ""},
    {"3986 3.2.3: a port may be empty", GET "Host: h:\r\n\r\n", "GET", "/", "", ""},
    {"9110 5.1: names in any case", "POST / HTTP/1.1\r\nhOST: h\r\ncontent-LENGTH: 2\r\n\r\nhi",
     "POST", "/", "", "hi"},
    {"9112 6.2: Content-Length", "POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\na\r\n",
     "POST", "/", "", "a\r\n"},
    {"9112 6.2: a body with GET", GET HOST "Content-Length: 1\r\n\r\nx", "GET", "/", "", "x"},
    {"9112 6.2: of nothing", "POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", "POST", "/",
     "", ""},
    {"9112 6.2: just as large as allowed",
     "POST / HTTP/1.1\r\n" HOST "Content-Length: 0000000000000000000000010\r\n\r\n0123456789",
     "POST", "/", "", "0123456789"},
    {"9112 6.3: the same length twice",
     "POST / HTTP/1.1\r\n" HOST "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", "POST", "/", "",
     "hi"},
    {"9112 7.1: chunks", CHUNKED "3\r\na\r\n\r\n003\r\n\ndb\r\n0\r\n\r\n", "POST", "/", "",
     "a\r\n\ndb"},
    {"9112 7.1: hex digits in both cases", CHUNKED "a\r\n0123456789\r\n0\r\n\r\n", "POST", "/", "",
     "0123456789"},
    {"9112 7.1: hex digits in both cases", CHUNKED "0A\r\n0123456789\r\n000\r\n\r\n", "POST", "/",
     "", "0123456789"},
    {"9112 7.1: no data", CHUNKED "0\r\n\r\n", "POST", "/", "", ""},
    {"9112 7.1.1: extensions", CHUNKED "1;a=\"b;c\";d;e=f\r\nx\r\n0;\ta\r\n\r\n", "POST", "/", "",
     "x"},
    {"9110 5.6.4: quoted", CHUNKED "1;a=\"\";b=\"\t \xc3\\\"\\\\\\a\"\r\nx\r\n0\r\n\r\n", "POST",
     "/", "", "x"},
    {"9112 7.1.1: bad white space", CHUNKED "1 ; a = b\r\nx\r\n0\t;a\r\n\r\n", "POST", "/", "",
     "x"},
    {"9112 7.1.2: trailers are dropped",
     CHUNKED "1\r\nx\r\n0\r\nHost: b\r\nContent-Length: 7\r\n\r\n", "POST", "/", "", "x"},
    {"9112 7: chunked in any case",
     "POST / HTTP/1.1\r\n" HOST "transfer-encoding:\tChUnKeD \r\n\r\n1\r\nx\r\n0\r\n\r\n", "POST",
     "/", "", "x"},
};

START_TEST(accepted_request)
{
    const char *request = accepted[_i].request;
    size_t taken = read_request(request, strlen(request));
    ck_assert_msg(parser.state == HTTP_COMPLETE, "%s: state %d, %d, %s", accepted[_i].rule,
                  parser.state, parser.status, parser.error ? parser.error : "");
    ck_assert_msg(taken == strlen(request), "%s", accepted[_i].rule);
    ck_assert_str_eq(parser.method, accepted[_i].method);
    ck_assert_str_eq(parser.path, accepted[_i].path);
    ck_assert_str_eq(parser.query, accepted[_i].query);
    ck_assert_str_eq(parser.body, accepted[_i].body);
    ck_assert_uint_eq(parser.body_length, strlen(accepted[_i].body));
}
END_TEST

/* The last byte is what makes it complete: no part of it is, and none is refused. */
START_TEST(unfinished_request)
{
    const char *request = accepted[_i].request;
    for (size_t length = 0; length < strlen(request); length++) {
        struct input input = {HTTP_REQUEST, request, length, BODY_MAX, false};
        ck_assert_uint_eq(read_input(&input), length);
        ck_assert_msg(open_state(&parser), "%s: state %d", accepted[_i].rule, parser.state);
        enum http_state before = parser.state;
        input.ends = true; /* what has begun has then failed */
        read_input(&input);
        ck_assert_int_eq(parser.state, before == HTTP_EMPTY ? HTTP_EMPTY : HTTP_FAILED);
        ck_assert_int_eq(parser.status, before == HTTP_EMPTY ? 0 : 400);
    }
}
END_TEST

/* --- requests that are refused --- */

#define POST_WITH(fields) "POST / HTTP/1.1\r\nHost: h\r\n" fields "\r\n\r\n"
#define ROW(rule, status, bytes)               \
    {                                          \
        rule, bytes, sizeof(bytes) - 1, status \
    }
static const struct {
    const char *rule, *bytes;
    size_t length;
    int status;
} refused[] = {
    ROW("9112 2.2: bare LF, start line", 400, "GET / HTTP/1.1\nHost: h\r\n\r\n"),
    ROW("9112 2.2: bare LF, header", 400, GET "Host: h\n\r\n"),
    ROW("9112 2.2: bare LF, last line", 400, GET HOST "\n"),
    ROW("9112 2.2: bare LF before it", 400, "\n" GET HOST "\r\n"),
    ROW("9112 2.2: bare LF, chunk's size", 400, CHUNKED "1\nx\r\n0\r\n\r\n"),
    ROW("9112 2.2: bare LF, chunk's end", 400, CHUNKED "1\r\nx\n0\r\n\r\n"),
    ROW("9112 2.2: bare LF, trailer", 400, CHUNKED "0\r\na: b\n\r\n"),
    ROW("9112 2.2: bare LF, last line of all", 400, CHUNKED "0\r\n\n"),
    ROW("9112 2.2: bare CR, start line", 400, "GET / HTTP/1.1\r\r\n" HOST "\r\n"),
    ROW("9112 2.2: bare CR, method", 400, "GET\r/ HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 2.2: bare CR, target", 400, "GET /\ra HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 2.2: bare CR, name", 400, GET HOST "a\rb: c\r\n\r\n"),
    ROW("9112 2.2: bare CR, value", 400, GET HOST "a: b\rc: d\r\n\r\n"),
    ROW("9112 2.2: bare CR, end of value", 400, GET HOST "a: b\r\r\n\r\n"),
    ROW("9112 2.2: bare CR, chunk's size", 400, CHUNKED "1\r\r\nx\r\n0\r\n\r\n"),
    ROW("9112 2.2: bare CR, extension", 400, CHUNKED "1;a\rb\r\nx\r\n0\r\n\r\n"),
    ROW("9112 2.2: white space before the header", 400, GET " Host: h\r\n\r\n"),
    ROW("9112 2.2: white space before the header", 400, GET "\ta: b\r\nHost: h\r\n\r\n"),
    ROW("9112 2.2: a line of white space before it", 400, " \r\n" GET HOST "\r\n"),

    ROW("9112 3: no method", 400, " / HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3: no target", 400, "GET HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3: an empty target", 400, "GET  HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3: no version (HTTP/0.9)", 400, "GET /\r\n"),
    ROW("9112 3: an empty version", 400, "GET / \r\n" HOST "\r\n"),
    ROW("9112 3: one word", 400, "hello\r\n" HOST "\r\n"),
    ROW("9112 3: two spaces", 400, "GET  / HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3: two spaces", 400, "GET /  HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3: a space at its end", 400, "GET / HTTP/1.1 \r\n" HOST "\r\n"),
    ROW("9112 3: a space in the target", 400, "GET /a b HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3: a tab", 400, "GET\t/ HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3: a tab", 400, "GET /\tHTTP/1.1\r\n" HOST "\r\n"),
    ROW("9110 9.1: a method that is no token", 400, "G(T / HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9110 9.1: a method that is no token", 400, "G\xc3T / HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9110 9.1: a method that is no token", 400, "G\0T / HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 2.3: other versions", 505, "GET / HTTP/2.0\r\n" HOST "\r\n"),
    ROW("9112 2.3: before its method", 505, "BREW / HTTP/2.0\r\n" HOST "\r\n"),
    ROW("9110 15.6.2: no such method", 501, "BREW / HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9110 15.6.2: no such method", 501, "GETS / HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9110 15.6.2: no such method", 501, "GE / HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9110 15.6.2: no such method", 501, "M-x!#$%&'*+.^_`|~09 * HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9110 9.1: methods have case", 501, "get / HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9110 9.3.6: no tunnels", 501, "CONNECT h:80 HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 2.3: other versions", 505, "GET / HTTP/0.9\r\n" HOST "\r\n"),
    ROW("9113 3.4: HTTP/2 without asking", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ROW("9112 2.3: versions have case", 400, "GET / http/1.1\r\n" HOST "\r\n"),
    ROW("9112 2.3: one digit each", 400, "GET / HTTP/1.10\r\n" HOST "\r\n"),
    ROW("9112 2.3: one digit each", 400, "GET / HTTP/01.1\r\n" HOST "\r\n"),
    ROW("9112 2.3: one digit each", 400, "GET / HTTP/1\r\n" HOST "\r\n"),
    ROW("9112 2.3: one digit each", 400, "GET / HTTP/1.\r\n" HOST "\r\n"),
    ROW("9112 2.3: one digit each", 400, "GET / HTTP/1,1\r\n" HOST "\r\n"),
    ROW("9112 2.3: another protocol", 400, "GET / HTCP/1.1\r\n" HOST "\r\n"),
    ROW("9112 2.3: NUL behind it", 400, "GET / HTTP/1.1\0\r\n" HOST "\r\n"),

    ROW("9112 3.2: not absolute", 400, "GET a HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3.2: only a query", 400, "GET ?a HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3.2: a fragment", 400, "GET /a#b HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3.2: not ASCII", 400, "GET /\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3.2: a control character", 400, "GET /\x7f HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3.2: a control character", 400, "GET /a\0b HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3.2.2: another scheme", 400, "GET https://h/ HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3.2.2: another scheme", 400, "GET file:///etc HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9110 4.2.4: user information", 400, "GET http://u@h/ HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9110 4.2.4: user information", 400, "GET http://u:p@h/ HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9110 4.2.1: no host", 400, "GET http:///a HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9110 4.2.1: no host", 400, "GET http:// HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9110 4.2.1: no host", 400, "GET http://:80/ HTTP/1.1\r\n" HOST "\r\n"),
    ROW("3986 3.2.2: its end is missing", 400, "GET http://[::1/ HTTP/1.1\r\n" HOST "\r\n"),
    ROW("3986 3.2.2: a bad address", 400, "GET http://[::::]/ HTTP/1.1\r\n" HOST "\r\n"),
    ROW("3986 2.1: a bad escape", 400, "GET http://a%zz/ HTTP/1.1\r\n" HOST "\r\n"),
    ROW("3986 2.1: a bad escape", 400, "GET http://a%/11 HTTP/1.1\r\n" HOST "\r\n"),
    ROW("3986 2.1: a bad escape", 400, "GET http://a%1?1 HTTP/1.1\r\n" HOST "\r\n"),
    ROW("3986 3.2.3: a bad port", 400, "GET http://h:8a/ HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3.2.3: authority-form", 400, "GET h:80 HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3.2.4: * without OPTIONS", 400, "GET * HTTP/1.1\r\n" HOST "\r\n"),
    ROW("9112 3.2.4: more than *", 400, "OPTIONS *a HTTP/1.1\r\n" HOST "\r\n"),
    ROW("3986 2.1: a bad escape", 400, "GET /%4 HTTP/1.1\r\n" HOST "\r\n"),
    ROW("3986 2.1: a bad escape", 400, "GET /%?a HTTP/1.1\r\n" HOST "\r\n"),
    ROW("3986 2.1: a bad escape", 400, "GET /%g0 HTTP/1.1\r\n" HOST "\r\n"),
    ROW("3986 2.1: a bad escape", 400, "GET /%0/ HTTP/1.1\r\n" HOST "\r\n"),
    ROW("3986 2.1: it may not reach behind the ?", 400, "GET /%4?1 HTTP/1.1\r\n" HOST "\r\n"),

    ROW("9112 5: no colon", 400, GET HOST "hello\r\n\r\n"),
    ROW("9112 5: no name", 400, GET HOST ": a\r\n\r\n"),
    ROW("9112 5.1: white space before the colon", 400, GET "Host : h\r\n\r\n"),
    ROW("9112 5.1: white space before the colon", 400, GET HOST "a\t: h\r\n\r\n"),
    ROW("9110 5.1: a name that is no token", 400, GET HOST "a b: c\r\n\r\n"),
    ROW("9110 5.1: a name that is no token", 400, GET HOST "a/b: c\r\n\r\n"),
    ROW("9110 5.1: a name that is no token", 400, GET HOST "\xc3: c\r\n\r\n"),
    ROW("9110 5.1: a name that is no token", 400, GET HOST "a\0b: c\r\n\r\n"),
    ROW("9112 5.2: a folded line", 400, GET HOST "a: b\r\n c\r\n\r\n"),
    ROW("9112 5.2: a folded line", 400, GET HOST "a: b\r\n\tc: d\r\n\r\n"),
    ROW("9112 5.2: a folded line of nothing", 400, GET HOST "a: b\r\n \r\n\r\n"),
    ROW("9110 5.5: a control character", 400, GET HOST "a: b\0c\r\n\r\n"),
    ROW("9110 5.5: a control character", 400, GET HOST "a: \x01\r\n\r\n"),
    ROW("9110 5.5: a control character", 400, GET HOST "a: b\x7f\r\n\r\n"),
    ROW("9110 5.5: a control character", 400, GET HOST "a: b \x0b\r\n\r\n"),

    ROW("9112 3.2: no Host", 400, GET "\r\n"),
    ROW("9112 3.2: no Host, absolute-form", 400, "GET http://h/ HTTP/1.1\r\n\r\n"),
    ROW("9112 3.2: two of them", 400, GET HOST HOST "\r\n"),
    ROW("9112 3.2: two of them", 400, GET HOST "host: other\r\n\r\n"),
    ROW("9112 3.2: two of them, HTTP/1.0", 400, "GET / HTTP/1.0\r\n" HOST HOST "\r\n"),
    ROW("9112 3.2: a bad value", 400, GET "Host: a b\r\n\r\n"),
    ROW("9112 3.2: a bad value", 400, GET "Host: a/b\r\n\r\n"),
    ROW("9112 3.2: a bad value", 400, GET "Host: u@h\r\n\r\n"),
    ROW("9112 3.2: a bad value", 400, GET "Host: a?b\r\n\r\n"),
    ROW("9112 3.2: a bad value", 400, GET "Host: a#b\r\n\r\n"),
    ROW("9112 3.2: a bad value", 400, GET "Host: \xc3\xa9\r\n\r\n"),
    ROW("9112 3.2: a bad value", 400, GET "Host: http://h\r\n\r\n"),
    ROW("3986 3.2.2: a bad address", 400, GET "Host: [::1\r\n\r\n"),
    ROW("3986 3.2.2: a bad address", 400, GET "Host: []\r\n\r\n"),
    ROW("3986 3.2.2: a bad address", 400, GET "Host: [g]\r\n\r\n"),
    ROW("3986 3.2.2: a bad address", 400, GET "Host: [::::]\r\n\r\n"),
    ROW("3986 3.2.2: a bad address", 400, GET "Host: [:]\r\n\r\n"),
    ROW("3986 3.2.2: a bad address", 400, GET "Host: [1.2.3.4]\r\n\r\n"),
    ROW("3986 3.2.2: a bad address", 400, GET "Host: [1:2:3:4:5:6:7:8:9]\r\n\r\n"),
    ROW("3986 3.2.2: a bad address", 400, GET "Host: [::1%25lo]\r\n\r\n"),
    ROW("3986 3.2.2: a bad address", 400, GET "Host: [::1]]\r\n\r\n"),
    ROW("3986 3.2.2: a bad address", 400, GET "Host: [::1]%41\r\n\r\n"),
    ROW("3986 3.2.2: a bad address", 400,
        GET "Host: [0000:0000:0000:0000:0000:0000:255.255.255.2555]\r\n\r\n"),
    ROW("3986 3.2.2: none to come", 400, GET "Host: [v.a]\r\n\r\n"),
    ROW("3986 3.2.2: none to come", 400, GET "Host: [v1a]\r\n\r\n"),
    ROW("3986 3.2.2: none to come", 400, GET "Host: [v1]\r\n\r\n"),
    ROW("3986 3.2.2: none to come", 400, GET "Host: [v1.]\r\n\r\n"),
    ROW("3986 3.2.2: none to come", 400, GET "Host: [vg.a]\r\n\r\n"),
    ROW("3986 3.2.2: none to come", 400, GET "Host: [v1.%41]\r\n\r\n"),
    ROW("3986 3.2.2: none to come", 400, GET "Host: [v1.[]\r\n\r\n"),
    ROW("3986 2.1: a bad escape", 400, GET "Host: %\r\n\r\n"),
    ROW("3986 2.1: a bad escape", 400, GET "Host: a%zz\r\n\r\n"),
    ROW("3986 2.1: a bad escape", 400, GET "Host: a%4\r\n\r\n"),
    ROW("3986 2.1: a bad escape", 400, GET "Host: a%4:80\r\n\r\n"),
    ROW("3986 3.2.2: a bad address", 400, GET "Host: [::1]a\r\n\r\n"),
    ROW("3986 3.2.2: a bad address", 400, GET "Host: ::1\r\n\r\n"),
    ROW("3986 3.2.3: a bad port", 400, GET "Host: h:a\r\n\r\n"),
    ROW("3986 3.2.3: a bad port", 400, GET "Host: h:80:80\r\n\r\n"),
    ROW("3986 3.2.3: a bad port", 400, GET "Host: h:-1\r\n\r\n"),
    ROW("3986 3.2.3: a bad port", 400, GET "Host: h:65536\r\n\r\n"),
    ROW("3986 3.2.3: a bad port", 400, GET "Host: h:18446744073709551616\r\n\r\n"),

    ROW("9110 8.6: digits only", 400, POST_WITH("Content-Length: +5") "01234"),
    ROW("9110 8.6: digits only", 400, POST_WITH("Content-Length: -1") "01234"),
    ROW("9110 8.6: digits only", 400, POST_WITH("Content-Length: 5 5") "01234"),
    ROW("9110 8.6: digits only", 400, POST_WITH("Content-Length: 5, 5") "01234"),
    ROW("9110 8.6: digits only", 400, POST_WITH("Content-Length: 0x5") "01234"),
    ROW("9110 8.6: digits only", 400, POST_WITH("Content-Length: 5.0") "01234"),
    ROW("9110 8.6: digits only", 400, POST_WITH("Content-Length: a") "01234"),
    ROW("9110 8.6: at least one", 400, POST_WITH("Content-Length:")),
    ROW("9112 6.3: two lengths", 400, POST_WITH("Content-Length: 2\r\nContent-Length: 3") "abc"),
    ROW("9112 6.3: two lengths", 400, POST_WITH("Content-Length: 0\r\nContent-Length: 3") "abc"),
    ROW("9110 15.5.14: too large", 413, POST_WITH("Content-Length: 11") "01234567890"),
    ROW("9110 15.5.14: too large", 413, POST_WITH("Content-Length: 18446744073709551615")),
    ROW("9110 15.5.14: too large", 413, POST_WITH("Content-Length: 18446744073709551616")),
    ROW("9110 15.5.14: too large", 413, POST_WITH("Content-Length: 18446744073709551621")),
    ROW("9110 15.5.14: too large", 413, POST_WITH("Content-Length: 99999999999999999999999")),
    ROW("9110 15.5.14: no leave for it", 413,
        POST_WITH("Expect: 100-continue\r\nContent-Length: 11")),

    ROW("9110 15.5.14: nor another expectation", 413, POST_WITH("Expect: a\r\nContent-Length: 11")),

    ROW("9112 6.1: and a length", 400,
        POST_WITH("Transfer-Encoding: chunked\r\nContent-Length: 5") "0\r\n\r\n"),
    ROW("9112 6.1: and a length", 400,
        POST_WITH("Content-Length: 5\r\nTransfer-Encoding: chunked") "0\r\n\r\n"),
    ROW("9112 6.1: and a length, too large", 400,
        POST_WITH("Content-Length: 50\r\nTransfer-Encoding: chunked") "0\r\n\r\n"),
    ROW("9112 6.1: and a length, not known", 400,
        POST_WITH("Content-Length: 5\r\nTransfer-Encoding: gzip") "01234"),
    ROW("9112 6.1: in HTTP/1.0", 400,
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ROW("9112 6.1: twice", 400, POST_WITH("Transfer-Encoding: chunked, chunked") "0\r\n\r\n"),
    ROW("9112 6.1: twice", 400,
        POST_WITH("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked") "0\r\n\r\n"),
    ROW("9112 6.1: empty", 400, POST_WITH("Transfer-Encoding:")),
    ROW("9112 6.1: empty in part", 400, POST_WITH("Transfer-Encoding: chunked,") "0\r\n\r\n"),
    ROW("9112 6.1: empty in part", 400, POST_WITH("Transfer-Encoding: ,chunked") "0\r\n\r\n"),
    ROW("9112 6.1: not known", 501, POST_WITH("Transfer-Encoding: gzip, chunked") "0\r\n\r\n"),
    ROW("9112 6.1: not known", 501,
        POST_WITH("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked") "0\r\n\r\n"),
    ROW("9112 6.3: chunked is not last", 400, POST_WITH("Transfer-Encoding: gzip")),
    ROW("9112 6.3: chunked is not last", 400, POST_WITH("Transfer-Encoding: chunked, gzip")),
    ROW("9112 6.3: chunked is not last", 400, POST_WITH("Transfer-Encoding: identity")),
    ROW("9112 6.3: chunked is not last", 400,
        POST_WITH("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity") "0\r\n\r\n"),
    ROW("9112 6.3: another word", 400, POST_WITH("Transfer-Encoding: xchunked") "0\r\n\r\n"),
    ROW("9112 6.3: another word", 400, POST_WITH("Transfer-Encoding: chunkedx") "0\r\n\r\n"),
    ROW("9112 7: it has no parameters", 400,
        POST_WITH("Transfer-Encoding: chunked;a=b") "0\r\n\r\n"),
    ROW("9112 7: no quotes", 400, POST_WITH("Transfer-Encoding: \"chunked\"") "0\r\n\r\n"),

    ROW("9112 7.1: no size", 400, CHUNKED "\r\n\r\n"),
    ROW("9112 7.1: no size", 400, CHUNKED ";a\r\n\r\n"),
    ROW("9112 7.1: no hex digit", 400, CHUNKED "g\r\n"),
    ROW("9112 7.1: no hex digit", 400, CHUNKED "1g\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1: no hex digit", 400, CHUNKED "0x1\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1: no hex digit", 400, CHUNKED "-1\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1: no hex digit", 400, CHUNKED "+1\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1: white space around it", 400, CHUNKED "1 \r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1: white space around it", 400, CHUNKED " 1\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1: two sizes", 400, CHUNKED "1 1\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1.1: a control character", 400, CHUNKED "1;a\0\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1.1: a control character", 400, CHUNKED "1;a=\"\x7f\"\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1.1: a control character", 400, CHUNKED "1;a=\"\\\x01\"\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1.1: no name", 400, CHUNKED "1;\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1.1: no name", 400, CHUNKED "1;;a\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1.1: no name", 400, CHUNKED "1;=a\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1.1: a name that is no token", 400, CHUNKED "1;bad[=\"\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1.1: a name that is no token", 400, CHUNKED "1;\"a\"=b\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1.1: no semicolon", 400, CHUNKED "1 a\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1.1: no semicolon", 400, CHUNKED "1;a b\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1.1: no value", 400, CHUNKED "1;a=\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1.1: no value", 400, CHUNKED "1;a=;b\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1.1: no value", 400, CHUNKED "1;a==b\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1.1: white space at its end", 400, CHUNKED "1;a \r\nx\r\n0\r\n\r\n"),
    ROW("9110 5.6.4: its end is missing", 400, CHUNKED "1;a=\"\r\nx\r\n0\r\n\r\n"),
    ROW("9110 5.6.4: its end is missing", 400, CHUNKED "1;a=\"b\\\"\r\nx\r\n0\r\n\r\n"),
    ROW("9110 5.6.4: its end is missing", 400, CHUNKED "1;a=\"\\\r\nx\r\n0\r\n\r\n"),
    ROW("9110 5.6.4: more behind it", 400, CHUNKED "1;a=\"b\"c\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1: too large", 413, CHUNKED "b\r\n01234567890\r\n0\r\n\r\n"),
    ROW("9112 7.1: too large in all", 413, CHUNKED "9\r\n012345678\r\n2\r\n"),
    ROW("9112 7.1: beyond 64 bits", 413, CHUNKED "ffffffffffffffff\r\n"),
    ROW("9112 7.1: beyond 64 bits", 413, CHUNKED "10000000000000000\r\n"),
    ROW("9112 7.1: beyond 64 bits", 413, CHUNKED "10000000000000001\r\n"),
    ROW("9112 7.1: more data than said", 400, CHUNKED "1\r\nxy\r\n0\r\n\r\n"),
    ROW("9112 7.1: less data than said", 400, CHUNKED "3\r\nx\r\n0\r\n\r\n"),
    ROW("9112 7.1: no CRLF behind it", 400, CHUNKED "1\r\nx0\r\n\r\n"),
    ROW("9112 7.1.2: a bad trailer", 400, CHUNKED "0\r\nhello\r\n\r\n"),
    ROW("9112 7.1.2: a folded trailer", 400, CHUNKED "0\r\na: b\r\n c\r\n\r\n"),
    ROW("9112 7.1.2: a trailer with a control character", 400, CHUNKED "0\r\na: \x01\r\n\r\n"),

    ROW("9110 10.1.1: another expectation", 417, POST_WITH("Expect: 200-ok")),
    ROW("9110 10.1.1: another expectation", 417,
        POST_WITH("Expect: 100-continue, b\r\nContent-Length: 1")),
};

START_TEST(refused_request)
{
    read_request(refused[_i].bytes, refused[_i].length);
    ck_assert_msg(parser.state == HTTP_FAILED, "%s: '%s' has state %d", refused[_i].rule,
                  refused[_i].bytes, parser.state);
    ck_assert_msg(parser.status == refused[_i].status, "%s: '%s' gives %d, %s", refused[_i].rule,
                  refused[_i].bytes, parser.status, parser.error);
    ck_assert(!parser.wants_continue);
}
END_TEST

/* Which characters may stand where: all of them, tried in each place. */
static int answer_to(const char *before, unsigned char c, const char *after)
{
    char request[128];
    int length = snprintf(request, sizeof request, "%s%c%s", before, c, after);
    read_request(request, (size_t)length);
    return parser.state == HTTP_FAILED ? parser.status : parser.state == HTTP_COMPLETE ? 200 : 0;
}

START_TEST(characters)
{
    for (int c = 0; c < 256; c++) {
        bool graphic = c > ' ' && c < 0x7f;
        bool token = graphic && !strchr("\"(),/:;<=>?@[\\]{}", c); /* 9110, 5.6.2 */
        bool value = c == '\t' || (c >= ' ' && c != 0x7f);         /* 9110, 5.5 */
        unsigned char byte = (unsigned char)c;
        int method = c == 'E' ? 200 : token ? 501 : 400;
        ck_assert_int_eq(answer_to("G", byte, "T / HTTP/1.1\r\n" HOST "\r\n"), method);
        ck_assert_int_eq(answer_to("GET /a", byte, "b HTTP/1.1\r\n" HOST "\r\n"),
                         graphic && !strchr("#%", c) ? 200 : 400);
        /* a colon ends the name, and that is no error */
        ck_assert_int_eq(answer_to(GET HOST "a", byte, "b: c\r\n\r\n"),
                         token || c == ':' ? 200 : 400);
        ck_assert_int_eq(answer_to(GET HOST "a: b", byte, "c\r\n\r\n"), value ? 200 : 400);
        ck_assert_int_eq(answer_to(CHUNKED "0;b", byte, "c\r\n\r\n"),
                         token || c == ';' || c == '=' ? 200 : 400);
        ck_assert_int_eq(answer_to(CHUNKED "0;b=c", byte, "d\r\n\r\n"),
                         token || c == ';' ? 200 : 400);
        ck_assert_int_eq(answer_to(CHUNKED "0;b=\"", byte, ";c=\"\r\n\r\n"),
                         value && c != '"' ? 200 : 400);
        ck_assert_int_eq(answer_to(CHUNKED "0;b=\"\\", byte, "\"\r\n\r\n"), value ? 200 : 400);
    }
}
END_TEST

/* --- limits --- */

START_TEST(request_line_limit) /* 9112, 3: 8,000 bytes at least, 414 if it is longer */
{
    const size_t rest = strlen(HOST "\r\n");
    read_padded("GET /", " HTTP/1.1\r\n" HOST "\r\n", HTTP_LINE_MAX + rest);
    ck_assert_int_eq(parser.state, HTTP_COMPLETE);
    size_t taken = read_padded("GET /", " HTTP/1.1\r\n" HOST "\r\n", HTTP_LINE_MAX + 1 + rest);
    assert_refused(414);
    ck_assert_uint_eq(taken, HTTP_LINE_MAX); /* as soon as it is known */
    read_padded("GET \x01", "", HTTP_LINE_MAX - 1);
    ck_assert_int_eq(parser.state, HTTP_READING);
    read_padded("GET \x01", "", HTTP_LINE_MAX); /* before what is in it is looked at */
    assert_refused(414);
    /* but for its method: one longer than any known is answered with 501 */
    read_padded("", "", HTTP_LINE_MAX - 1);
    ck_assert_int_eq(parser.state, HTTP_READING);
    read_padded("", "", HTTP_LINE_MAX);
    assert_refused(501);
    read_padded("aaa ", "", HTTP_LINE_MAX);
    assert_refused(501);
}
END_TEST

START_TEST(head_limit) /* 9110, 5.4; 6585, 5 */
{
    read_padded(GET HOST "a: ", "\r\n\r\n", HTTP_HEAD_MAX);
    ck_assert_int_eq(parser.state, HTTP_COMPLETE);
    read_padded(GET HOST "a: ", "\r\n\r\n", HTTP_HEAD_MAX + 1);
    assert_refused(431);
    read_padded(GET HOST "a: ", "\r\n\r\n", HTTP_HEAD_MAX + 2);
    assert_refused(431);
    read_padded(GET HOST "a: ", "\r\nb:\r\n\r\n", HTTP_HEAD_MAX + 4);
    assert_refused(431);
    read_padded(GET HOST "a: ", "", HTTP_HEAD_MAX); /* one line without an end */
    assert_refused(431);
    /* empty lines before it count, too */
    char *empty = repeat("\r\n", HTTP_HEAD_MAX + 2);
    ck_assert_uint_eq(read_request(empty, HTTP_HEAD_MAX + 2), HTTP_HEAD_MAX);
    assert_refused(431);
    free(empty);
}
END_TEST

START_TEST(trailer_limit)
{
    /* the trailer section counts with the head, and the chunks' lines do not */
    size_t framing = strlen("1\r\nx\r\n0\r\n");
    read_padded(CHUNKED "1\r\nx\r\n0\r\na: ", "\r\n\r\n", HTTP_HEAD_MAX + framing);
    ck_assert_int_eq(parser.state, HTTP_COMPLETE);
    read_padded(CHUNKED "1\r\nx\r\n0\r\na: ", "\r\n\r\n", HTTP_HEAD_MAX + framing + 1);
    assert_refused(431);
}
END_TEST

START_TEST(field_limit) /* 6585, 5 */
{
    for (size_t count = HTTP_FIELDS_MAX; count <= HTTP_FIELDS_MAX + 1; count++) {
        char *fields = repeat("a:b\r\n", 5 * (count - 1)), request[2000];
        snprintf(request, sizeof request, GET HOST "%s\r\n", fields);
        read_request(request, strlen(request));
        ck_assert_int_eq(parser.state, count > HTTP_FIELDS_MAX ? HTTP_FAILED : HTTP_COMPLETE);
        ck_assert_int_eq(parser.status, count > HTTP_FIELDS_MAX ? 431 : 0);
        snprintf(request, sizeof request, CHUNKED "0\r\n%s\r\n", fields); /* trailers count, too */
        read_request(request, strlen(request));
        ck_assert_int_eq(parser.state, HTTP_FAILED);
        free(fields);
    }
}
END_TEST

START_TEST(chunk_line_limit) /* 9112, 7.1.1 */
{
    const size_t rest = strlen(CHUNKED) + strlen("\r\n");
    read_padded(CHUNKED "0;", "\r\n\r\n", HTTP_LINE_MAX + rest);
    ck_assert_int_eq(parser.state, HTTP_COMPLETE);
    read_padded(CHUNKED "0;", "\r\n\r\n", HTTP_LINE_MAX + 1 + rest);
    assert_refused(400);
}
END_TEST

/* --- memory --- */

START_TEST(nothing_is_taken_before_it_is_needed)
{
    http_init(&parser, HTTP_REQUEST, SIZE_MAX);
    ck_assert_uint_eq(memory.calls, 0);
    const char *head = POST_WITH("Content-Length: 99999999999999");
    http_feed(&parser, head, strlen(head));
    ck_assert_int_eq(parser.state, HTTP_READING);
    ck_assert_uint_le(memory.largest, 1024); /* announcing a large body costs nothing */
    http_feed(&parser, "x", 1);
    ck_assert_uint_le(memory.largest, 1024);
}
END_TEST

START_TEST(memory_is_bounded_by_the_limits)
{
    const size_t body_max = 20000;
    char *line = repeat("a", HTTP_LINE_MAX - strlen("1;\r\n")), chunk[HTTP_LINE_MAX + 8];
    snprintf(chunk, sizeof chunk, "1;%s\r\nx\r\n", line);
    http_init(&parser, HTTP_REQUEST, body_max);
    http_feed(&parser, CHUNKED, strlen(CHUNKED));
    for (size_t i = 0; i < body_max; i++) /* framing a thousand times the body */
        http_feed(&parser, chunk, strlen(chunk));
    ck_assert_int_eq(parser.state, HTTP_READING);
    ck_assert_uint_eq(parser.body_length, body_max);
    ck_assert_uint_le(memory.largest, body_max + 1);
    ck_assert_uint_le(parser.head_size, HTTP_HEAD_MAX + HTTP_LINE_MAX);
    ck_assert_uint_le(memory.calls, 30); /* by doubling: as many calls as the sizes have bits */
    http_feed(&parser, chunk, strlen(chunk));
    assert_refused(413);
    free(line);
}
END_TEST

START_TEST(out_of_memory)
{
    char *body = repeat("a", 5000), request[8000];
    snprintf(request, sizeof request, GET HOST "a: %.900s\r\nContent-Length: 5000\r\n\r\n%s", body,
             body);
    for (size_t allowed = 0; parser.state != HTTP_COMPLETE; allowed++) {
        ck_assert_uint_le(allowed, 20);
        http_reset(&parser);
        http_init(&parser, HTTP_REQUEST, 5000);
        memory.left = allowed;
        for (size_t i = 0; i < strlen(request); i++)
            http_feed(&parser, request + i, 1);
        ck_assert(parser.state == HTTP_COMPLETE || parser.status == 500);
    }
    ck_assert_uint_gt(memory.calls, 3);
    memory.left = 0;
    ck_assert_ptr_null(http_query("a=b", "a"));
    ck_assert_int_eq(errno, ENOMEM);
    free(body);
}
END_TEST

/* --- HEAD --- */

static const struct {
    const char *text;
    bool head;
} heads_asked_for[] = {
    {"HEAD ", true},
    {"HEAD", false},
    {"\r\nHEAD ", true},
    {"HEAD / HTTP/1.1\r\n", true},
    {"HEAD / HTTP/1.1\r\n" HOST "\r\n", true},
    {"HEAD / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhe", true},
    {"HEAD / HTTP/1.1\r\n" HOST HOST, true},                         /* refused: 400 */
    {"HEAD / HTTP/1.1\r\n" HOST "Content-Length: 11\r\n\r\n", true}, /* 413 */
    {"HEAD / HTTP/2.0\r\n", true},                                   /* 505 */
    {"HEAD  / HTTP/1.1\r\n", true},                                  /* 400 */
    {"HEAD / HTTP/1.1\n", true},                                     /* 400 */
    {"HEADER / HTTP/1.1\r\n", false},                                /* 501 */
    {"HEAD\r\n", true},
    {"head / HTTP/1.1\r\n", false},
    {"GET /HEAD HTTP/1.1\r\n" HOST "\r\n", false},
    {"", false},
};

START_TEST(head_is_known_in_every_state) /* 9110, 9.3.2 */
{
    read_request(heads_asked_for[_i].text, strlen(heads_asked_for[_i].text));
    ck_assert_msg(http_is_head(&parser) == heads_asked_for[_i].head, "%s",
                  heads_asked_for[_i].text);
    read_padded("HEAD /", "", HTTP_LINE_MAX);
    assert_refused(414);
    ck_assert(http_is_head(&parser));
}
END_TEST

/* --- connections --- */

static const struct {
    const char *rule, *fields;
    int minor_version;
    bool keep_alive;
} connections[] = {
    {"9112 9.3: HTTP/1.1 stays", "", 1, true},
    {"9112 9.3: unless it says otherwise", "Connection: close\r\n", 1, false},
    {"9110 7.6.1: in any case", "connection: Close\r\n", 1, false},
    {"9110 7.6.1: in a list", "Connection: keep-alive ,, close\t, x\r\n", 1, false},
    {"9110 7.6.1: in two fields", "Connection: close\r\nConnection: keep-alive\r\n", 1, false},
    {"9110 7.6.1: whole words", "Connection: closed, un close, clos\r\n", 1, true},
    {"9110 7.6.1: this field only", "X-Connection: close\r\n", 1, true},
    {"9112 9.3: HTTP/1.0 leaves", "", 0, false},
    {"9112 9.3: unless it says otherwise", "Connection: Keep-Alive\r\n", 0, true},
    {"9112 9.3: close wins", "Connection: keep-alive\r\nConnection: close\r\n", 0, false},
};

START_TEST(connection_is_kept_or_not)
{
    char request[256];
    snprintf(request, sizeof request, "GET / HTTP/1.%d\r\nHost: h\r\n%s\r\n",
             connections[_i].minor_version, connections[_i].fields);
    read_request(request, strlen(request));
    ck_assert_int_eq(parser.state, HTTP_COMPLETE);
    ck_assert_int_eq(parser.minor_version, connections[_i].minor_version);
    ck_assert_msg(parser.keep_alive == connections[_i].keep_alive, "%s", connections[_i].rule);
}
END_TEST

START_TEST(pipelining) /* 9112, 9.3.2 */
{
    const char *stream = "POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
                         "\r\n" /* as some old clients do behind a body: 9112, 2.2 */
                         "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n" CHUNKED "1\r\nd\r\n0\r\n\r\n"
                         "GET /4 HTTP/1.1\r\nHost: h\r\n\r\nGE";
    static const char *const paths[] = {"/1", "/2", "/", "/4"};
    static const char *const bodies[] = {"abc", "", "d", ""};
    size_t length = strlen(stream), taken = 0;
    http_init(&parser, HTTP_REQUEST, BODY_MAX);
    for (int i = 0; i < 4; i++) {
        taken += http_feed(&parser, stream + taken, length - taken);
        ck_assert_int_eq(parser.state, HTTP_COMPLETE);
        ck_assert_str_eq(parser.path, paths[i]);
        ck_assert_str_eq(parser.body, bodies[i]);
        http_reset(&parser);
        ck_assert_int_eq(parser.state, HTTP_EMPTY);
    }
    ck_assert_uint_eq(taken, length - 2);
    ck_assert_uint_eq(http_feed(&parser, stream + taken, length - taken), 2);
    ck_assert_int_eq(parser.state, HTTP_READING);
}
END_TEST

START_TEST(empty_lines_are_not_a_message) /* 9112, 2.2: so nobody waits for its rest */
{
    ck_assert_uint_eq(read_request("\r\n\r\n", 4), 4);
    ck_assert_int_eq(parser.state, HTTP_EMPTY);
    http_feed_end(&parser);
    ck_assert_int_eq(parser.state, HTTP_EMPTY);
    ck_assert_uint_eq(read_request("\r\n\r", 3), 3);
    ck_assert_int_eq(parser.state, HTTP_READING);
}
END_TEST

/* --- Expect --- */

#define EXPECT "Expect: 100-Continue\r\n"
static const struct {
    const char *rule, *request;
    bool wants;
} expectations[] = {
    {"9110 10.1.1: a body", POST_WITH(EXPECT "Content-Length: 5"), true},
    {"9110 10.1.1: chunks", POST_WITH("Transfer-Encoding: chunked\r\nexpect:100-continue"), true},
    {"9110 10.1.1: the head is not complete",
     "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n" EXPECT "\r", false},
    {"9110 10.1.1: the body has begun", POST_WITH(EXPECT "Content-Length: 5") "a", false},
    {"9110 10.1.1: a chunk has begun", POST_WITH(EXPECT "Transfer-Encoding: chunked") "1", false},
    {"9110 10.1.1: no body", POST_WITH(EXPECT "Content-Length: 0"), false},
    {"9110 10.1.1: no body", "POST / HTTP/1.1\r\nHost: h\r\n" EXPECT "\r\n", false},
    {"9110 10.1.1: not asked for", POST_WITH("Content-Length: 5"), false},
    {"9110 10.1.1: HTTP/1.0", "POST / HTTP/1.0\r\n" EXPECT "Content-Length: 5\r\n\r\n", false},
    {"9110 10.1.1: HTTP/1.0", "POST / HTTP/1.0\r\nExpect: x\r\nContent-Length: 5\r\n\r\n", false},
};

START_TEST(leave_to_send_the_body)
{
    const char *request = expectations[_i].request;
    read_request(request, strlen(request));
    ck_assert_msg(parser.state != HTTP_FAILED, "%s: %s", expectations[_i].rule, parser.error);
    ck_assert_msg(parser.wants_continue == expectations[_i].wants, "%s: %s", expectations[_i].rule,
                  request);
}
END_TEST

/* --- header fields --- */

START_TEST(header_fields) /* 9110, 5.1 and 5.5 */
{
    const char *request = GET "Host:h\r\nA: 1\r\nb:\r\nC:\t two\twords \xc3\xa9 \t\r\n"
                              "a: 2\r\nEmpty: \t \r\nColon::x:\r\nLast: !\r\n\r\n";
    read_request(request, strlen(request));
    ck_assert_int_eq(parser.state, HTTP_COMPLETE);
    ck_assert_str_eq(http_header(&parser, "HOST"), "h");
    ck_assert_str_eq(http_header(&parser, "a"), "1"); /* the first */
    ck_assert_str_eq(http_header(&parser, "B"), "");
    ck_assert_str_eq(http_header(&parser, "c"), "two\twords \xc3\xa9");
    ck_assert_str_eq(http_header(&parser, "empty"), "");
    ck_assert_str_eq(http_header(&parser, "Colon"), ":x:");
    ck_assert_str_eq(http_header(&parser, "last"), "!");
    ck_assert_ptr_null(http_header(&parser, "h"));     /* a value is not a name */
    ck_assert_ptr_null(http_header(&parser, "GET"));   /* nor is the request line */
    ck_assert_ptr_null(http_header(&parser, "Host:")); /* nor a part of a line */
    read_request("GET /?a HTTP/1.0\r\n\r\n", 20);
    ck_assert_ptr_null(http_header(&parser, "a"));
}
END_TEST

START_TEST(trailers_are_no_header_fields) /* 9110, 6.5.1 */
{
    const char *request = CHUNKED "0\r\nTrailer-Field: a\r\n\r\n";
    read_request(request, strlen(request));
    ck_assert_int_eq(parser.state, HTTP_COMPLETE);
    ck_assert_ptr_null(http_header(&parser, "Trailer-Field"));
    ck_assert_str_eq(http_header(&parser, "Host"), "h");
}
END_TEST

/* --- responses --- */

#define OK "HTTP/1.1 200 OK\r\n"
#define WITH_CHUNKS "Transfer-Encoding: chunked\r\n\r\n"
static const struct {
    const char *rule, *response, *body;
    int status;
    bool ends, keep_alive; /* the stream ends behind it; the server will keep it open */
} responses[] = {
    {"9112 6.3: a length", OK "Content-Length: 2\r\n\r\nhi", "hi", 200, false, true},
    {"9112 6.3: a length", OK "Content-Length: 2\r\n\r\nhi", "hi", 200, true, true},
    {"9112 6.3: chunks", OK WITH_CHUNKS "2\r\nhi\r\n0\r\n\r\n", "hi", 200, false, true},
    {"9112 6.3: until the end", OK "\r\nhi\r\n", "hi\r\n", 200, true, false},
    {"9112 6.3: until the end, at once", OK "\r\n", "", 200, true, false},
    {"9112 6.3: until the end", OK "\r\n0123456789", "0123456789", 200, true, false},
    {"9112 6.3: 204", "HTTP/1.1 204 No Content\r\n\r\n", "", 204, false, true},
    {"9112 6.3: 304", "HTTP/1.1 304 \r\nContent-Length: 99\r\n\r\n", "", 304, false, true},
    {"9112 6.3: 304", "HTTP/1.1 304 \r\n" WITH_CHUNKS, "", 304, false, true},
    {"9112 4: no reason", "HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n", "", 404, false, true},
    {"9112 4: a reason", "HTTP/1.1 500 a \xc3\xa9\t\r\nContent-Length: 0\r\n\r\n", "", 500, false,
     true},
    {"9112 9.3: HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "", 200, false, false},
    {"9112 9.3: close", OK "Connection: close\r\nContent-Length: 0\r\n\r\n", "", 200, false, false},
    {"9110 15.2: 1xx come before it",
     "HTTP/1.1 100 Continue\r\nA: b\r\nConnection: close\r\nContent-Length: 7\r\n\r\n"
     "HTTP/1.1 103 \r\n\r\n" OK WITH_CHUNKS "0\r\n\r\n",
     "", 200, false, true},
};

START_TEST(accepted_response)
{
    const char *rule = responses[_i].rule, *text = responses[_i].response;
    read_input(&(struct input){HTTP_RESPONSE, text, strlen(text), BODY_MAX, responses[_i].ends});
    ck_assert_msg(parser.state == HTTP_COMPLETE, "%s: '%s' has state %d", rule, text, parser.state);
    ck_assert_msg(parser.status == responses[_i].status, "%s: %d", rule, parser.status);
    ck_assert_str_eq(parser.body, responses[_i].body);
    ck_assert_msg(parser.keep_alive == responses[_i].keep_alive, "%s", rule);
    ck_assert_ptr_null(http_header(&parser, "A")); /* of a 1xx answer */
}
END_TEST

static const struct {
    const char *rule, *response;
    int status;
    bool ends;
} failures[] = {
    {"9112 8: a length, ended early", OK "Content-Length: 3\r\n\r\nhi", 400, true},
    {"9112 8: chunks, ended early", OK WITH_CHUNKS "0\r\n", 400, true},
    {"9112 8: a head, ended early", OK "a: b\r\n", 400, true},
    {"9110 15.2: 1xx alone", "HTTP/1.1 100 Continue\r\n\r\n", 400, true},
    {"9110 15.2.2: 101", "HTTP/1.1 101 \r\n\r\n", 400, false},
    {"9112 4: no space behind the status", "HTTP/1.1 200\r\n\r\n", 400, false},
    {"9112 4: two digits", "HTTP/1.1 20 OK\r\n\r\n", 400, false},
    {"9112 4: four digits", "HTTP/1.1 2000 OK\r\n\r\n", 400, false},
    {"9112 4: no digits", "HTTP/1.1 OK\r\n\r\n", 400, false},
    {"9112 4: two spaces", "HTTP/1.1  200 OK\r\n\r\n", 400, false},
    {"9112 4: no version", "200 OK\r\n\r\n", 400, false},
    {"9112 4: a control character", "HTTP/1.1 200 O\x01\r\n\r\n", 400, false},
    {"9110 15: statuses begin with 100", "HTTP/1.1 099 a\r\n\r\n", 400, false},
    {"9112 2.3: another version", "HTTP/2.0 200 OK\r\n\r\n", 505, false},
    {"9112 2.2: empty lines are for requests", "\r\n" OK "\r\n", 400, false},
    {"9112 6.3: two framings", OK "Content-Length: 2\r\n" WITH_CHUNKS, 400, false},
    {"9112 6.3: two framings, 304", "HTTP/1.1 304 \r\nContent-Length: 2\r\n" WITH_CHUNKS, 400,
     false},
    {"9112 6.1: in HTTP/1.0", "HTTP/1.0 200 OK\r\n" WITH_CHUNKS, 400, false},
    {"9112 6.1: not known", OK "Transfer-Encoding: gzip\r\n\r\n", 400, false},
    {"9112 6.1: not known", OK "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, false},
    {"a body too large, ended early", OK "Content-Length: 11\r\n\r\n012345678", 400, true},
};

START_TEST(failed_response)
{
    const char *rule = failures[_i].rule, *text = failures[_i].response;
    read_input(&(struct input){HTTP_RESPONSE, text, strlen(text), BODY_MAX, failures[_i].ends});
    ck_assert_msg(parser.state == HTTP_FAILED, "%s: '%s' has state %d", rule, text, parser.state);
    ck_assert_msg(parser.status == failures[_i].status, "%s: %d", rule, parser.status);
}
END_TEST

static const struct {
    const char *framing, *response, *more;
    bool truncated;
} long_responses[] = {
    {"a length", OK "Content-Length: 10\r\n\r\n0123456789", "x", false},
    {"a length", OK "Content-Length: 11\r\n\r\n0123456789", "x", true},
    {"a length beyond 64 bits", OK "Content-Length: 18446744073709551617\r\n\r\n0123456789", "x",
     true},
    {"chunks", OK WITH_CHUNKS "b\r\n0123456789", "x", true},
    {"chunks", OK WITH_CHUNKS "9\r\n012345678\r\n2\r\n9", "x", true},
    {"chunks", OK WITH_CHUNKS "a\r\n0123456789\r\n1\r\n", "x", true},
    {"chunks", OK WITH_CHUNKS "a\r\n0123456789\r\n0\r\n\r\n", "x", false},
    {"a chunk beyond 64 bits", OK WITH_CHUNKS "10000000000000001\r\n0123456789", "x", true},
    {"until the end", OK "\r\n0123456789", "x", true},
};

/* What is accepted is kept, and no byte more is read. */
START_TEST(long_response_is_truncated)
{
    const char *framing = long_responses[_i].framing, *response = long_responses[_i].response;
    char text[128];
    snprintf(text, sizeof text, "%s%s", response, long_responses[_i].more);
    struct input input = {HTTP_RESPONSE, text, strlen(text), BODY_MAX, false};
    ck_assert_msg(read_input(&input) == strlen(response), "%s", framing);
    ck_assert_msg(parser.state == HTTP_COMPLETE, "%s: state %d", framing, parser.state);
    ck_assert_str_eq(parser.body, "0123456789");
    ck_assert_msg(parser.truncated == long_responses[_i].truncated, "%s", framing);
    ck_assert_msg(parser.keep_alive == !parser.truncated, "%s", framing);
}
END_TEST

START_TEST(response_is_truncated_to_nothing)
{
    static const char *const texts[] = {OK "Content-Length: 1\r\n\r\n", OK WITH_CHUNKS "1\r\n",
                                        OK "\r\n"};
    for (int i = 0; i < 3; i++) {
        char text[128];
        snprintf(text, sizeof text, "%sx", texts[i]);
        struct input input = {HTTP_RESPONSE, text, strlen(text), 0, false};
        ck_assert_uint_eq(read_input(&input), strlen(texts[i]));
        ck_assert_int_eq(parser.state, HTTP_COMPLETE);
        ck_assert(parser.truncated && parser.body_length == 0);
    }
}
END_TEST

START_TEST(response_without_an_end)
{
    const char *text = OK "\r\nhi";
    read_input(&(struct input){HTTP_RESPONSE, text, strlen(text), BODY_MAX, false});
    ck_assert_int_eq(parser.state, HTTP_READING);
    read_input(&(struct input){HTTP_RESPONSE, "", 0, BODY_MAX, true});
    ck_assert_int_eq(parser.state, HTTP_EMPTY);
}
END_TEST

START_TEST(response_header_fields)
{
    const char *text = OK "First: 1\r\nContent-Length: 0\r\n\r\n";
    read_input(&(struct input){HTTP_RESPONSE, text, strlen(text), BODY_MAX, false});
    ck_assert_str_eq(http_header(&parser, "first"), "1");
    ck_assert_str_eq(http_header(&parser, "content-length"), "0");
}
END_TEST

START_TEST(endless_interim_responses) /* 9110, 15.2: all heads count against one limit */
{
    char *text = repeat("HTTP/1.1 100 \r\n\r\n", 2UL * HTTP_HEAD_MAX);
    struct input input = {HTTP_RESPONSE, text, strlen(text), BODY_MAX, false};
    ck_assert_uint_eq(read_input(&input), HTTP_HEAD_MAX);
    assert_refused(431);
    free(text);
}
END_TEST

/* --- queries --- */

static const struct {
    const char *query, *name, *value; /* NULL: there is none, or it is malformed */
    int error;
} queries[] = {
    {"a=1", "a", "1", 0},
    {"a=1&b=2", "b", "2", 0},
    {"a=1&a=2", "a", "1", 0},
    {"ab=1&a=2", "a", "2", 0},
    {"a", "a", "", 0},
    {"a=", "a", "", 0},
    {"a&b", "b", "", 0},
    {"&&a=1&", "a", "1", 0},
    {"a=b=c", "a", "b=c", 0},
    {"a=x+y%20z%2B%26%3d", "a", "x y z+&=", 0},
    {"%61+b=%C3%A9", "a b", "\xc3\xa9", 0},
    {"A=1", "a", NULL, 0},
    {"b=1", "a", NULL, 0},
    {"", "a", NULL, 0},
    {"b=a=1", "a", NULL, 0},
    {"b=%zz&%zz=1&a=1", "a", "1", 0}, /* others' errors do not matter */
    {"a=%zz", "a", NULL, EINVAL},
    {"a=1%2", "a", NULL, EINVAL},
    {"a=%&b=41", "a", NULL, EINVAL},
    {"a=%4&1=2", "a", NULL, EINVAL},
    {"a=1%00", "a", NULL, EINVAL},
};

START_TEST(query_parameter)
{
    errno = EAGAIN;
    char *value = http_query(queries[_i].query, queries[_i].name);
    if (queries[_i].value) {
        ck_assert_msg(value && strcmp(value, queries[_i].value) == 0, "'%s': '%s'",
                      queries[_i].query, value ? value : "none");
    } else {
        ck_assert_msg(!value && errno == queries[_i].error, "'%s': errno %d", queries[_i].query,
                      errno);
    }
    free(value);
}
END_TEST

/* --- writing --- */

START_TEST(dates) /* 9110, 5.6.7 */
{
    char out[HTTP_DATE_SIZE], expected[HTTP_DATE_SIZE];
    http_date(out, 784111777);
    ck_assert_str_eq(out, "Sun, 06 Nov 1994 08:49:37 GMT");
    http_date(out, 0);
    ck_assert_str_eq(out, "Thu, 01 Jan 1970 00:00:00 GMT");
    http_date(out, 951782400);
    ck_assert_str_eq(out, "Tue, 29 Feb 2000 00:00:00 GMT");
    /* all days of 60 years, then one a month: leap days, and centuries that have none */
    for (int day = 0; day < 250 * 365; day += day < 60 * 365 ? 1 : 31) {
        time_t when = (time_t)day * 86400 + day * 37L % 86400;
        struct tm tm;
        http_date(out, when);
        strftime(expected, sizeof expected, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&when, &tm));
        if (strcmp(out, expected) != 0)
            ck_abort_msg("'%s' for '%s'", out, expected);
    }
    http_date(out, 253402300799);
    ck_assert_str_eq(out, "Fri, 31 Dec 9999 23:59:59 GMT");
    http_date(out, 253402300800); /* five digits do not fit */
    ck_assert_str_eq(out, "Thu, 01 Jan 1970 00:00:00 GMT");
    http_date(out, -1);
    ck_assert_str_eq(out, "Thu, 01 Jan 1970 00:00:00 GMT");
}
END_TEST

#define DATE "Sun, 06 Nov 1994 08:49:37 GMT"
static const struct {
    struct http_head head;
    const char *text;
} heads[] = {
    {{200, "text/plain", 5, DATE, true, 1, NULL, NULL},
     "HTTP/1.1 200 OK\r\nDate: " DATE "\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n"},
    {{200, NULL, 0, DATE, true, 0, NULL, NULL}, /* 9112, 2.3: the version is the server's own */
     "HTTP/1.1 200 OK\r\nDate: " DATE "\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"},
    {{405, NULL, 10000000000, DATE, false, 1, "Allow: GET\r\n", "A: b\r\n"},
     "HTTP/1.1 405 Method Not Allowed\r\nDate: " DATE
     "\r\nContent-Length: 10000000000\r\nConnection: close\r\nAllow: GET\r\nA: b\r\n\r\n"},
    {{200, "text/event-stream", -1, DATE, false, 0, NULL, NULL},
     "HTTP/1.1 200 OK\r\nDate: " DATE
     "\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"},
};

START_TEST(heads_are_written)
{
    size_t length = strlen(heads[_i].text);
    char *out = malloc(length + 1); /* exactly: a sanitizer sees more */
    ck_assert_ptr_nonnull(out);
    ck_assert_uint_eq(http_write_head(out, length + 1, &heads[_i].head), length);
    ck_assert_str_eq(out, heads[_i].text);
    for (size_t size = 0; size <= length; size++)
        ck_assert_uint_eq(http_write_head(out, size, &heads[_i].head), 0);
    free(out);
}
END_TEST

START_TEST(reasons) /* 9110, 15 */
{
    static const int known[] = {100, 200, 202, 206, 304, 400, 403, 404, 405, 408, 413,
                                414, 416, 417, 431, 500, 501, 502, 503, 504, 505};
    ck_assert_str_eq(http_reason(404), "Not Found");
    ck_assert_str_eq(http_reason(413), "Content Too Large");
    ck_assert_str_ne(http_reason(299), "");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        ck_assert_str_ne(http_reason(known[i]), http_reason(299));
}
END_TEST

static const struct {
    const char *text, *escaped;
} strings[] = {
    {"", ""},
    {"plain / text's & <b>", "plain / text's & <b>"},
    {"\"\\", "\\\"\\\\"},
    {"a\nb\t\x01\x1f\x7f", "a\\u000ab\\u0009\\u0001\\u001f\x7f"},
    {"\xc2\x80 \xc3\xa9 \xdf\xbf", "\xc2\x80 \xc3\xa9 \xdf\xbf"},
    {"\xe0\xa0\x80 \xe2\x82\xac \xed\x9f\xbf \xee\x80\x80",
     "\xe0\xa0\x80 \xe2\x82\xac \xed\x9f\xbf \xee\x80\x80"},
    {"\xf0\x90\x80\x80 \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf",
     "\xf0\x90\x80\x80 \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf"},
    {"a\x80z", "a\xef\xbf\xbdz"},                               /* begins in the middle */
    {"\xffz", "\xef\xbf\xbdz"},                                 /* never occurs */
    {"\xc3", "\xef\xbf\xbd"},                                   /* cut off */
    {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},                   /* cut off */
    {"\xf0\x9f\x98z", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz"}, /* cut off */
    {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                   /* overlong / */
    {"\xe0\x9f\xbf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},   /* overlong */
    {"\xf0\x8f\xbf\xbf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},                 /* a surrogate */
    {"\xed\xbf\xbf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},                 /* a surrogate */
    {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* too large */
    {"\xc3\"", "\xef\xbf\xbd\\\""}, /* does not swallow it */
};

START_TEST(strings_are_escaped) /* 8259, 7 and 8.1; 3629, 3 and 4 */
{
    size_t length = strlen(strings[_i].text), most = length * 6;
    char *out = malloc(most + (most == 0)), *text = malloc(length + (length == 0));
    ck_assert(out && text);
    memcpy(text, strings[_i].text, length); /* without its NUL: a sanitizer sees it read */
    size_t n = json_escape(out, text, length);
    ck_assert_uint_le(n, most);
    ck_assert_msg(n == strlen(strings[_i].escaped) && memcmp(out, strings[_i].escaped, n) == 0,
                  "'%s' became '%.*s'", strings[_i].text, (int)n, out);
    free(out);
    free(text);
}
END_TEST

/* Escapes take six times as much room, and about as much more time; printf() would take fifty. */
START_TEST(escaping_is_quick)
{
    enum { LENGTH = 4 << 20 };
    char *text = malloc(LENGTH), *out = malloc(6UL * LENGTH);
    clock_t took[2];
    ck_assert(text && out);
    memset(out, 0, 6UL * LENGTH); /* the pages are there */
    for (int control = 0; control < 2; control++) {
        memset(text, control ? 1 : 'a', LENGTH);
        clock_t start = clock();
        json_escape(out, text, LENGTH);
        took[control] = clock() - start;
    }
    ck_assert_msg(took[1] < 15 * took[0], "%ld, plain text %ld", (long)took[1], (long)took[0]);
    free(text);
    free(out);
}
END_TEST

START_TEST(length_counts_not_nul)
{
    char out[18];
    ck_assert_uint_eq(json_escape(out, "\0\1\2", 3), 18);
    ck_assert_mem_eq(out, "\\u0000\\u0001\\u0002", 18);
    ck_assert_uint_eq(json_escape(out, "\xc3\xa9", 1), 3); /* a character that goes on behind it */
    ck_assert_mem_eq(out, "\xef\xbf\xbd", 3);
}
END_TEST

#define COUNT(table) (int)(sizeof(table) / sizeof *(table))
int main(void)
{
    Suite *suite = suite_create("http");
    TCase *reading = tcase_create("reading"), *writing = tcase_create("writing");
    tcase_set_timeout(reading, 120);
    tcase_add_checked_fixture(reading, NULL, forget);
    tcase_add_loop_test(reading, accepted_request, 0, COUNT(accepted));
    tcase_add_loop_test(reading, unfinished_request, 0, COUNT(accepted));
    tcase_add_loop_test(reading, refused_request, 0, COUNT(refused));
    tcase_add_test(reading, characters);
    tcase_add_test(reading, request_line_limit);
    tcase_add_test(reading, head_limit);
    tcase_add_test(reading, trailer_limit);
    tcase_add_test(reading, field_limit);
    tcase_add_test(reading, chunk_line_limit);
    tcase_add_test(reading, nothing_is_taken_before_it_is_needed);
    tcase_add_test(reading, memory_is_bounded_by_the_limits);
    tcase_add_test(reading, out_of_memory);
    tcase_add_loop_test(reading, head_is_known_in_every_state, 0, COUNT(heads_asked_for));
    tcase_add_loop_test(reading, connection_is_kept_or_not, 0, COUNT(connections));
    tcase_add_test(reading, pipelining);
    tcase_add_test(reading, empty_lines_are_not_a_message);
    tcase_add_loop_test(reading, leave_to_send_the_body, 0, COUNT(expectations));
    tcase_add_test(reading, header_fields);
    tcase_add_test(reading, trailers_are_no_header_fields);
    tcase_add_loop_test(reading, accepted_response, 0, COUNT(responses));
    tcase_add_loop_test(reading, failed_response, 0, COUNT(failures));
    tcase_add_loop_test(reading, long_response_is_truncated, 0, COUNT(long_responses));
    tcase_add_test(reading, response_is_truncated_to_nothing);
    tcase_add_test(reading, response_without_an_end);
    tcase_add_test(reading, response_header_fields);
    tcase_add_test(reading, endless_interim_responses);
    tcase_add_loop_test(reading, query_parameter, 0, COUNT(queries));
    suite_add_tcase(suite, reading);
    tcase_set_timeout(writing, 120);
    tcase_add_test(writing, dates);
    tcase_add_loop_test(writing, heads_are_written, 0, COUNT(heads));
    tcase_add_test(writing, reasons);
    tcase_add_loop_test(writing, strings_are_escaped, 0, COUNT(strings));
    tcase_add_test(writing, escaping_is_quick);
    tcase_add_test(writing, length_counts_not_nul);
    suite_add_tcase(suite, writing);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
