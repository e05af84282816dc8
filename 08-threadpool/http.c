/*
 * HTTP/1.1 messages. What comes is collected line by line, and a line is looked at once, when its
 * end has come: so the result does not depend on how the stream was cut, and the work is linear in
 * its length. The strings of the head are kept one behind the other, each with its NUL:
 *
 *     GET\0/files/a b\0x=1\0Host\0127.0.0.1\0Accept\0text/plain\0
 *
 * Where a rule is strict, it is so because two programs on the way of a message that read it
 * differently see different messages in it: request smuggling (RFC 9112, 11.2).
 */
#include "http.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum step {
    START_LINE,
    HEADER,
    BODY,        /* of known length */
    BODY_TO_END, /* of the stream */
    CHUNK_SIZE,
    CHUNK_DATA,
    CHUNK_END, /* the CRLF behind the data */
    TRAILER
};

enum {
    SEEN_HOST = 1,
    SEEN_LENGTH = 2,
    SEEN_CHUNKED = 4,
    SEEN_OTHER_CODING = 8,
    SEEN_CLOSE = 16,
    SEEN_KEEP_ALIVE = 32,
    SEEN_CONTINUE = 64,
    SEEN_OTHER_EXPECTATION = 128
};

enum { FIRST_SIZE = 512 }; /* of a buffer; it doubles from there on */

/* --- characters --- */

