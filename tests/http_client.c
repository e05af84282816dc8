#include "http_client.h"

#include "harness.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct http_client http_connect(int port)
{
    return (struct http_client){.fd = client_connect(port)};
}

static void forget_answer(struct http_client *client)
{
    free(client->head);
    free(client->body);
    client->head = client->body = NULL;
    client->body_length = 0;
    client->status = 0;
    client->closes = false;
    client->problem[0] = '\0';
}

void http_close(struct http_client *client)
{
    forget_answer(client);
    free(client->bytes);
    if (client->fd >= 0)
        close(client->fd);
    *client = (struct http_client){.fd = -1};
}

bool http_send(struct http_client *client, const char *text)
{
    return client_send(client->fd, text, strlen(text));
}

static int problem(struct http_client *client, const char *what)
{
    snprintf(client->problem, sizeof client->problem, "%s", what);
    return -1;
}

/* --- bytes --- */

/* Receives what there is, waiting for at least one byte. Returns what recv() does. */
static ssize_t receive_more(struct http_client *client)
{
    enum { PIECE = 16 * 1024 };
    char *bytes = realloc(client->bytes, client->length + PIECE);
    if (!bytes)
        return -1;
    client->bytes = bytes;
    ssize_t got = recv(client->fd, bytes + client->length, PIECE, 0);
    client->length += got > 0 ? (size_t)got : 0;
    return got;
}

/* Takes the first length received bytes, as a string. */
static char *take(struct http_client *client, size_t length)
{
    char *taken = malloc(length + 1);
    if (!taken)
        return NULL;
    if (length > 0)
        memcpy(taken, client->bytes, length);
    taken[length] = '\0';
    client->length -= length;
    if (client->length > 0)
        memmove(client->bytes, client->bytes + length, client->length);
    return taken;
}

/* The length of the head that has been received, with the empty line at its end; 0: not yet. */
static size_t head_length(const struct http_client *client)
{
    for (size_t i = 3; i < client->length; i++)
        if (memcmp(client->bytes + i - 3, "\r\n\r\n", 4) == 0)
            return i + 1;
    return 0;
}

/* --- the head --- */

/* How often the field is there; its last value, without white space around it, goes to value. */
static int find_field(const char *head, const char *name, char *value, size_t size)
{
    int count = 0;
    size_t length = strlen(name);
    for (const char *line = strchr(head, '\n'); line; line = strchr(line, '\n')) {
        line++;
        if (strncasecmp(line, name, length) != 0 || line[length] != ':')
            continue;
        const char *from = line + length + 1;
        from += strspn(from, " \t");
        size_t end = strcspn(from, "\r");
        while (end > 0 && (from[end - 1] == ' ' || from[end - 1] == '\t'))
            end--;
        snprintf(value, size, "%.*s", (int)end, from);
        count++;
    }
    return count;
}

const char *http_field(const struct http_client *client, const char *name)
{
    static char value[256];
    return client->head && find_field(client->head, name, value, sizeof value) ? value : NULL;
}

/* One line of the header section: a token, a colon, a value (RFC 9112, 5). Returns the next line,
 * or NULL. */
static const char *check_field_line(const char *line)
{
    size_t name = 0;
    while (isalnum((unsigned char)line[name]) ||
           (line[name] && strchr("!#$%&'*+-.^_`|~", line[name])))
        name++;
    if (name == 0 || line[name] != ':')
        return NULL;
    while (*line && (*line == '\t' || (unsigned char)*line >= ' '))
        line++;
    return strncmp(line, "\r\n", 2) == 0 ? line + 2 : NULL;
}

/* "HTTP/1.1 200 OK" and fields, each on a line of its own; no line folding, no control bytes. */
static bool head_is_well_formed(const char *head, size_t length)
{
    if (strlen(head) != length || strncmp(head, "HTTP/1.1 ", 9) != 0 ||
        strspn(head + 9, "0123456789") != 3 || head[12] != ' ')
        return false;
    const char *line = head + strcspn(head, "\r\n");
    if (strncmp(line, "\r\n", 2) != 0)
        return false;
    for (line += 2; line && strcmp(line, "\r\n") != 0;)
        line = check_field_line(line);
    return line;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7), and of the last two minutes. */
