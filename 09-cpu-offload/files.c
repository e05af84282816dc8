/*
 * A file's way to the client: a job opens it and reads the first piece, the loop sends it; when
 * that has gone out, the next job reads the next piece. There is never more than one piece in
 * memory, and whoever downloads slowly is read for slowly.
 */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 64 * 1024, RETRY_MS = 20 };

struct download {
    struct loop *loop;
    struct client *client; /* NULL: gone */
    struct threadpool *pool;
    struct timer retry; /* while the pool was full */
    bool working;       /* a job is on its way, or has just come back: it will free the download */
    bool begun;         /* the head of the answer is out */
    bool head;          /* HEAD: there is no body */
    const char *type;
    char *range; /* the Range header, or NULL */

    struct job job;    /* one at a time; until it is done all below is the thread's */
    int root, file;    /* descriptors; file is -1 until it is open */
    int why;           /* it is not open: errno */
    long long size;    /* -1: there is no such file */
    long long at, end; /* what is still to be sent of it */
    ssize_t got;       /* what the last read returned */
    char *name;
    char piece[PIECE];
};

static void download_free(struct download *download)
{
    timer_stop(download->loop, &download->retry);
    if (download->file >= 0)
        close(download->file);
    free(download->range);
    free(download->name);
    free(download);
}

/* --- in the pool --- */

/* Opens a path below the descriptor root, step by step, so that none of them leads out: no "..", no
 * symbolic link (checking the path first and opening it then would leave time to exchange it).
 * O_NONBLOCK: to open a FIFO or a device does not wait; it is refused a moment later. */
static int open_below(int root, char *path)
{
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int at = root;
    for (char *step = path, *rest; at >= 0; step = rest) {
        rest = strchr(step, '/');
        if (rest)
            *rest++ = '\0';
        bool fine = *step && strcmp(step, ".") != 0 && strcmp(step, "..") != 0;
        errno = ENOENT; /* of a step that is not */
        int next = fine ? openat(at, step, rest ? flags | O_DIRECTORY : flags) : -1;
        if (at != root)
            close(at);
        at = next;
        if (!rest)
            break;
    }
    return at;
}

static void open_file(void *arg)
{
    struct download *download = arg;
    struct stat about;
    download->file = open_below(download->root, download->name);
    if (download->file >= 0 && fstat(download->file, &about) == 0 && S_ISREG(about.st_mode))
        download->size = about.st_size;
    else if (download->file < 0)
        download->why = errno;
}

static void read_piece(void *arg)
{
    struct download *download = arg;
    long long left = download->end - download->at;
    do
        download->got = pread(download->file, download->piece, left < PIECE ? (size_t)left : PIECE,
                              (off_t)download->at);
    while (download->got < 0 && errno == EINTR);
}

/* --- on the loop --- */

/* Reads the numbers of "bytes=first-last", "bytes=first-" or "bytes=-suffix", and makes of them the
 * part [at, end) of a file of that size. Returns 206; 416 if no byte of the file is in it; or 200
 * for anything else, which may be answered as if it had not been asked for (RFC 9110, 14.2). */
static int find_range(const char *range, long long size, long long *at, long long *end)
{
    long long first = -1, last = size - 1;
    char *rest;
    if (!range || strncasecmp(range, "bytes=", 6) != 0)
        return 200;
    const char *text = range + 6;
    if (text[strspn(text, "0123456789-")] || strlen(text) > 37)
        return 200;
    if (*text != '-') {
        first = strtoll(text, &rest, 10); /* too large becomes LLONG_MAX: past the end, too */
        if (*rest++ != '-')
            return 200;
        text = rest;
    } else {
        text++;
    }
    if (*text) {
        long long number = strtoll(text, &rest, 10);
        if (*text == '-' || *rest || (first >= 0 && number < first))
            return 200;
        if (first < 0) { /* the last so many bytes */
            first = number < size ? size - number : 0;
            if (number == 0)
                first = size;
        } else if (number < last) {
            last = number;
        }
    } else if (first < 0) {
        return 200;
    }
    if (first >= size)
        return 416;
    *at = first;
    *end = last + 1;
    return 206;
}