static bool in_token(unsigned char c) /* RFC 9110, 5.6.2 */
{
    return isalnum(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool in_target(unsigned char c)
{
    return c > ' ' && c < 0x7f && c != '#';
}

static bool in_value(unsigned char c) /* RFC 9110, 5.5 */
{
    return c == '\t' || (c >= ' ' && c != 0x7f);
}

static bool in_name(unsigned char c) /* of a host; RFC 3986, 3.2.2 */
{
    return isalnum(c) || (c && strchr("-._~!$&'()*+,;=", c));
}

/* How many characters from here on may stand there. The NUL at the end may stand nowhere. */
static size_t span(const char *text, bool may_stand(unsigned char))
{
    size_t length = 0;
    while (may_stand((unsigned char)text[length]))
        length++;
    return length;
}

static size_t blanks(const char *text)
{
    return strspn(text, " \t");
}

static bool is_blank(char c) /* OWS consists of these (RFC 9110, 5.6.3) */
{
    return c == ' ' || c == '\t';
}

/* The value of a digit of that base (10 or 16), or -1. */
static int digit(char c, int base)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20); /* lower case */
    return base == 16 && c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads digits up to the first other character, and returns how many. A number too large for
 * *number becomes SIZE_MAX, larger than anything allowed. */
static size_t read_number(const char *text, int base, size_t *number)
{
    size_t length = 0;
    *number = 0;
    for (int value; (value = digit(text[length], base)) >= 0; length++) {
        if (*number > (SIZE_MAX - (size_t)value) / (size_t)base)
            *number = SIZE_MAX;
        else
            *number = *number * (size_t)base + (size_t)value;
    }
    return length;
}

/* Decodes %XX, and "+" if plus is set; writes at most length bytes and a NUL. out may be where text
 * is, or before. What ends text is no hex digit. Returns false if there is a bad escape, or a NUL,
 * which would end the string. */
static bool decode(char *out, const char *text, size_t length, bool plus)
{
    const char *end = text + length;
    while (text < end) {
        char c = *text++;
        if (c == '+' && plus)
            c = ' ';
        if (c == '%') {
            int high = digit(text[0], 16), low = high < 0 ? -1 : digit(text[1], 16);
            if (low < 0 || high + low == 0)
                return false;
            c = (char)(high * 16 + low);
            text += 2;
        }
        *out++ = c;
    }
    *out = '\0';
    return true;
}

/* --- memory and ends --- */

/* Always returns false, as do the functions below that have refused what they were to take. */
static bool refuse(struct http_parser *parser, int status, const char *error)
{
    parser->state = HTTP_FAILED;
    parser->status = status;
    parser->error = error;
    parser->wants_continue = false;
    return false;
}

/* Makes the buffer at least so large. By doubling, so that a byte is moved twice at most on
 * average, and no further than to most, so that its owner knows what a message can cost. */
static bool reserve(struct http_parser *parser, char **buffer, size_t *size, size_t need,
                    size_t most)
{
    size_t larger = *size ? *size : FIRST_SIZE;
    if (need <= *size)
        return true;
    while (larger < need)
        larger = larger > most / 2 ? most : larger * 2;
    char *moved = realloc(*buffer, larger);
    if (!moved)
        return refuse(parser, 500, "out of memory");
    *buffer = moved;
    *size = larger;
    return true;
}

/* The string behind this one. */
static char *next_string(char *string)
{
    return string + strlen(string) + 1;
}

static void complete(struct http_parser *parser)
{
    parser->state = HTTP_COMPLETE;
    parser->wants_continue = false;
    if (parser->kind == HTTP_REQUEST) {
        parser->method = parser->head;
        parser->path = next_string(parser->head);
        parser->query = next_string(parser->path);
    }
    parser->body = "";
    if (parser->content) {
        parser->content[parser->body_length] = '\0';
        parser->body = parser->content;
    }
}

/* So many bytes of the body come next. If that is more than is accepted, a request is refused; of a
 * response, what is accepted is kept, and nothing behind it is read. */
static void expect_bytes(struct http_parser *parser, size_t length)
{
    size_t room = parser->body_max - parser->body_length;
    parser->left = length;
    if (length <= room)
        return;
    if (parser->kind == HTTP_REQUEST) {
        refuse(parser, 413, "the body is larger than is accepted here");
        return;
    }
    parser->truncated = true;
    parser->keep_alive = false;
    parser->left = room;
    if (room == 0)
        complete(parser);
}

/* --- the start line --- */

/* Methods have case, and nobody knows what the body of an unknown one means. CONNECT is not among
 * them: it asks for a tunnel, a proxy's business. */
static bool is_known_method(const char *text, size_t length)
{
    static const char *const known[] = {"GET",    "HEAD",    "POST",  "PUT",
                                        "DELETE", "OPTIONS", "TRACE", "PATCH"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (length == strlen(known[i]) && memcmp(text, known[i], length) == 0)
            return true;
    return false;
}

static bool refuse_method(struct http_parser *parser)
{
    return refuse(parser, 501, "this method is not known here; GET and HEAD are");
}

/* What stands in brackets: an IPv6 address, or "v", a version in hex, "." and more. */
static bool is_address(const char *text, size_t length)
{
    char address[INET6_ADDRSTRLEN];
    struct in6_addr parsed;
    if (*text == 'v' || *text == 'V') {
        size_t version, digits = read_number(text + 1, 16, &version), rest = digits + 2;
        for (size_t i = rest; i < length; i++)
            if (text[i] != ':' && !in_name((unsigned char)text[i]))
                return false;
        return digits > 0 && text[rest - 1] == '.' && rest < length;
    }
    if (length >= sizeof address)
        return false;
    memcpy(address, text, length);
    address[length] = '\0';
    return inet_pton(AF_INET6, address, &parsed) == 1;
}

/* A host, perhaps empty, and perhaps a port (RFC 3986, 3.2.2 and 3.2.3). What ends text is none of
 * their characters. */
static bool is_host(const char *text, size_t length)
{
    size_t i = 0, port = 0;
    if (text[0] == '[') {
        const char *end = memchr(text, ']', length);
        if (!end || !is_address(text + 1, (size_t)(end - text) - 1))
            return false;
        i = (size_t)(end - text) + 1;
    } else {
        i = span(text, in_name);
        while (text[i] == '%' && digit(text[i + 1], 16) >= 0 && digit(text[i + 2], 16) >= 0)
            i += 3 + span(text + i + 3, in_name);
    }
    if (i < length && text[i] == ':')
        i += 1 + read_number(text + i + 1, 10, &port);
    return i == length && port <= 65535;
}

/* Reads "HTTP/1.1", behind which there has to be that character. */
static bool take_version(struct http_parser *parser, const char *text, char end)
{
    if (strncmp(text, "HTTP/", 5) != 0 || digit(text[5], 10) < 0 || text[6] != '.' ||
        digit(text[7], 10) < 0 || text[8] != end)
        return refuse(parser, 400, "the start line is malformed; write 'GET /path HTTP/1.1'");
    if (text[5] != '1')
        return refuse(parser, 505, "this version is not spoken here; use HTTP/1.1 or HTTP/1.0");
    parser->minor_version = text[7] > '0'; /* a higher one is spoken to as 1.1 (RFC 9110, 2.5) */
    return true;
}

/* Keeps path and query of the target, which begins where the path is to be kept, in one of three
 * forms (RFC 9112, 3.2). The fourth is CONNECT's. */
static bool take_target(struct http_parser *parser, char *target)
{
    const char *path = target;
    if (strncasecmp(target, "http://", 7) == 0) {
        const char *host = target + 7;
        path = host + strcspn(host, "/?");
        if (*host == ':' || path == host || !is_host(host, (size_t)(path - host)))
            return refuse(parser, 400, "the target's host is malformed; write http://host/path");
    } else if (*target != '/' &&
               (strcmp(target, "*") != 0 || strcmp(parser->head, "OPTIONS") != 0)) {
        return refuse(parser, 400, "the target is not /path, http://host/path, or OPTIONS' *");
    }
    const char *query = path + strcspn(path, "?");
    size_t length = (size_t)(query - path);
    const char *nul = strstr(path, "%00");
    bool nowhere = nul && nul < query; /* no name has a NUL in it, and a string would end there */
    query += *query == '?';
    if (nowhere)
        *target = '\0';
    else if (length == 0) /* RFC 9110, 4.2.3 */
        memcpy(target, "/", 2);
    else if (!decode(target, path, length, false))
        return refuse(parser, 400, "the path has a bad escape; write %XX with hex digits");
    char *kept = next_string(target);
    memmove(kept, query, strlen(query) + 1);
    parser->head_length = (size_t)(next_string(kept) - parser->head);
    return true;
}

/* METHOD SP target SP version: one space each (RFC 9112, 3). */
static bool take_request_line(struct http_parser *parser, char *line)
{
    size_t method = span(line, in_token);
    char *target = line + method + 1;
    size_t length = method > 0 && line[method] == ' ' ? span(target, in_target) : 0;
    if (length == 0 || target[length] != ' ')
        return refuse(parser, 400, "the request line is malformed; write 'GET /path HTTP/1.1'");
    line[method] = target[length] = '\0';
    if (!take_version(parser, target + length + 1, '\0'))
        return false;
    return is_known_method(line, method) ? take_target(parser, target) : refuse_method(parser);
}

/* version SP 3DIGIT SP reason, which may be empty (RFC 9112, 4). */
static bool take_status_line(struct http_parser *parser, const char *line, size_t length)
{
    size_t code = 0;
    if (!take_version(parser, line, ' '))
        return false;
    if (read_number(line + 9, 10, &code) != 3 || code < 100 || line[12] != ' ' ||
        span(line + 13, in_value) != length - 13)
        return refuse(parser, 400, "the status line is malformed; write 'HTTP/1.1 200 OK'");
    parser->status = (int)code;
    return true;
}

/* --- header fields --- */

static bool is(const char *text, size_t length, const char *word) /* in any case */
{
    return length == strlen(word) && strncasecmp(text, word, length) == 0;
}

/* Takes the first item off a list separated by commas (RFC 9110, 5.6.1). Returns where it begins,
 * with its length, or NULL if the list has none left. */
static const char *next_item(const char **list, size_t *length)
{
    const char *item = *list;
    if (!item)
        return NULL;
    item += blanks(item);
    const char *end = item + strcspn(item, ",");
    *list = *end ? end + 1 : NULL;
    while (end > item && is_blank(end[-1]))
        end--;
    *length = (size_t)(end - item);
    return item;
}

static void note_host(struct http_parser *parser, const char *value, size_t length)
{
    if (parser->seen & SEEN_HOST)
        refuse(parser, 400, "there are two Host fields; send one");
    else if (!is_host(value, length))
        refuse(parser, 400, "the Host field is malformed; write 'Host: name:port'");
    parser->seen |= SEEN_HOST;
}

/* Digits and nothing else: no sign, no list (RFC 9110, 8.6). */
static void note_length(struct http_parser *parser, const char *value, size_t length)
{
    size_t number;
    if (read_number(value, 10, &number) != length || length == 0)
        refuse(parser, 400, "the Content-Length is malformed; send digits only");
    else if ((parser->seen & SEEN_LENGTH) && parser->content_length != number)
        refuse(parser, 400, "there are two different Content-Length fields; send one");
    parser->content_length = number;
    parser->seen |= SEEN_LENGTH;
}

/* Nothing may follow chunked, which says where the body ends (RFC 9112, 6.3). Empty items are to be
 * ignored in a list, but here it matters too much that all agree. */
static void note_coding(struct http_parser *parser, const char *value)
{
    size_t length;
    for (const char *item; (item = next_item(&value, &length));) {
        if (length == 0 || (parser->seen & SEEN_CHUNKED))
            refuse(parser, 400, "the Transfer-Encoding is malformed; write chunked, once");
        parser->seen |= is(item, length, "chunked") ? SEEN_CHUNKED : SEEN_OTHER_CODING;
    }
}

static void note_connection(struct http_parser *parser, const char *value)
{
    size_t length;
    for (const char *item; (item = next_item(&value, &length));) {
        if (is(item, length, "close"))
            parser->seen |= SEEN_CLOSE;
        else if (is(item, length, "keep-alive"))
            parser->seen |= SEEN_KEEP_ALIVE;
    }
}

static void note_expectation(struct http_parser *parser, const char *value)
{
    size_t length;
    for (const char *item; (item = next_item(&value, &length));)
        if (length > 0)
            parser->seen |=
                is(item, length, "100-continue") ? SEEN_CONTINUE : SEEN_OTHER_EXPECTATION;
}

static void note_field(struct http_parser *parser, const char *name, const char *value,
                       size_t length)
{
    size_t name_length = (size_t)(value - name) - 1;
    if (is(name, name_length, "Content-Length"))
        note_length(parser, value, length);
    else if (is(name, name_length, "Transfer-Encoding"))
        note_coding(parser, value);
    else if (is(name, name_length, "Connection"))
        note_connection(parser, value);
    else if (is(name, name_length, "Host") && parser->kind == HTTP_REQUEST)
        note_host(parser, value, length);
    else if (is(name, name_length, "Expect"))
        note_expectation(parser, value);
}

/* name ":" OWS value OWS (RFC 9112, 5). What is in a trailer section is checked, and dropped. */
static bool take_field(struct http_parser *parser, char *line, size_t length)
{
    size_t name = span(line, in_token);
    char *value = line + name + 1, *end = line + length;
    if (++parser->fields > HTTP_FIELDS_MAX)
        return refuse(parser, 431, "there are more than 100 header fields");
    if (is_blank(*line)) /* RFC 9112, 2.2 and 5.2 */
        return refuse(parser, 400, "a header line begins with white space; write 'Name: value'");
    if (name == 0 || line[name] != ':') /* no white space before the colon: RFC 9112, 5.1 */
        return refuse(parser, 400, "a header line is not like 'Name: value', or has 'Name :'");
    value += blanks(value);
    while (end > value && is_blank(end[-1]))
        end--;
    *end = '\0';
    length = (size_t)(end - value);
    if (span(value, in_value) != length)
        return refuse(parser, 400, "a header field's value has a control character; send text");
    if (parser->step == TRAILER)
        return true;
    line[name] = '\0';
    memmove(line + name + 1, value, length + 1);
    parser->head_length += name + 1 + length + 1;
    note_field(parser, line, line + name + 1, length);
    return true;
}

/* --- the end of the head --- */

/* What must not be, whatever the body. */
static bool check_head(struct http_parser *parser)
{
    unsigned seen = parser->seen, codings = seen & (SEEN_CHUNKED | SEEN_OTHER_CODING);
    if (parser->kind == HTTP_REQUEST && parser->minor_version == 1 && !(seen & SEEN_HOST))
        return refuse(parser, 400, "there is no Host field; send one"); /* RFC 9112, 3.2 */
    if (codings && parser->minor_version == 0)                          /* RFC 9112, 6.1 */
        return refuse(parser, 400, "HTTP/1.0 has no Transfer-Encoding; send Content-Length");
    if (codings && (seen & SEEN_LENGTH)) /* RFC 9112, 6.1 */
        return refuse(parser, 400, "there are Content-Length and Transfer-Encoding; send one");
    if (codings == SEEN_OTHER_CODING) /* RFC 9112, 6.3 */
        return refuse(parser, 400, "the last Transfer-Encoding has to be chunked");
    if (codings & SEEN_OTHER_CODING)
        return refuse(parser, 501, "this Transfer-Encoding is not known here; use chunked alone");
    return true;
}

/* Finds out how the message ends (RFC 9112, 6.3), and in what state it is now. */
static void start_body(struct http_parser *parser)
{
    unsigned framed = parser->seen & (SEEN_CHUNKED | SEEN_LENGTH);
    bool none =
        parser->kind == HTTP_REQUEST ? !framed : parser->status == 204 || parser->status == 304;
    if (none || (framed == SEEN_LENGTH && parser->content_length == 0)) {
        complete(parser);
    } else if (framed == SEEN_CHUNKED) {
        parser->step = CHUNK_SIZE;
    } else {
        parser->step = framed ? BODY : BODY_TO_END;
        parser->keep_alive = parser->keep_alive && framed;
        expect_bytes(parser, framed ? parser->content_length : parser->body_max);
    }
}

static void end_head(struct http_parser *parser)
{
    if (parser->kind == HTTP_RESPONSE && parser->status < 200) { /* RFC 9110, 15.2 */
        if (parser->status == 101)
            refuse(parser, 400, "the protocol is switched, and nobody has asked for it");
        parser->step = START_LINE; /* the answer proper comes behind it */
        parser->head_length = 0;
        parser->seen = 0;
        return;
    }
    if (!check_head(parser))
        return;
    unsigned seen = parser->seen;
    parser->keep_alive = !(seen & SEEN_CLOSE) && /* RFC 9112, 9.3 */
                         (parser->minor_version == 1 || (seen & SEEN_KEEP_ALIVE));
    start_body(parser);
    /* RFC 9110, 10.1.1: expectations are a request's, and mean nothing in HTTP/1.0 */
    if (parser->kind == HTTP_RESPONSE || parser->minor_version == 0 || parser->state == HTTP_FAILED)
        return;
    if (seen & SEEN_OTHER_EXPECTATION)
        refuse(parser, 417, "this Expect is not known here; 100-continue is");
    else
        parser->wants_continue = parser->state == HTTP_READING && (seen & SEEN_CONTINUE);
}

/* --- lines --- */

/* The length of the token or quoted string that begins here (RFC 9110, 5.6.4), or 0. */
static size_t word_length(const char *text)
{
    size_t length = 1;
    if (*text != '"')
        return span(text, in_token);
    while (text[length] != '"') {
        length += text[length] == '\\';
        if (!in_value((unsigned char)text[length++]))
            return 0;
    }
    return length + 1;
}

/* What is behind the sign, with blanks around it; NULL if it does not come next. */
static const char *behind(const char *text, char sign)
{
    text += blanks(text);
    return *text == sign ? text + 1 + blanks(text + 1) : NULL;
}

/* Any number of ";name" or ";name=value" (RFC 9112, 7.1.1). */
static bool are_extensions(const char *text)
{
    while (*text) {
        const char *name = behind(text, ';'), *end = name ? name + span(name, in_token) : NULL;
        if (end == name)
            return false;
        const char *value = behind(end, '=');
        text = value ? value + word_length(value) : end;
        if (text == value)
            return false;
    }
    return true;
}

/* Hex digits, then perhaps extensions, which are ignored (RFC 9112, 7.1). */
static void take_chunk_size(struct http_parser *parser, const char *line)
{
    size_t size, digits = read_number(line, 16, &size);
    parser->step = size > 0 ? CHUNK_DATA : TRAILER;
    if (digits == 0 || !are_extensions(line + digits))
        refuse(parser, 400, "a chunk's size is malformed; write hex digits and CRLF");
    else
        expect_bytes(parser, size);
}

/* RFC 9112, 2.1. Empty lines before a request are no part of it (2.2). */
static void take_start_line(struct http_parser *parser, char *line, size_t length)
{
    if (length == 0 && parser->kind == HTTP_REQUEST) {
        parser->state = HTTP_EMPTY;
        return;
    }
    parser->step = HEADER;
    if (parser->kind == HTTP_REQUEST)
        take_request_line(parser, line);
    else
        take_status_line(parser, line, length);
}

/* A line has come, with its LF. */
static void take_line(struct http_parser *parser, char *line, size_t length)
{
    size_t text = length < 2 ? 0 : length - 2;
    if (length < 2 || line[text] != '\r') { /* RFC 9112, 2.2, leaves the choice */
        refuse(parser, 400, "a line does not end with CRLF");
        return;
    }
    line[text] = '\0';
    if (strlen(line) != text)
        refuse(parser, 400, "a line has a NUL character; send text");
    else if (parser->step == START_LINE)
        take_start_line(parser, line, text);
    else if (parser->step == CHUNK_SIZE)
        take_chunk_size(parser, line);
    else if (parser->step == CHUNK_END)
        parser->step = CHUNK_SIZE;
    else if (text > 0)
        take_field(parser, line, text);
    else if (parser->step == HEADER)
        end_head(parser);
    else
        complete(parser);
}

/* The most bytes the line may have that is coming, with its CRLF. */
static size_t line_max(const struct http_parser *parser)
{
    size_t head_left = HTTP_HEAD_MAX - parser->head_taken;
    switch (parser->step) {
    case CHUNK_SIZE:
        return HTTP_LINE_MAX;
    case CHUNK_END:
        return 2;
    case START_LINE:
        return head_left < HTTP_LINE_MAX ? head_left : HTTP_LINE_MAX;
    default:
        return head_left;
    }
}

/* A first word longer than any method is no method, whatever may follow (RFC 9112, 3). */
static bool begins_with_method(const struct http_parser *parser)
{
    const char *line = parser->head, *end = memchr(line, ' ', parser->line_length);
    return parser->kind == HTTP_RESPONSE || (end && is_known_method(line, (size_t)(end - line)));
}

static void line_too_long(struct http_parser *parser)
{
    if (parser->step == CHUNK_SIZE)
        refuse(parser, 400, "a chunk's size line is longer than 8 KiB");
    else if (parser->step == CHUNK_END)
        refuse(parser, 400, "a chunk is longer than its size says, or has no CRLF behind it");
    else if (parser->step != START_LINE || parser->line_length < HTTP_LINE_MAX)
        refuse(parser, 431, "the head is larger than 16 KiB");
    else if (begins_with_method(parser))
        refuse(parser, 414, "the start line is longer than 8 KiB");
    else
        refuse_method(parser);
}

/* Takes bytes up to the end of the line, and the line once it is whole. Its length is looked at
 * before anything else, so that a long line is refused alike in one piece and in many. */
static size_t feed_line(struct http_parser *parser, const char *bytes, size_t length)
{
    size_t most = line_max(parser) - parser->line_length;
    size_t taken = length < most ? length : most;
    const char *end = memchr(bytes, '\n', taken);
    if (end)
        taken = (size_t)(end - bytes) + 1;
    size_t kept = parser->head_length + parser->line_length;
    if (!reserve(parser, &parser->head, &parser->head_size, kept + taken,
                 HTTP_HEAD_MAX + HTTP_LINE_MAX))
        return 0;
    memcpy(parser->head + kept, bytes, taken);
    parser->line_length += taken;
    if (end) {
        if (parser->step != CHUNK_SIZE && parser->step != CHUNK_END)
            parser->head_taken += parser->line_length;
        take_line(parser, parser->head + parser->head_length, parser->line_length);
        if (parser->state != HTTP_FAILED) /* else http_is_head() looks at it */
            parser->line_length = 0;
    } else if (taken == most) {
        line_too_long(parser);
    }
    return taken;
}

/* Takes bytes of the body, or of a chunk. */
static size_t feed_body(struct http_parser *parser, const char *bytes, size_t length)
{
    size_t taken = length < parser->left ? length : parser->left;
    if (taken == 0) /* then it goes to the end of the stream, and that is too far */
        expect_bytes(parser, 1);
    else if (reserve(parser, &parser->content, &parser->content_size,
                     parser->body_length + taken + 1, parser->body_max + 1))
        memcpy(parser->content + parser->body_length, bytes, taken);
    if (parser->state != HTTP_READING)
        return 0;
    parser->body_length += taken;
    parser->left -= taken;
    if (parser->left == 0 && (parser->step == BODY || parser->truncated))
        complete(parser);
    else if (parser->left == 0 && parser->step == CHUNK_DATA)
        parser->step = CHUNK_END;
    return taken;
}

/* --- the parser --- */

void http_init(struct http_parser *parser, enum http_kind kind, size_t body_max)
{
    /* one less than the largest number, so that there is one that is too large */
    *parser = (struct http_parser){.kind = kind,
                                   .body_max = body_max < SIZE_MAX ? body_max : SIZE_MAX - 1};
}

size_t http_feed(struct http_parser *parser, const char *bytes, size_t length)
{
    size_t taken = 0;
    while (taken < length && parser->state != HTTP_COMPLETE && parser->state != HTTP_FAILED) {
        bool in_body =
            parser->step == BODY || parser->step == BODY_TO_END || parser->step == CHUNK_DATA;
        parser->state = HTTP_READING;
        parser->wants_continue = false;
        if (in_body)
            taken += feed_body(parser, bytes + taken, length - taken);
        else
            taken += feed_line(parser, bytes + taken, length - taken);
    }
    return taken;
}

void http_feed_end(struct http_parser *parser)
{
    if (parser->state == HTTP_READING && parser->step == BODY_TO_END)
        complete(parser);
    else if (parser->state == HTTP_READING)
        refuse(parser, 400, "the stream ended within the message");
}

void http_reset(struct http_parser *parser)
{
    free(parser->head);
    free(parser->content);
    http_init(parser, parser->kind, parser->body_max);
}

bool http_is_head(const struct http_parser *parser)
{
    size_t length = parser->head_length + parser->line_length; /* of what is defined there */
    return parser->kind == HTTP_REQUEST && length > 4 && memcmp(parser->head, "HEAD", 4) == 0 &&
           (parser->head[4] == ' ' || parser->head[4] == '\0');
}

const char *http_header(const struct http_parser *parser, const char *name)
{
    char *field = parser->head, *end = parser->head + parser->head_length;
    if (parser->kind == HTTP_REQUEST) /* behind method, path and query */
        field = next_string(next_string(next_string(field)));
    while (field < end) {
        char *value = next_string(field);
        if (strcasecmp(field, name) == 0)
            return value;
        field = next_string(value);
    }
    return NULL;
}

char *http_query(const char *query, const char *name)
{
    char *out = malloc(strlen(query) + 1); /* nothing gets longer by being decoded */
    if (!out)
        return NULL;
    while (*query) {
        size_t length = strcspn(query, "&"), name_length = strcspn(query, "=&");
        const char *value = query + name_length + (name_length < length);
        if (decode(out, query, name_length, true) && strcmp(out, name) == 0) {
            if (decode(out, value, (size_t)(query + length - value), true))
                return out;
            free(out);
            errno = EINVAL;
            return NULL;
        }
        query += length + (query[length] == '&');
    }
    free(out);
    errno = 0;
    return NULL;
}

/* --- writing --- */

static int days_of_month(int month, int year) /* 0: January */
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month] + (leap && month == 1);
}

