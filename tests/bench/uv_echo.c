/*
 * The echo server on libuv, the event loop of Node.js: the peer that `make bench` compares with.
 *
 * It is written the way libuv's guide teaches: uv_listen(), uv_read_start(), and for what was read
 * a uv_write(); a 64 KiB buffer and a request are allocated and freed for each message. With
 * --keep, both are kept and used again. The difference between the two is mostly malloc(): 50
 * buffers that are alive at once, and then are not, make it give memory back to the kernel and take
 * it again.
 *
 * Back-pressure is left out, as in the guide: what a client does not read piles up here.
 */
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

enum { BUFFER_SIZE = 64 * 1024 };

/* A buffer to read into, and the request that writes it back. */
struct echo {
    uv_write_t request; /* first: libuv's pointer to it is a pointer to this */
    struct echo *next;  /* while it is free */
    char bytes[BUFFER_SIZE];
};

static struct echo *unused; /* a stack: who was used last is in the cache */
static bool keep;

static void on_signal(int number)
{
    (void)number;
    _exit(0);
}

static void check(const char *call, int result)
{
    if (result >= 0)
        return;
    fprintf(stderr, "uv_echo: %s: %s\n", call, uv_strerror(result));
    exit(1);
}

static void *allocate(size_t size)
{
    void *memory = malloc(size);
    if (!memory)
        check("malloc", UV_ENOMEM);
    return memory;
}

static struct echo *echo_new(void)
{
    struct echo *echo = unused;
    if (!echo)
        return allocate(sizeof *echo);
    unused = echo->next;
    return echo;
}

static void echo_free(struct echo *echo)
{
    if (!keep) {
        free(echo);
        return;
    }
    echo->next = unused;
    unused = echo;
}

static void on_closed(uv_handle_t *client)
{
    free(client);
}

static void on_written(uv_write_t *request, int status)
{
    if (status < 0 && !uv_is_closing((uv_handle_t *)request->handle))
        uv_close((uv_handle_t *)request->handle, on_closed);
    echo_free((struct echo *)request);
}

static void on_buffer_needed(uv_handle_t *client, size_t suggested, uv_buf_t *buffer)
{
    (void)client;
    (void)suggested;
    *buffer = uv_buf_init(echo_new()->bytes, BUFFER_SIZE);
}

static void on_read(uv_stream_t *client, ssize_t got, const uv_buf_t *buffer)
{
    struct echo *echo = (struct echo *)(void *)(buffer->base - offsetof(struct echo, bytes));
    if (got < 0) /* UV_EOF, or an error */
        uv_close((uv_handle_t *)client, on_closed);
    if (got <= 0) {
        echo_free(echo);
        return;
    }
    uv_buf_t owed = uv_buf_init(echo->bytes, (unsigned)got);
    if (uv_write(&echo->request, client, &owed, 1, on_written) < 0)
        echo_free(echo); /* then on_written() is not called */
}

static void on_connection(uv_stream_t *listener, int status)
{
    check("connection", status);
    uv_tcp_t *client = allocate(sizeof *client);
    check("uv_tcp_init", uv_tcp_init(listener->loop, client));
    check("uv_accept", uv_accept(listener, (uv_stream_t *)client));
    check("uv_read_start", uv_read_start((uv_stream_t *)client, on_buffer_needed, on_read));
}

static void listen_on(uv_tcp_t *listener, int port)
{
    struct sockaddr_in address;
    int size = sizeof address;
    check("uv_ip4_addr", uv_ip4_addr("127.0.0.1", port, &address));
    check("uv_tcp_init", uv_tcp_init(uv_default_loop(), listener));
    check("uv_tcp_bind", uv_tcp_bind(listener, (struct sockaddr *)&address, 0));
    check("uv_listen", uv_listen((uv_stream_t *)listener, SOMAXCONN, on_connection));
    check("getsockname", uv_tcp_getsockname(listener, (struct sockaddr *)&address, &size));
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int port = 8000;
    uv_tcp_t listener;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--keep") == 0)
            keep = true;
        else
            port = (int)strtol(argv[i], NULL, 10);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    listen_on(&listener, port);
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
