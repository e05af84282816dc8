/*
 * For libFuzzer: the small readers and writers of values. What 09 takes for a task's body has to be
 * JSON with that number in it; what json_escape() makes has to be JSON; http_query() has to find
 * what has been encoded.
 */
#define main server_main /* read_task() is the server's own */
/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "../09-cpu-offload/server.c"
#undef main

#include "http_client.h"

static void check(bool promise, const char *what)
{
    if (!promise) {
        fprintf(stderr, "broken: %s\n", what);
        abort();
    }
}

/* Exactly so many bytes, so that a sanitizer sees every one read or written beyond them. */
static char *room(size_t size)
{
    char *bytes = malloc(size);
    check(bytes != NULL, "memory");
    return bytes;
}

static char *string_of(const uint8_t *bytes, size_t length)
{
    char *text = room(length + 1);
    snprintf(text, length + 1, "%.*s", (int)length, (const char *)bytes);
    return text;
}

static void check_task(const uint8_t *bytes, size_t length)
{
    char *body = string_of(bytes, length);
    long long n = read_task(body);
    if (n >= 0)
        check(n <= MOST && json_valid(body) && (long long)json_number(body, "n") == n, "the task");
    free(body);
}

static void check_escape(const uint8_t *bytes, size_t length)
{
    char *text = room(length + 1), *out = room(6 * length + 4), *again = room(36 * length + 4);
    if (length > 0)
        memcpy(text, bytes, length);
    size_t n = json_escape(out + 1, text, length);
    check(n <= 6 * length, "six bytes for each");
    /* what has been made UTF-8 stays as it is, but for the backslashes of its escapes */
    size_t special = 0;
    for (size_t i = 1; i <= n; i++)
        special += out[i] == '\\' || out[i] == '"';
    check(json_escape(again, out + 1, n) == n + special, "UTF-8");
    out[0] = out[n + 1] = '"';
    out[n + 2] = '\0';
    check(strlen(out) == n + 2 && json_valid(out), "what JSON allows in a string");
    free(text);
    free(out);
    free(again);
}

static void check_query(const uint8_t *bytes, size_t length)
{
    char *query = string_of(bytes, length), *encoded = room(3 * length + 16);
    for (int i = 0; i < 2; i++) {
        errno = ERANGE;
        char *value = http_query(query, i ? "a" : "");
        check(value ? strlen(value) <= strlen(query) : errno == 0 || errno == EINVAL, "the query");
        free(value);
    }
    char *end = encoded + sprintf(encoded, "x=y&a=");
    for (size_t i = 0; query[i]; i++)
        end += sprintf(end, "%%%02X", (unsigned char)query[i]);
    sprintf(end, "&a=z");
    char *value = http_query(encoded, "a");
    check(value && strcmp(value, query) == 0, "what was encoded");
    free(value);
    free(encoded);
    free(query);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_task(data, size);
    check_escape(data, size);
    check_query(data, size);
    return 0;
}