/* By counting: strftime() writes names in the user's language, and what libc knows about time reads
 * a file of time zones. A year that does not have four digits is answered with 1970. */
void http_date(char out[HTTP_DATE_SIZE], time_t when)
{
    static const char days[][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    if (when < 0 || when >= 253402300800)
        when = 0;
    int day = (int)(when / 86400), second = (int)(when % 86400), year = 1970, month = 0;
    const char *name = days[day % 7];
    for (int length; day >= (length = days_of_month(month, year)); day -= length) {
        month = (month + 1) % 12;
        year += month == 0;
    }
    char text[80]; /* compilers cannot see that it gets no longer than 29 */
    snprintf(text, sizeof text, "%s, %02d %s %d %02d:%02d:%02d GMT", name, day + 1, months[month],
             year, second / 3600, second / 60 % 60, second % 60);
    memcpy(out, text, HTTP_DATE_SIZE);
}

const char *http_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {{100, "Continue"},
                   {200, "OK"},
                   {202, "Accepted"},
                   {206, "Partial Content"},
                   {304, "Not Modified"},
                   {400, "Bad Request"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {408, "Request Timeout"},
                   {413, "Content Too Large"},
                   {414, "URI Too Long"},
                   {416, "Range Not Satisfiable"},
                   {417, "Expectation Failed"},
                   {431, "Request Header Fields Too Large"},
                   {500, "Internal Server Error"},
                   {501, "Not Implemented"},
                   {502, "Bad Gateway"},
                   {503, "Service Unavailable"},
                   {504, "Gateway Timeout"},
                   {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Unknown"; /* the phrase does not matter to anybody (RFC 9112, 4) */
}

/* Room for text. */
struct room {
    char *at;
    size_t left; /* bytes; 0: something did not fit */
};

static void append(struct room *room, const char *text)
{
    size_t length = strlen(text);
    if (length >= room->left) { /* the NUL needs room, too */
        room->left = 0;
        return;
    }
    memcpy(room->at, text, length + 1);
    room->at += length;
    room->left -= length;
}

static void append_number(struct room *room, long long number)
{
    char text[24], *digit = text + sizeof text - 1;
    *digit = '\0';
    do
        *--digit = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    append(room, digit);
}

/* Piece by piece: snprintf() took more time than all else that is done for a short request. */
size_t http_write_head(char *out, size_t size, const struct http_head *head)
{
    struct room room = {out, size};
    append(&room, "HTTP/1.1 ");
    append_number(&room, head->status);
    append(&room, " ");
    append(&room, http_reason(head->status));
    append(&room, "\r\nDate: ");
    append(&room, head->date);
    if (head->type) {
        append(&room, "\r\nContent-Type: ");
        append(&room, head->type);
    }
    if (head->length >= 0) {
        append(&room, "\r\nContent-Length: ");
        append_number(&room, head->length);
    }
    if (!head->keep_alive)
        append(&room, "\r\nConnection: close");
    else if (head->minor_version == 0)
        append(&room, "\r\nConnection: keep-alive");
    append(&room, "\r\n");
    append(&room, head->headers ? head->headers : "");
    append(&room, head->more_headers ? head->more_headers : "");
    append(&room, "\r\n");
    return room.left ? (size_t)(room.at - out) : 0;
}

/* The length of the UTF-8 character that begins here (RFC 3629), or 0 if none does. */
static size_t utf8_length(const char *text, size_t length)
{
    static const unsigned smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned first = (unsigned char)*text;
    size_t n = (size_t)("1111111100002234"[first >> 4] - '0'); /* the first four bits say it */
    if (n < 2 || n > length)
        return n == 1;
    unsigned character = first & (0x7fU >> (n - 1));
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        character = character << 6 | (text[i] & 0x3f);
    }
    bool surrogate = character >= 0xd800 && character < 0xe000;
    return character < smallest[n] || character > 0x10ffff || surrogate ? 0 : n;
}

size_t json_escape(char *out, const char *text, size_t length)
{
    static const char hex[] = "0123456789abcdef", unit[] = {'\\', 'u', '0', '0'};
    static const char replacement[] = {'\xef', '\xbf', '\xbd'}; /* U+FFFD */
    char *start = out;
    for (const char *end = text + length; text < end;) {
        unsigned char c = (unsigned char)*text;
        size_t size = utf8_length(text, (size_t)(end - text));
        if (c < ' ') {
            memcpy(out, unit, sizeof unit);
            out[4] = hex[c >> 4];
            out[5] = hex[c & 15];
            out += 6;
            text++;
        } else if (size == 0) {
            memcpy(out, replacement, sizeof replacement);
            out += sizeof replacement;
            text++;
        } else {
            if (c == '"' || c == '\\')
                *out++ = '\\';
            memcpy(out, text, size);
            out += size;
            text += size;
        }
    }
    return (size_t)(out - start);
}
