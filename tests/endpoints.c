#include "endpoints.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is put in for an argument: the first entry that fits. "%d" stands for the port. */
static const struct {
    const char *path; /* NULL: any */
    const char *name, *value;
} arguments[] = {
    {"/terrible-ping", "ms", "5"},
    {NULL, "ms", "50"},
    {"/sum", "n", "300000"},
    {NULL, "n", "1000000"},
    {NULL, "yield", "100"},
    {NULL, "port", "%d"},
    {NULL, "path", "/perfect-ping?ms=20"},
    {NULL, "timeout_ms", "2000"},
};

/* Paths below these are a reader's choice: it is ours. */
static const struct {
    const char *below, *path;
} paths[] = {{"/files/", "/files/NAME"}, {"/tasks/", "/tasks/1"}};

enum { COUNT_ARGUMENTS = sizeof arguments / sizeof *arguments };
enum { COUNT_PATHS = sizeof paths / sizeof *paths };

/* --- the page as text --- */

/* Where the tag at that place ends, and with it all of a script or a style. */
static const char *behind_tag(const char *tag)
{
    static const char *const hidden[][2] = {{"<script", "</script>"}, {"<style", "</style>"}};
    const char *end = strchr(tag, '>');
    for (int i = 0; i < 2; i++)
        if (strncmp(tag, hidden[i][0], strlen(hidden[i][0])) == 0 && strstr(tag, hidden[i][1]))
            end = strstr(tag, hidden[i][1]) + strlen(hidden[i][1]) - 1;
    return end ? end + 1 : tag + strlen(tag);
}

/* What a reader sees of the page. The caller frees it. */
static char *visible_text(const char *page)
{
    char *text = malloc(strlen(page) + 1), *out = text;
    while (text && *page)
        if (*page == '<') {
            page = behind_tag(page);
            *out++ = ' ';
        } else if (strncmp(page, "&amp;", 5) == 0) {
            *out++ = '&';
            page += 5;
        } else {
            *out++ = *page++;
        }
    if (text)
        *out = '\0';
    return text;
}

/* --- arguments --- */

/* "N", "ID": a reader is meant to put something in. */
static bool is_placeholder(const char *text)
{
    return *text && text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")] == '\0';
}

static void append(char *out, size_t size, const char *text)
{
    size_t length = strlen(out);
    snprintf(out + length, size - length, "%s", text);
}

/* Appends "name=value" with a value of ours, if we have one or the page has none. */
static void append_argument(struct endpoint *endpoint, const char *path, char *argument, int port)
{
    char value[64];
    char *given = strchr(argument, '=');
    if (given)
        *given++ = '\0';
    snprintf(value, sizeof value, "%s", given && !is_placeholder(given) ? given : "1");
    for (int i = COUNT_ARGUMENTS - 1; i >= 0; i--) {
        const char *ours = arguments[i].value;
        if (strcmp(argument, arguments[i].name) != 0 ||
            (arguments[i].path && strcmp(path, arguments[i].path) != 0))
            continue;
        if (strcmp(ours, "%d") == 0)
            snprintf(value, sizeof value, "%d", port);
        else
            snprintf(value, sizeof value, "%s", ours);
    }
    append(endpoint->target, sizeof endpoint->target, argument);
    append(endpoint->target, sizeof endpoint->target, "=");
    append(endpoint->target, sizeof endpoint->target, value);
}

static void append_path(struct endpoint *endpoint, char *path)
{
    for (int i = 0; i < COUNT_PATHS; i++)
        if (strncmp(path, paths[i].below, strlen(paths[i].below)) == 0) {
            append(endpoint->target, sizeof endpoint->target, paths[i].path);
            return;
        }
    for (char *rest = path + 1, *part; (part = strsep(&rest, "/")) != NULL;) {
        append(endpoint->target, sizeof endpoint->target, "/");
        append(endpoint->target, sizeof endpoint->target, is_placeholder(part) ? "x" : part);
    }
}

/* Puts the page's example into the endpoint, with our arguments. */
static void fill_target(struct endpoint *endpoint, char *example, int port)
{
    char path[256], *query = example;
    const char *between = "?";
    example = strsep(&query, "?");
    snprintf(path, sizeof path, "%s", example);
    append_path(endpoint, example);
    for (char *argument; (argument = strsep(&query, "&")) != NULL; between = "&") {
        append(endpoint->target, sizeof endpoint->target, between);
        append_argument(endpoint, path, argument, port);
    }
}

/* A body like {"n": N} that follows a POST's path. */
static void fill_body(struct endpoint *endpoint, const char *text)
{
    text += strspn(text, " \n");
    if (strcmp(endpoint->method, "POST") != 0 || *text != '{')
        return;
    for (; *text && text[-1] != '}'; text++)
        append(endpoint->body, sizeof endpoint->body,
               isupper((unsigned char)*text) ? "1000" : (char[]){*text, '\0'});
}

/* --- the list --- */

static bool is_known(const struct endpoint *endpoints, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(endpoints[i].method, endpoints[count].method) == 0 &&
            strcmp(endpoints[i].target, endpoints[count].target) == 0)
            return true;
    return false;
}

/* "on=process" says that there are other places, too. */
static int add_places(struct endpoint *endpoints, int count)
{
    static const char *const places[] = {"thread", "loop"};
    const char *on = strstr(endpoints[count - 1].target, "on=process");
    for (int i = 0; on && i < 2 && count < ENDPOINTS_MAX; i++, count++) {
        struct endpoint *last = &endpoints[count];
        *last = endpoints[count - 1];
        char *place = strstr(last->target, "on=") + strlen("on=");
        snprintf(place, sizeof last->target - (size_t)(place - last->target), "%s", places[i]);
    }
    return count;
}

int endpoints_on(const char *page, int port, struct endpoint endpoints[ENDPOINTS_MAX])
{
    char word[256], *text = visible_text(page);
    const char *method = "GET";
    int count = 1;
    endpoints[0] = (struct endpoint){"GET", "/", ""};
    for (const char *at = text; at && *at && count < ENDPOINTS_MAX;) {
        at += strspn(at, " \n");
        size_t length = strcspn(at, " \n"), end = length;
        while (end > 0 && strchr(",;:.", at[end - 1]))
            end--;
        snprintf(word, sizeof word, "%.*s", (int)end, at);
        at += length;
        if (strcmp(word, "GET") == 0 || strcmp(word, "POST") == 0)
            method = *word == 'G' ? "GET" : "POST";
        if (word[0] != '/' || !isalpha((unsigned char)word[1]))
            continue;
        struct endpoint *endpoint = &endpoints[count];
        *endpoint = (struct endpoint){0};
        snprintf(endpoint->method, sizeof endpoint->method, "%s", method);
        fill_target(endpoint, word, port);
        fill_body(endpoint, at);
        count = is_known(endpoints, count) ? count : add_places(endpoints, count + 1);
    }
    free(text);
    return count;
}