static bool date_is_right(const char *date)
{
    char again[64];
    for (int age = -1; age < 120; age++) {
        time_t when = time(NULL) - age;
        struct tm *fields = gmtime(&when);
        if (fields && strftime(again, sizeof again, "%a, %d %b %Y %H:%M:%S GMT", fields) > 0 &&
            strcmp(again, date) == 0)
            return true;
    }
    return false;
}

/* Every answer has these. Returns its Content-Length, or -1. */
static long check_fields(struct http_client *client)
{
    char value[256], *end;
    if (find_field(client->head, "Transfer-Encoding", value, sizeof value) > 0)
        return problem(client, "the answer has a Transfer-Encoding");
    if (find_field(client->head, "Content-Type", value, sizeof value) != 1)
        return problem(client, "not one Content-Type");
    if (find_field(client->head, "Date", value, sizeof value) != 1 || !date_is_right(value))
        return problem(client, "not one right Date");
    if (find_field(client->head, "Content-Length", value, sizeof value) != 1 ||
        !isdigit((unsigned char)value[0]))
        return problem(client, "not one Content-Length");
    long length = strtol(value, &end, 10);
    return *end ? problem(client, "a wrong Content-Length") : length;
}

static int receive_answer_head(struct http_client *client)
{
    char value[256];
    forget_answer(client);
    size_t length;
    while ((length = head_length(client)) == 0) {
        ssize_t got = receive_more(client);
        if (got == 0 && client->length == 0)
            return 0;
        if (got <= 0)
            return problem(client,
                           got == 0 ? "ended within an answer's head" : "time-out or reset");
    }
    client->head = take(client, length);
    if (!client->head || !head_is_well_formed(client->head, length))
        return problem(client, "malformed head");
    if (find_field(client->head, "Connection", value, sizeof value) > 0)
        client->closes = strcasecmp(value, "close") == 0;
    return client->status = (int)strtol(client->head + 9, NULL, 10);
}

/* --- answers --- */

int http_receive_head(struct http_client *client)
{
    int status = receive_answer_head(client);
    return status > 0 && check_fields(client) < 0 ? -1 : status;
}

int http_receive(struct http_client *client)
{
    int status = receive_answer_head(client);
    if (status < 200) /* no answer, or an interim one: that is only a head */
        return status;
    long length = check_fields(client);
    if (length < 0)
        return -1;
    while (client->length < (size_t)length)
        if (receive_more(client) <= 0)
            return problem(client, "ended within an answer's body");
    client->body = take(client, (size_t)length);
    client->body_length = (size_t)length;
    bool json = strncmp(http_field(client, "Content-Type"), "application/json", 16) == 0;
    if (!client->body ||
        (json && (strlen(client->body) != client->body_length || !json_valid(client->body))))
        return problem(client, "the body is not JSON");
    if (status >= 400 && !strstr(client->body, "\"error\":"))
        return problem(client, "an error without \"error\"");
    return status;
}

bool http_ask(struct http_client *client, const char *target)
{
    char request[4096];
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", target);
    return http_send(client, request);
}

int http_get(struct http_client *client, const char *target)
{
    forget_answer(client);
    return http_ask(client, target) ? http_receive(client)
                                    : problem(client, "the request could not be sent");
}

bool http_at_end(struct http_client *client)
{
    return client->length == 0 && client_at_eof(client->fd);
}

bool http_body_is(const struct http_client *client, const char *text)
{
    size_t length = strlen(text);
    return client->body && strncmp(client->body, text, length) == 0 &&
           (strcmp(client->body + length, "") == 0 || strcmp(client->body + length, "\n") == 0);
}

const char *http_describe(const struct http_client *client)
{
    static char text[1024];
    snprintf(text, sizeof text, "%s\n%.400s%.400s", client->problem,
             client->head ? client->head : "(no head)", client->body ? client->body : "(no body)");
    return text;
}

bool http_keeps_its_word(struct http_client *client)
{
    return client->closes ? http_at_end(client) : http_get(client, "/health") == 200;
}

/* --- JSON --- */