static const char *type_of(const char *name)
{
    static const char *const types[][2] = {
        {".html", "text/html; charset=utf-8"},
        {".txt", "text/plain; charset=utf-8"},
        {".md", "text/plain; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".js", "text/javascript"},
        {".json", "application/json"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".jpg", "image/jpeg"},
    };
    const char *end = strrchr(name, '.');
    for (size_t i = 0; end && i < sizeof types / sizeof types[0]; i++)
        if (strcasecmp(end, types[i][0]) == 0)
            return types[i][1];
    return "application/octet-stream";
}

/* The file is open, or is not there. Returns whether there is a body to be sent. */
static bool begin(struct download *download)
{
    char headers[128];
    struct client *client = download->client;
    download->end = download->size;
    if (download->why == EMFILE || download->why == ENFILE || download->why == ENOMEM) {
        client_answer_error(client, 503, "Retry-After: 1\r\n",
                            "no descriptor or no memory is free");
        return false;
    }
    if (download->size < 0) {
        client_answer_error(client, 404, NULL, "no such file");
        return false;
    }
    int status = find_range(download->range, download->size, &download->at, &download->end);
    if (status == 416) {
        snprintf(headers, sizeof headers, "Content-Range: bytes */%lld\r\n", download->size);
        client_answer_error(client, 416, headers, "the file has no such part");
        return false;
    }
    int length = snprintf(headers, sizeof headers, "Accept-Ranges: bytes\r\n");
    if (status == 206)
        snprintf(headers + length, sizeof headers - (size_t)length,
                 "Content-Range: bytes %lld-%lld/%lld\r\n", download->at, download->end - 1,
                 download->size);
    struct answer answer = {.status = status,
                            .headers = headers,
                            .type = download->type,
                            .length = download->end - download->at};
    client_begin(client, &answer);
    download->begun = true;
    if (!download->head && download->at < download->end)
        return true;
    client_end(client);
    return false;
}

static bool submit(struct download *download, void (*work)(void *), void (*done)(void *, bool))
{
    download->job = (struct job){.work = work, .done = done, .arg = download};
    download->working = threadpool_submit(download->pool, &download->job);
    return download->working;
}

static void piece_read(void *arg, bool ran);

static void next_piece(struct loop *loop, void *arg)
{
    struct download *download = arg;
    if (!submit(download, read_piece, piece_read) &&
        !timer_start(loop, &download->retry, RETRY_MS)) { /* no memory, either */
        client_drop(download->client);
        download_free(download);
    }
}

static void piece_read(void *arg, bool ran)
{
    struct download *download = arg;
    struct client *client = download->client;
    if (client && (!ran || download->got <= 0)) { /* it has become shorter: the head was wrong */
        client_drop(client);
    } else if (client) {
        client_write(client, download->piece, (size_t)download->got);
        download->at += download->got;
        if (download->at < download->end) {
            download->working = false;
            if (client_owed(client) == 0)
                next_piece(download->loop, download);
            return; /* else drained() goes on */
        }
        client_end(client);
    }
    download_free(download);
}

static void opened(void *arg, bool ran)
{
    struct download *download = arg;
    if (ran && download->client && begin(download))
        next_piece(download->loop, download);
    else
        download_free(download);
}

static void drained(void *arg)
{
    struct download *download = arg;
    if (download->begun && !download->working && download->retry.place == 0)
        next_piece(download->loop, download);
}

static void gone(void *arg)
{
    struct download *download = arg;
    download->client = NULL;
    if (!download->working || threadpool_cancel(download->pool, &download->job))
        download_free(download);
}

/* A client that closes its side before the file is open, while others wait, gives up its place.
 */
static bool ended(void *arg)
{
    struct download *download = arg;
    if (download->begun || !threadpool_give_up(download->pool, &download->job))
        return false;
    download_free(download);
    return true;
}

void files_answer(struct client *client, const struct http_parser *request, const char *name,
                  int root, struct threadpool *pool)
{
    static const struct waiter waiter = {.gone = gone, .ended = ended, .drained = drained};
    bool head = strcmp(request->method, "HEAD") == 0; /* Range is for GET (RFC 9110, 14.2) */
    bool whole = head || http_header(request, "If-Range");
    const char *range = whole ? NULL : http_header(request, "Range");
    struct download *download = calloc(1, sizeof *download);
    if (!download) {
        client_answer_error(client, 500, NULL, "out of memory");
        return;
    }
    download->loop = client_loop(client);
    download->client = client;
    download->pool = pool;
    download->retry = (struct timer){.callback = next_piece, .arg = download};
    download->head = head;
    download->range = range ? strdup(range) : NULL; /* without memory for it: all of the file */
    download->type = type_of(name);
    download->name = strdup(name);
    download->root = root;
    download->file = -1;
    download->size = -1;
    if (download->name && submit(download, open_file, opened)) {
        client_wait(client, &waiter, download);
    } else {
        download_free(download);
        client_answer_error(client, 503, "Retry-After: 1\r\n", "the thread pool is full");
    }
}
