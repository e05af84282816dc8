/*
 * fuzz_conversations SECONDS 07/server 08/server 09/server: random conversations with running
 * servers, best ones built with sanitizers. Many clients at once send requests, valid ones and
 * spoiled ones, cut anyhow, pipelined, pause, half-close, reset, do not read; and /fetch is sent to
 * a server that is no better. Meanwhile and afterwards the server has to answer GET /health, and in
 * the end to exit with 0.
 *
 * Each round has a server, options and conversations of its own, all of them drawn from its seed.
 * SEED in the environment: begins with that round. How the clients' bytes meet is up to the system,
 * so a round may have to be repeated more than once.
 */
#include "endpoints.h"
#include "harness.h"
#include "http_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PEERS = 24, WAVES = 20, ACTIONS = 30 }; /* clients at once; of a round; of each client */
enum { SPEECH_MAX = 128 * 1024 };
enum { FIRST_CHAPTER = 7, CHAPTERS = 3 };

/* --- chance --- */

static unsigned long long chance;

static size_t below(size_t limit)
{
    chance ^= chance << 13; /* xorshift: each seed has a sequence of its own, on every system */
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (size_t)(chance >> 11) % limit;
}

static void begin_chance(unsigned long seed)
{
    chance = seed * 0x9e3779b97f4a7c15ULL + 1;
    for (int i = 0; i < 10; i++)
        below(2);
}

static bool one_in(size_t count)
{
    return below(count) == 0;
}

#define ONE_OF(list) ((list)[below(sizeof(list) / sizeof *(list))])

/* --- what is said --- */

struct speech {
    char bytes[SPEECH_MAX];
    size_t length;
};

static struct endpoint endpoints[ENDPOINTS_MAX];
static int count_endpoints;

static void say(struct speech *speech, const char *text)
{
    size_t left = sizeof speech->bytes - speech->length, length = strlen(text);
    length = length < left ? length : left;
    memcpy(speech->bytes + speech->length, text, length);
    speech->length += length;
}

static void say_many(struct speech *speech, const char *text, size_t count)
{
    for (size_t i = 0; i < count; i++)
        say(speech, text);
}

/* A field, and one that is not wanted now and then. */
static void say_fields(struct speech *speech)
{
    static const char *const fields[] = {"Connection: close\r\n",
                                         "Expect: 100-continue\r\n",
                                         "X: \xff\x80\r\n",
                                         "Host: other\r\n",
                                         "Origin: http://evil\r\n",
                                         "Content-Length: 5\r\n",
                                         "Content-Length: 99999999999999999999\r\n",
                                         "Transfer-Encoding: gzip\r\n",
                                         "Range: bytes=0-\r\n",
                                         " folded\r\n",
                                         "Last-Event-ID: 7\r\n",
                                         "If-None-Match: \"x\"\r\n"};
    if (!one_in(20))
        say(speech, "Host: localhost\r\n");
    while (one_in(4))
        say(speech, ONE_OF(fields));
    if (one_in(30))
        say_many(speech, "Filler: ................................\r\n", below(1000));
}

static void say_body(struct speech *speech, const char *body)
{
    static const char *const bodies[] = {"{\"n\": 10}",  "{}", "{\"n\":", "{\"n\": -1}",
                                         "{\"n\": 1e3}", "\\", "",        "{\"n\": \"1\"}"};
    char text[128];
    if (one_in(3))
        body = ONE_OF(bodies);
    if (one_in(3)) {
        say(speech, "Transfer-Encoding: chunked\r\n\r\n");
        for (size_t piece; *body; body += piece) {
            piece = 1 + below(strlen(body));
            snprintf(text, sizeof text, "%zx\r\n%.*s\r\n", piece, (int)piece, body);
            say(speech, text);
        }
        say(speech, "0\r\n\r\n");
    } else {
        snprintf(text, sizeof text, "Content-Length: %zu\r\n\r\n", strlen(body));
        say(speech, text);
        say(speech, body);
    }
}

static void say_request(struct speech *speech)
{
    static const char *const methods[] = {"HEAD", "POST", "OPTIONS", "GET", "DELETE", "BREW", ""};
    static const char *const versions[] = {"HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", ""};
    static const char *const targets[] = {"*",          "/nothing",     "/files/../x",
                                          "/tasks/%00", "//",           "http://localhost/health",
                                          "/sum?n=%",   "/fetch?port=1"};
    char line[512];
    const struct endpoint *endpoint = &endpoints[below((size_t)count_endpoints)];
    snprintf(line, sizeof line, "%s %s %s\r\n", one_in(5) ? ONE_OF(methods) : endpoint->method,
             one_in(10) ? ONE_OF(targets) : endpoint->target,
             one_in(10) ? ONE_OF(versions) : "HTTP/1.1");
    say(speech, line);
    say_fields(speech);
    if (*endpoint->body || one_in(8))
        say_body(speech, *endpoint->body ? endpoint->body : "of no use");
    else
        say(speech, "\r\n");
}

