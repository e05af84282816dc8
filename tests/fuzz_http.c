/*
 * For libFuzzer: reads arbitrary streams with http.[ch] whole, byte by byte and in arbitrary
 * pieces, and wants the same from all three. The first byte says what is read: requests or
 * responses, with which body_max, and whether the stream ends. To run it from here:
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined fuzz_http.c ../07-event-loop/http.c -o fuzz
 *     ./fuzz -max_total_time=60 fuzz_corpus
 */
#include "../07-event-loop/http.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int promise, const char *what)
{
    if (!promise) {
        fprintf(stderr, "broken: %s\n", what);
        abort();
    }
}

/* Exactly so many bytes, so that a sanitizer sees every one read or written beyond them. */
static char *copy_of(const char *bytes, size_t length)
{
    char *copy = malloc(length + (length == 0));
    check(copy != NULL, "memory");
    if (length > 0)
        memcpy(copy, bytes, length);
    return copy;
}

struct input {
    const char *bytes;
    size_t length;
    enum http_kind kind;
    size_t body_max;
    int ends;
};

/* Writes down all that can be seen of a message. */
static void note_message(FILE *record, const struct http_parser *parser, size_t taken)
{
    static const char *const names[] = {"Host", "a", "Content-Length", "Transfer-Encoding", "X-y"};
    fprintf(record, "%zu %d %d %d\n", taken, (int)parser->state, parser->wants_continue,
            http_is_head(parser));
    if (parser->state == HTTP_FAILED)
        fprintf(record, "%d %s\n", parser->status, parser->error);
    if (parser->state != HTTP_COMPLETE)
        return;
    fprintf(record, "%d %d %d %d\n", parser->status, parser->minor_version, parser->keep_alive,
            parser->truncated);
    fwrite(parser->body, 1, parser->body_length, record);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = http_header(parser, names[i]);
        fprintf(record, "\n%s: %s", names[i], value ? value : "\n");
    }
    if (parser->kind == HTTP_REQUEST)
        fprintf(record, "%s %s %s\n", parser->method, parser->path, parser->query);
}

/* What always holds. */
static void check_message(const struct http_parser *parser)
{
    if (parser->state == HTTP_FAILED)
        check(parser->status >= 400 && parser->status < 600 && *parser->error, "why it failed");
    check(!parser->wants_continue || parser->state == HTTP_READING, "wants_continue");
    if (parser->state != HTTP_COMPLETE)
        return;
    check(parser->body_length <= parser->body_max, "body_max");
    check(parser->body[parser->body_length] == '\0', "NUL behind the body");
    if (parser->truncated)
        check(parser->kind == HTTP_RESPONSE && parser->body_length == parser->body_max &&
                  !parser->keep_alive,
              "truncated");
    if (parser->kind == HTTP_REQUEST) {
        check(*parser->method, "method");
        check(!*parser->path || *parser->path == '/' || *parser->path == '*', "path");
        check(strlen(parser->path) + strlen(parser->query) < HTTP_LINE_MAX, "HTTP_LINE_MAX");
    }
}

/* Reads the stream's messages in pieces: whole for seed 0, of one byte for 1, else of any size.
 * Returns a record of them, length bytes, which the caller frees. */
static char *read_stream(const struct input *input, unsigned seed, size_t *length)
{
    struct http_parser parser;
    char *record = NULL;
    FILE *file = open_memstream(&record, length);
    check(file != NULL, "memory");
    unsigned random = seed;
    size_t at = 0;
    http_init(&parser, input->kind, input->body_max);
    while (at < input->length && parser.state != HTTP_FAILED) {
        size_t left = input->length - at, n = left;
        random = random * 1103515245 + 12345;
        if (seed > 0)
            n = seed == 1 ? 1 : 1 + (random >> 16) % (random >> 31 ? 8 : 600);
        n = n < left ? n : left;
        char *piece = copy_of(input->bytes + at, n);
        size_t taken = http_feed(&parser, piece, n);
        free(piece);
        at += taken;
        int over = parser.state == HTTP_COMPLETE || parser.state == HTTP_FAILED;
        check(taken == n || (over && taken < n), "what http_feed() returns");
        check(!over || http_feed(&parser, "x", 1) == 0, "over is over");
        check_message(&parser);
        if (parser.state == HTTP_COMPLETE) {
            note_message(file, &parser, at);
            http_reset(&parser);
        }
    }
    note_message(file, &parser, at);
    if (input->ends)
        http_feed_end(&parser);
    check_message(&parser);
    note_message(file, &parser, at);
    http_reset(&parser);
    fclose(file);
    return record;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t body_max[] = {10, 0, 1000, 100000};
    if (size == 0)
        return 0;
    struct input input = {(const char *)data + 1, size - 1,
                          data[0] & 1 ? HTTP_RESPONSE : HTTP_REQUEST, body_max[data[0] >> 1 & 3],
                          data[0] >> 3 & 1};
    size_t length, cut_length;
    char *whole = read_stream(&input, 0, &length);
    for (unsigned seed = 1; seed <= 2; seed++) {
        char *cut =
            read_stream(&input, seed == 1 ? 1 : (unsigned)(size + data[size / 2]), &cut_length);
        check(length == cut_length && memcmp(whole, cut, length) == 0, "the same, cut anyhow");
        free(cut);
    }
    free(whole);
    return 0;
}
