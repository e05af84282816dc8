#include "suite.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct subject subject;
struct process server;

void start_server_with(const char *options, int max_descriptors)
{
    char args[512];
    snprintf(args, sizeof args, "%s %s", subject.args, options);
    server = server_start(subject.server, args, max_descriptors);
    /* 09 serves before all of its workers are there: until the number of descriptors stays */
    for (int count = -1, same = 0; subject.chapter >= 9 && same < 5; sleep_for(0.02)) {
        same = process_descriptors(server.pid) == count ? same + 1 : 0;
        count = process_descriptors(server.pid);
    }
}

void start_server(void)
{
    start_server_with("", 0);
}

void stop_server(void)
{
    int status = process_end(&server, SIGTERM);
    ck_assert_msg(status == 0, "exit status %d after SIGTERM; stderr: %s", status, server.errors);
}

int connect_client(void)
{
    int fd = client_connect(server.port);
    ck_assert_msg(fd >= 0, "cannot connect: has the server died?");
    return fd;
}

bool client_asks(int fd)
{
    const char *text = subject.chapter < FIRST_HTTP_CHAPTER
                           ? "x"
                           : "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    return client_send(fd, text, strlen(text));
}

bool client_is_answered(int fd)
{
    char byte;
    if (subject.chapter < FIRST_HTTP_CHAPTER)
        return client_receive(fd, &byte, 1) && byte == 'x';
    struct http_client client = {.fd = fd};
    bool answered = http_receive(&client) == 200;
    client.fd = -1; /* stays open */
    http_close(&client);
    return answered;
}

bool is_served(int fd)
{
    return client_asks(fd) && client_is_answered(fd);
}

bool descriptors_become(int count)
{
    for (double end = now() + patience(); now() < end; sleep_for(0.01))
        if (process_descriptors(server.pid) == count)
            return true;
    return false;
}

struct http_client connect_http(void)
{
    struct http_client client = http_connect(server.port);
    ck_assert_msg(client.fd >= 0, "cannot connect: has the server died?");
    return client;
}

struct http_client connect_asking(const char *target)
{
    struct http_client client = connect_http();
    ck_assert(http_ask(&client, target));
    return client;
}

char *http_pipeline(const char *target, size_t count)
{
    char request[256];
    size_t length = (size_t)snprintf(request, sizeof request,
                                     "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", target);
    char *requests = malloc(count * length + 1);
    ck_assert_ptr_nonnull(requests);
    for (size_t i = 0; i < count; i++)
        memcpy(requests + i * length, request, length + 1);
    return requests;
}

const char *pattern(size_t length)
{
    static char *bytes;
    static size_t made;
    if (length > made) {
        bytes = realloc(bytes, length);
        ck_assert_ptr_nonnull(bytes);
        /* a generator with a long period: no two stretches look alike, so none can be swapped */
        unsigned state = 1;
        for (size_t i = 0; i < length; i++) {
            state = state * 1103515245 + 12345;
            bytes[i] = (char)(i < 256 ? i : state >> 16);
        }
        made = length;
    }
    return bytes;
}

size_t send_until_stuck(int fd, const char *bytes, size_t length)
{
    size_t sent = 0;
    while (sent < length && poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 500) == 1) {
        ssize_t n = send(fd, bytes + sent, length - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            break;
        sent += n > 0 ? (size_t)n : 0;
    }
    return sent;
}

int lines_of_file(const char *path)
{
    int lines = 0, byte;
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    while ((byte = getc(file)) != EOF)
        lines += byte == '\n';
    fclose(file);
    return lines;
}