/* What /fetch gets to hear. */
static void say_response(struct speech *speech)
{
    static const char *const lines[] = {"HTTP/1.1 200 OK\r\n", "HTTP/1.0 404 No\r\n",
                                        "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 999\r\n", "x"};
    static const char *const pieces[] = {"\"\\\x01\x02\x03", "text", "\xc3\xa9\xe2\x82",
                                         "{\"a\":1}"};
    say(speech, ONE_OF(lines));
    say_fields(speech);
    if (one_in(3)) {
        say(speech, "\r\n"); /* up to the end of the connection */
        say_many(speech, ONE_OF(pieces), below(30000));
    } else {
        say_body(speech, ONE_OF(pieces));
    }
}

/* Digits would make it ask for seconds, or for a sum that takes as long. */
static char strange_byte(void)
{
    static const char bytes[] = "\r\n :?&=%/\"{}\t\x7f\x80\xff-az";
    return bytes[below(sizeof bytes)];
}

/* Changes, takes out or repeats a few bytes somewhere. */
static void spoil(struct speech *speech)
{
    while (speech->length > 0 && !one_in(3)) {
        size_t at = below(speech->length), left = speech->length - at;
        size_t some = 1 + below(left < 16 ? left : 16);
        bool room = speech->length + some <= sizeof speech->bytes;
        if (one_in(2)) {
            speech->bytes[at] = strange_byte();
        } else if (one_in(2) || !room) {
            memmove(speech->bytes + at, speech->bytes + at + some, left - some);
            speech->length -= some;
        } else {
            memmove(speech->bytes + at + some, speech->bytes + at, left);
            for (size_t i = 0; i < some; i++)
                speech->bytes[at + i] = strange_byte();
            speech->length += some;
        }
    }
}