static const char *json_value(const char *at, int depth);

static const char *skip_space(const char *at)
{
    return at + strspn(at, " \t\r\n");
}

/* Each of these gets where something starts, and returns where it ends; NULL if it is malformed. */
static const char *json_text(const char *at)
{
    for (at++; *at != '"'; at++) {
        if ((unsigned char)*at < ' ')
            return NULL;
        if (*at != '\\')
            continue;
        at++;
        if (*at == '\0' || !strchr("\"\\/bfnrtu", *at) ||
            (*at == 'u' && strspn(at + 1, "0123456789abcdefABCDEF") < 4))
            return NULL;
        at += *at == 'u' ? 4 : 0;
    }
    return at + 1;
}

static const char *json_digits(const char *at)
{
    size_t digits = at ? strspn(at, "0123456789") : 0;
    return digits > 0 ? at + digits : NULL;
}

static const char *json_numeral(const char *at)
{
    at += *at == '-';
    if (*at == '0' && isdigit((unsigned char)at[1])) /* no leading zeros */
        return NULL;
    at = json_digits(at);
    if (at && *at == '.')
        at = json_digits(at + 1);
    if (at && (*at == 'e' || *at == 'E'))
        at = json_digits(at + 1 + (at[1] == '-' || at[1] == '+'));
    return at;
}

/* An object or an array: members between at and the closing bracket. */
static const char *json_members(const char *at, int depth)
{
    char open = *at, close = open == '{' ? '}' : ']';
    at = skip_space(at + 1);
    if (*at == close)
        return at + 1;
    for (;;) {
        if (open == '{') {
            at = *at == '"' ? json_text(at) : NULL;
            at = at ? skip_space(at) : NULL;
            if (!at || *at++ != ':')
                return NULL;
        }
        at = json_value(at, depth + 1);
        if (!at || (*at != ',' && *at != close))
            return NULL;
        if (*at++ == close)
            return at;
        at = skip_space(at);
    }
}

static const char *json_value(const char *at, int depth)
{
    static const char *const words[] = {"true", "false", "null"};
    const char *end = NULL;
    at = skip_space(at);
    if (depth > 20)
        return NULL;
    if (*at == '{' || *at == '[')
        end = json_members(at, depth);
    else if (*at == '"')
        end = json_text(at);
    else if (*at == '-' || isdigit((unsigned char)*at))
        end = json_numeral(at);
    for (int i = 0; i < 3 && !end; i++)
        if (strncmp(at, words[i], strlen(words[i])) == 0)
            end = at + strlen(words[i]);
    return end ? skip_space(end) : NULL;
}

bool json_valid(const char *text)
{
    const char *end = json_value(text, 0);
    return end && *end == '\0';
}

/* Where the value of that name starts. */
static const char *json_find(const char *text, const char *name)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    const char *found = text ? strstr(text, quoted) : NULL;
    return found ? skip_space(found + strlen(quoted)) : NULL;
}

double json_number(const char *text, const char *name)
{
    const char *at = json_find(text, name);
    return at && json_numeral(at) ? strtod(at, NULL) : -1;
}

/* The byte that is meant by the escape at text, just behind its backslash. Whatever needs more than
 * one byte does not need an escape: it comes as UTF-8. */
static char json_escaped(const char *text)
{
    static const char letters[] = "bfnrt", meanings[] = "\b\f\n\r\t";
    char hex[5] = "";
    if (*text == 'u') {
        memcpy(hex, text + 1, 4);
        return (char)strtol(hex, NULL, 16);
    }
    const char *letter = strchr(letters, *text);
    if (letter)
        return meanings[letter - letters];
    return *text;
}

char *json_string(const char *text, const char *name, size_t *length)
{
    const char *at = json_find(text, name);
    if (!at || *at != '"' || !json_text(at))
        return NULL;
    char *string = malloc(strlen(at));
    *length = 0;
    for (at++; string && *at != '"'; at++)
        if (*at == '\\') {
            at++;
            string[(*length)++] = json_escaped(at);
            at += *at == 'u' ? 4 : 0;
        } else
            string[(*length)++] = *at;
    if (string)
        string[*length] = '\0';
    return string;
}