static void prepare(struct speech *speech, bool as_server)
{
    speech->length = 0;
    do
        as_server ? say_response(speech) : say_request(speech);
    while (!one_in(as_server ? 10 : 2));
    if (!as_server && one_in(20))
        for (int i = 0; i < 2000; i++)
            say(speech, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    if (one_in(3))
        spoil(speech);
}

/* --- who says it: clients of the server, and the server that it fetches from --- */

struct peer {
    int fd; /* -1: none */
    size_t sent;
    struct speech speech;
};
static struct peer peers[2 * PEERS]; /* the second half: what /fetch talks to */

static void peer_end(struct peer *peer)
{
    if (peer->fd >= 0 && one_in(2))
        client_reset(peer->fd);
    else if (peer->fd >= 0)
        close(peer->fd);
    peer->fd = -1;
}

static void peer_send(struct peer *peer)
{
    size_t left = peer->speech.length - peer->sent;
    size_t length = one_in(2) ? left : one_in(2) ? left < 9 ? left : 9 : below(left + 1);
    ssize_t n =
        send(peer->fd, peer->speech.bytes + peer->sent, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0)
        peer->sent += (size_t)n;
    else if (errno != EAGAIN)
        peer_end(peer);
}

/* As much as fits on the way. */
static void peer_send_all(struct peer *peer)
{
    if (peer->fd >= 0)
        send(peer->fd, peer->speech.bytes, peer->speech.length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void peer_receive(struct peer *peer)
{
    static char bytes[64 * 1024];
    ssize_t n = recv(peer->fd, bytes, 1 + below(sizeof bytes), MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN)
        peer_end(peer);
}

static void peer_act(struct peer *peer)
{
    size_t what = below(20);
    if (peer->fd < 0)
        return;
    if (what < 9)
        peer_send(peer);
    else if (what < 16)
        peer_receive(peer);
    else if (what == 16 && one_in(3))
        shutdown(peer->fd, SHUT_WR);
    else if (what == 17 && one_in(3))
        peer_end(peer);
    else if (what == 18)
        poll(NULL, 0, (int)below(3));
}

/* Another one, in place of one that has ended. */
static void accept_peer(int listener)
{
    for (int i = PEERS; i < 2 * PEERS; i++)
        if (peers[i].fd < 0) {
            peers[i].fd = accept(listener, NULL, NULL);
            peers[i].sent = 0;
            prepare(&peers[i].speech, true);
            return;
        }
}

static void play_wave(int port, int listener)
{
    size_t count = 1 + below(PEERS);
    for (size_t i = 0; i < count; i++) {
        peers[i].fd = client_connect(port);
        peers[i].sent = 0;
        prepare(&peers[i].speech, false);
        if (one_in(3)) { /* gone before the server can look */
            peer_send_all(&peers[i]);
            peer_end(&peers[i]);
        }
    }
    for (size_t actions = count * ACTIONS; actions > 0; actions--) {
        accept_peer(listener);
        peer_act(&peers[one_in(4) ? PEERS + below(PEERS) : below(count)]);
    }
    for (int i = 0; i < 2 * PEERS; i++)
        peer_end(&peers[i]);
}

/* --- rounds --- */

static unsigned long seed; /* of this round */

static void fail(struct process *server, const char *what)
{
    sleep_for(1); /* for a sanitizer's report */
    int status = process_end(server, SIGTERM);
    fprintf(stderr, "%s; exit status %d; again with SEED=%lu. Its stderr:\n%s\n", what, status,
            seed, server->errors);
    exit(1);
}

/* What the server, one of 07 to 09, is started with. Returns the limit of its descriptors. */
static int draw_options(int chapter, char *options, size_t size)
{
    static const char *const backends[] = {"poll", "select", "kqueue"};
    int length = 0, limit = one_in(4) ? 40 + (int)below(20) : 0;
    *options = '\0';
    if (one_in(4))
        length += snprintf(options, size, " --backend %s", ONE_OF(backends));
    if (chapter > FIRST_CHAPTER)
        length += snprintf(options + length, size - (size_t)length,
                           " --root tests/fuzz_corpus --threads %zu --queue %zu", 1 + below(4),
                           1 + below(8));
    if (chapter > FIRST_CHAPTER + 1)
        snprintf(options + length, size - (size_t)length, " --workers %zu --max-jobs %zu",
                 1 + below(2), below(4));
    return limit;
}

/* /health, asked by somebody who waits for the answer. 503: 09 may be short of workers. */
static void check_health(struct process *server)
{
    struct http_client client = http_connect(server->port);
    int status = client.fd < 0 ? -1 : http_get(&client, "/health");
    if (status != 200 && status != 503)
        fail(server, client.fd < 0 ? "cannot connect" : http_describe(&client));
    http_close(&client);
}

static void find_endpoints(struct process *server, int port)
{
    struct http_client client = http_connect(server->port);
    if (client.fd < 0 || http_get(&client, "/") != 200)
        fail(server, "GET / is not answered");
    count_endpoints = endpoints_on(client.body, port, endpoints);
    http_close(&client);
}

static void play_round(char *const servers[], int listener, int upstream)
{
    char options[256];
    begin_chance(seed);
    int chapter = FIRST_CHAPTER + (int)(seed % CHAPTERS);
    int limit = draw_options(chapter, options, sizeof options);
    struct process server = server_start(servers[seed % CHAPTERS], options, limit);
    find_endpoints(&server, upstream);
    for (int wave = 0; wave < WAVES; wave++) {
        play_wave(server.port, listener);
        check_health(&server);
    }
    if (process_end(&server, SIGTERM) != 0) {
        fprintf(stderr, "0%d%s: exit status %d; again with SEED=%lu. Its stderr:\n%s\n", chapter,
                options, server.status, seed, server.errors);
        exit(1);
    }
}

static int listen_somewhere(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        perror("fuzz_conversations: cannot listen");
        exit(1);
    }
    *port = ntohs(address.sin_port);
    return fd;
}

int main(int argc, char **argv)
{
    const char *first = getenv("SEED");
    int upstream, rounds = 0;
    if (argc != 2 + CHAPTERS) {
        fprintf(stderr, "fuzz_conversations SECONDS 07/server 08/server 09/server\n");
        return 2;
    }
    setenv("PATIENCE", "60", 0);
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_somewhere(&upstream);
    for (int i = 0; i < 2 * PEERS; i++)
        peers[i].fd = -1;
    seed = first && *first ? strtoul(first, NULL, 10) : (unsigned long)time(NULL);
    for (double end = now() + strtod(argv[1], NULL); now() < end; seed++, rounds++)
        play_round(argv + 2, listener, upstream);
    printf("conversations: %d rounds, the last with SEED=%lu; nothing found\n", rounds, seed - 1);
    close(listener);
    return 0;
}
