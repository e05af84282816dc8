/* GET /fetch: the server is a client itself, of servers that may be slow, broken or hostile. */
#include "suite.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PLENTY = 120 }; /* seconds a test may take on a slow, busy machine */

/* How answers begin. */
#define OK "HTTP/1.1 200 OK\r\n"
#define CHUNKED OK "Transfer-Encoding: chunked\r\n\r\n"
#define OLD "HTTP/1.0 200 OK\r\n\r\n"

/* --- the other server --- */

/* Another server, which says always the same. */
struct upstream {
    pid_t pid;
    int port;
};

enum ending { CLOSES, RESETS, STAYS }; /* what it does having said that */

struct speech {
    const char *bytes; /* NULL: the request's head comes back as the body */
    size_t length;
    double pause; /* seconds after each byte; 0: all at once */
    enum ending ending;
};

/* Reads a request's head. */
static void hear(int fd, char *heard, size_t size)
{
    memset(heard, 0, size);
    for (size_t length = 0; length + 1 < size && !strstr(heard, "\r\n\r\n"); length++)
        if (recv(fd, heard + length, 1, 0) <= 0)
            return;
}

static void say(int fd, const struct speech *speech)
{
    size_t cut = speech->pause > 0 ? 1 : speech->length;
    for (size_t sent = 0; sent < speech->length; sent += cut) {
        if (!client_send(fd, speech->bytes + sent, cut))
            break;
        if (speech->pause > 0)
            sleep_for(speech->pause);
    }
}

static void speak(int fd, const struct speech *speech)
{
    static const char head[] = OLD;
    char heard[4096];
    hear(fd, heard, sizeof heard);
    if (!speech->bytes) {
        client_send(fd, head, strlen(head));
        client_send(fd, heard, strlen(heard));
    }
    say(fd, speech);
    if (speech->ending == STAYS)
        client_at_eof(fd); /* until the other side closes */
    if (speech->ending == RESETS)
        client_reset(fd);
    else
        close(fd);
}

/* A socket that listens on every address, on a port that the kernel picks. */
static int listen_somewhere(int *port, int backlog)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert(fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 &&
              listen(fd, backlog) == 0 && getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static struct upstream upstream_start(const struct speech *speech)
{
    struct upstream upstream;
    int listener = listen_somewhere(&upstream.port, 16);
    upstream.pid = fork();
    ck_assert(upstream.pid >= 0);
    if (upstream.pid == 0) {
        alarm(PLENTY); /* whatever happens to the test, this ends */
        for (int fd; (fd = accept(listener, NULL, NULL)) >= 0;)
            speak(fd, speech);
        _exit(0);
    }
    close(listener);
    return upstream;
}

/* The same for so many requests, to all of which it speaks at once, and once. */
static struct upstream upstream_start_choir(const struct speech *speech, int requests)
{
    struct upstream upstream;
    int listener = listen_somewhere(&upstream.port, requests), fds[requests];
    upstream.pid = fork();
    ck_assert(upstream.pid >= 0);
    if (upstream.pid == 0) {
        alarm(PLENTY);
        for (int i = 0; i < requests; i++)
            fds[i] = accept(listener, NULL, NULL);
        for (int i = 0; i < requests; i++)
            if (fork() == 0) {
                speak(fds[i], speech);
                _exit(0);
            }
        for (int i = 0; i < requests; i++)
            wait(NULL);
        _exit(0);
    }
    close(listener);
    return upstream;
}

static void upstream_end(const struct upstream *upstream)
{
    kill(upstream->pid, SIGKILL);
}

/* Asks for what the upstream says. Returns the status of the answer, which is in client then. */
static int fetch(struct http_client *client, int port, const char *parameters)
{
    char target[256];
    snprintf(target, sizeof target, "/fetch?port=%d%s", port, parameters);
    *client = connect_http();
    return http_get(client, target);
}

/* Fails the test unless {"status": status, "body": body} has been answered. */
static void assert_fetched(struct http_client *client, int status, const char *body, size_t length)
{
    size_t got = 0;
    char *fetched = json_string(client->body, "body", &got);
    ck_assert_msg(json_number(client->body, "status") == status, "%s", http_describe(client));
    ck_assert_msg(fetched && got == length && memcmp(fetched, body, length) == 0,
                  "%zu bytes of body expected, and not these %zu: %.200s", length, got, fetched);
    free(fetched);
}

#define FIVE OK "Content-Length: 5\r\n\r\n"

static const struct {
    const char *name;
    const char *body; /* what arrives of it */
    size_t body_length;
    const char *bytes; /* what the upstream says */
    size_t length;
    double pause;
    int status; /* the upstream's */
    enum ending ending;
} understood[] = {
    {"a length", BYTES("hello"), BYTES(FIVE "hello"), 0, 200, CLOSES},
    {"a length and no end", BYTES("hello"), BYTES(FIVE "hello"), 0, 200, STAYS},
    {"byte by byte", BYTES("hello"), BYTES(FIVE "hello"), 0.002, 200, STAYS},
    {"length 0", BYTES(""), BYTES(OK "Content-Length: 0\r\n\r\n"), 0, 200, STAYS},
    {"to the end of file", BYTES("hello"), BYTES(OK "\r\nhello"), 0, 200, CLOSES},
    {"HTTP/1.0", BYTES("hello"), BYTES(OLD "hello"), 0, 200, CLOSES},
    {"nothing to the end of file", BYTES(""), BYTES(OLD), 0, 200, CLOSES},
    {"no reason", BYTES(""), BYTES("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"), 0, 200, STAYS},
    {"chunks", BYTES("hello world"), BYTES(CHUNKED "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), 0,
     200, STAYS},
    {"chunks byte by byte", BYTES("hello"), BYTES(CHUNKED "5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n"),
     0.002, 200, STAYS},
    {"404", BYTES("no"), BYTES("HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno"), 0, 404, STAYS},
    {"500", BYTES(""), BYTES("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"), 0, 500, STAYS},
    {"204, which has no body", BYTES(""), BYTES("HTTP/1.1 204 No Content\r\n\r\n"), 0, 204, STAYS},
    {"304, which has none either", BYTES(""),
     BYTES("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"), 0, 304, STAYS},
    {"interim answers first", BYTES("hello"),
     BYTES("HTTP/1.1 100 Continue\r\n\r\n"
           "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" FIVE "hello"),
     0, 200, STAYS},
    {"what JSON has to escape", BYTES("\"\\\b\f\n\r\t/\x01\0\x1f\x7f"),
     BYTES(OLD "\"\\\b\f\n\r\t/\x01\0\x1f\x7f"), 0, 200, CLOSES},
    {"UTF-8", BYTES("J\xc3\xbcrgen \xe2\x82\xac \xf0\x9f\x98\x80"),
     BYTES(OLD "J\xc3\xbcrgen \xe2\x82\xac \xf0\x9f\x98\x80"), 0, 200, CLOSES},
    {"what is not UTF-8", BYTES("J\xef\xbf\xbdrgen"), BYTES(OLD "J\xfcrgen"), 0, 200, CLOSES},
};

START_TEST(upstream_is_understood)
{
    struct http_client client;
    struct upstream upstream = upstream_start(&(struct speech){
        understood[_i].bytes, understood[_i].length, understood[_i].pause, understood[_i].ending});
    ck_assert_msg(fetch(&client, upstream.port, "&timeout_ms=20000") == 200, "%s: %s",
                  understood[_i].name, http_describe(&client));
    assert_fetched(&client, understood[_i].status, understood[_i].body, understood[_i].body_length);
    assert_status(&client, http_get(&client, "/health"), 200);
    http_close(&client);
    upstream_end(&upstream);
}
END_TEST

static const struct {
    const char *name;
    int status;
    enum ending ending;
    double pause;
    const char *bytes;
} failing[] = {
    {"nothing", 502, CLOSES, 0, ""},
    {"a reset", 502, RESETS, 0, ""},
    {"half a head", 502, CLOSES, 0, "HTTP/1.1 200 OK\r\nContent-Le"},
    {"half a body", 502, CLOSES, 0, FIVE "hel"},
    {"half a body and a reset", 502, RESETS, 0, FIVE "hel"},
    {"no end but a reset", 502, RESETS, 0.002, OLD "hello"},
    {"half a chunk", 502, CLOSES, 0, CHUNKED "5\r\nhel"},
    {"no last chunk", 502, CLOSES, 0, CHUNKED "5\r\nhello\r\n"},
    {"a wrong chunk", 502, STAYS, 0, CHUNKED "x\r\nhello\r\n"},
    {"an unknown coding", 502, STAYS, 0, OK "Transfer-Encoding: zip\r\n\r\nhello"},
    {"two lengths", 502, STAYS, 0, OK "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"},
    {"another protocol", 502, STAYS, 0, "220 mail.example.com ESMTP\r\n"},
    {"another version", 502, STAYS, 0, "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"},
    {"a status of two digits", 502, STAYS, 0, "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"},
    {"a status of letters", 502, STAYS, 0, "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n"},
    {"a malformed field", 502, STAYS, 0, OK "nonsense\r\n\r\n"},
    {"a coding that does not end", 502, STAYS, 0, OK "Transfer-Encoding: chunked, x\r\n\r\n"},
    {"only an interim answer", 502, CLOSES, 0, "HTTP/1.1 100 Continue\r\n\r\n"},
    {"silence", 504, STAYS, 0, ""},
    {"silence within the head", 504, STAYS, 0, "HTTP/1.1 200 OK\r\nConte"},
    {"silence within the body", 504, STAYS, 0, FIVE "hel"},
    {"no end", 504, STAYS, 0, OLD "hello"},
    {"a byte now and then", 504, STAYS, 0.1, FIVE "hello"},
};

/* One deadline for everything; 504 not before it, and not long after it. */
START_TEST(upstream_fails)
{
    bool late = failing[_i].status == 504;
    struct http_client client;
    struct upstream upstream = upstream_start(&(struct speech){
        failing[_i].bytes, strlen(failing[_i].bytes), failing[_i].pause, failing[_i].ending});
    double start = now();
    int status = fetch(&client, upstream.port, late ? "&timeout_ms=500" : "&timeout_ms=60000");
    double took = now() - start;
    ck_assert_msg(status == failing[_i].status, "%s: %s", failing[_i].name, http_describe(&client));
    /* what was wrong is the other server's doing, and this one's client cannot mend it */
    ck_assert_msg(strstr(client.body, "the other server"), "%s", http_describe(&client));
    ck_assert_msg(!late || took >= 0.5, "time-out of 0.5 s after %.3f s", took);
    ck_assert_msg(http_keeps_its_word(&client), "%s", failing[_i].name);
    http_close(&client);
    upstream_end(&upstream);
}
END_TEST

START_TEST(upstream_refuses)
{
    int port;
    struct http_client client;
    close(listen_somewhere(&port, 1)); /* nobody listens there any more */
    assert_status(&client, fetch(&client, port, ""), 502);
    http_close(&client);
}
END_TEST

#ifdef __linux__
/* Its queue of connections is full, so that it does not even say no. */
START_TEST(upstream_does_not_accept)
{
    int port, waiting[20], listener = listen_somewhere(&port, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    for (int i = 0; i < 20; i++) {
        waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(waiting[i], (struct sockaddr *)&address, sizeof address);
    }
    struct http_client client;
    assert_status(&client, fetch(&client, port, "&timeout_ms=500"), 504);
    http_close(&client);
    for (int i = 0; i < 20; i++)
        close(waiting[i]);
    close(listener);
}
END_TEST
#endif

enum { MOST = 64 * 1024 }; /* bytes of a body that are passed on */

static const struct {
    const char *head, *tail; /* around the body */
    size_t length;
    int status;
} sizes[] = {
    {OK "Content-Length: 65536\r\n\r\n", "", MOST, 200},
    {OK "Content-Length: 65537\r\n\r\n", "", MOST + 1, 200},
    {OK "Content-Length: 18446744073709551617\r\n\r\n", "", 2L * MOST, 200},
    {OK "\r\n", "", MOST, 200},
    {OK "\r\n", "", MOST + 1, 200},
    {OK "\r\n", "", 64 << 20, 200},
    {CHUNKED "10000\r\n", "\r\n0\r\n\r\n", MOST, 200},
    {CHUNKED "10001\r\n", "\r\n0\r\n\r\n", MOST + 1, 200},
    {CHUNKED "10001\r\n", "nonsense", MOST + 1, 200}, /* nobody reads on to find out */
    {OK "X: ", "\r\n\r\n", 20000, 502},
};

/* Much is cut, and that is said; too long a head is nonsense. */
START_TEST(upstream_says_much)
{
    size_t head = strlen(sizes[_i].head), body = sizes[_i].length, tail = strlen(sizes[_i].tail);
    char *bytes = malloc(head + body + tail);
    ck_assert_ptr_nonnull(bytes);
    memcpy(bytes, sizes[_i].head, head);
    memset(bytes + head, '\1', body); /* escaped, each takes six bytes */
    memcpy(bytes + head + body, sizes[_i].tail, tail);
    struct upstream upstream =
        upstream_start(&(struct speech){bytes, head + body + tail, 0, CLOSES});
    struct http_client client;
    int status = fetch(&client, upstream.port, "&timeout_ms=60000");
    ck_assert_msg(status == sizes[_i].status, "%zu bytes: %.300s", body, http_describe(&client));
    if (status == 200) {
        assert_fetched(&client, 200, bytes + head, body > MOST ? MOST : body);
        bool truncated = strstr(client.body, "\"truncated\":true}") != NULL;
        ck_assert_msg(truncated == (body > MOST), "%zu bytes, and nothing said about it", body);
    }
    http_close(&client);
    upstream_end(&upstream);
    free(bytes);
}
END_TEST

/* What is cut is not waited for, either. */
START_TEST(upstream_that_goes_on_is_left)
{
    enum { SAYS = MOST + 1 };
    static char bytes[sizeof OK - 1 + 2 + SAYS];
    snprintf(bytes, sizeof bytes, OK "\r\n");
    memset(bytes + sizeof OK + 1, 'x', SAYS);
    struct upstream upstream = upstream_start(&(struct speech){bytes, sizeof bytes, 0, STAYS});
    struct http_client client;
    assert_status(&client, fetch(&client, upstream.port, "&timeout_ms=60000"), 200);
    assert_fetched(&client, 200, bytes + sizeof OK + 1, MOST);
    http_close(&client);
    upstream_end(&upstream);
}
END_TEST

/* Fifty bodies of what JSON has to escape come at once: others wait for less than what this machine
 * takes to add up a thousand million squares. */
START_TEST(others_are_served_while_much_is_fetched)
{
    enum { FETCHES = 50 };
    static char bytes[sizeof OK + 1 + 16L * MOST];
    struct http_client clients[FETCHES], other = connect_http();
    char target[64];
    double longest = 0, start = now();
    assert_status(&other, http_get(&other, "/sum?n=1000000000&yield=0"), 200);
    double bound = now() - start;
    snprintf(bytes, sizeof bytes, OK "\r\n");
    memset(bytes + sizeof OK + 1, '\1', sizeof bytes - sizeof OK - 1);
    struct upstream upstream =
        upstream_start_choir(&(struct speech){bytes, sizeof bytes, 0, CLOSES}, FETCHES);
    snprintf(target, sizeof target, "/fetch?timeout_ms=60000&port=%d", upstream.port);
    for (int i = 0; i < FETCHES; i++)
        clients[i] = connect_asking(target);
    for (int i = 0; i < FETCHES; i++) {
        double asked = now();
        assert_status(&other, http_get(&other, "/health"), 200);
        longest = now() - asked > longest ? now() - asked : longest;
        assert_status(&clients[i], http_receive(&clients[i]), 200);
        http_close(&clients[i]);
    }
    /* (sanitizers slow down what looks at bytes, and hardly what adds up) */
    ck_assert_msg(longest < bound || subject.sanitized, "/health took %.3f s, /sum %.3f s", longest,
                  bound);
    http_close(&other);
    upstream_end(&upstream);
}
END_TEST

static const struct {
    const char *parameters;
    int status;
} fetches[] = {
    {"?port=", 400},
    {"?port=0", 400},
    {"?port=65536", 400},
    {"?port=http", 400},
    {"?port=-1", 400},
    {"?host=127.0.0.1", 400},
    {"?port=80&path=", 400},
    {"?port=80&path=health", 400},
    {"?port=80&path=/%00", 400},
    {"?port=80&timeout_ms=0", 400},
    {"?port=80&timeout_ms=60001", 400},
    {"?port=80&timeout_ms=soon", 400},
    {"?port=80&host=192.0.2.1", 403},
    {"?port=80&host=example.com", 403},
    {"?port=80&host=0.0.0.0", 403},
    {"?port=80&host=10.0.0.1", 403},
    {"?port=80&host=128.0.0.1", 403},
    {"?port=80&host=127.0.0.1.example.com", 403},
    {"?port=80&host=localhost.example.com", 403},
    {"?port=80&host=2130706433", 403},
    {"?port=80&host=", 403},
};

START_TEST(fetch_with_wrong_parameters)
{
    char target[256];
    struct http_client client = connect_http();
    snprintf(target, sizeof target, "/fetch%s", fetches[_i].parameters);
    assert_status(&client, http_get(&client, target), fetches[_i].status);
    http_close(&client);
}
END_TEST

START_TEST(loopback_has_many_names)
{
    static const char *const hosts[] = {
        "&host=127.0.0.1", "&host=localhost",
#ifdef __linux__
        "&host=127.1.2.3", "&host=127.255.255.254" /* elsewhere only 127.0.0.1 is set up */
#endif
    };
    struct upstream upstream = upstream_start(&(struct speech){BYTES(OLD "hi"), 0, CLOSES});
    for (int i = 0; i < COUNT(hosts); i++) {
        struct http_client client;
        assert_status(&client, fetch(&client, upstream.port, hosts[i]), 200);
        assert_fetched(&client, 200, "hi", 2);
        http_close(&client);
    }
    upstream_end(&upstream);
}
END_TEST

/* What a request looks like to the upstream: one request, whatever is in the path. */
START_TEST(upstream_gets_one_request)
{
    static const struct {
        const char *path, *line; /* NULL: the path may be refused as well */
    } paths[] = {
        {"", "GET / HTTP/1.1\r\n"},
        {"&path=/a/b", "GET /a/b HTTP/1.1\r\n"},
        {"&path=/a?b=c%26d=%2541", "GET /a?b=c&d=%41 HTTP/1.1\r\n"},
        {"&path=/a%20b", NULL},
        {"&path=/%20HTTP/1.1%0d%0aX-Evil:%20yes%0d%0aX:", NULL},
        {"&path=/%0aX-Evil:%20yes", NULL},
    };
    struct upstream upstream = upstream_start(&(struct speech){NULL, 0, 0, CLOSES});
    for (int i = 0; i < COUNT(paths); i++) {
        struct http_client client;
        int status = fetch(&client, upstream.port, paths[i].path);
        size_t length = 0;
        char *heard = status == 200 ? json_string(client.body, "body", &length) : NULL;
        if (!paths[i].line && status == 400) {
            http_close(&client);
            continue;
        }
        assert_status(&client, status, 200);
        ck_assert_ptr_nonnull(heard);
        ck_assert_msg(!paths[i].line || strstr(heard, paths[i].line) == heard, "%s", heard);
        ck_assert_msg(strstr(heard, "\r\nHost: 127.0.0.1"), "%s", heard);
        ck_assert_msg(!strstr(heard, "\r\nX-Evil"), "%s", heard);
        ck_assert_msg(strncmp(heard, "GET /", 5) == 0, "%s", heard);
        ck_assert_msg(strncmp(strchr(heard + 4, ' '), " HTTP/1.1\r\n", 11) == 0, "%s", heard);
        free(heard);
        http_close(&client);
    }
    upstream_end(&upstream);
}
END_TEST

/* With the client goes the connection to the upstream. */
START_TEST(client_leaves_during_fetch)
{
    char target[128];
    struct upstream upstream = upstream_start(&(struct speech){BYTES(OLD "hel"), 0, STAYS});
    struct http_client other = connect_http();
    assert_status(&other, http_get(&other, "/health"), 200);
    int before = process_descriptors(server.pid);
    snprintf(target, sizeof target, "/fetch?timeout_ms=60000&port=%d", upstream.port);
    for (int i = 0; i < 10; i++) {
        struct http_client client = connect_asking(target);
        sleep_for(0.01);
        client_reset(client.fd);
    }
    ck_assert_msg(descriptors_become(before), "%d descriptors before, %d after", before,
                  process_descriptors(server.pid));
    assert_status(&other, http_get(&other, "/health"), 200);
    http_close(&other);
    upstream_end(&upstream);
}
END_TEST

/* The server can ask itself, and still has time for everybody: it never waits for an answer. */
START_TEST(fetches_at_once)
{
    enum { FETCHES = 50 };
    struct http_client clients[FETCHES], other = connect_http();
    char target[128];
    snprintf(target, sizeof target, "/fetch?port=%d&path=/perfect-ping?ms=500", server.port);
    double start = now();
    for (int i = 0; i < FETCHES; i++)
        clients[i] = connect_asking(target);
    for (int i = 0; i < 20; i++)
        assert_status(&other, http_get(&other, "/health"), 200);
    for (int i = 0; i < FETCHES; i++) {
        assert_status(&clients[i], http_receive(&clients[i]), 200);
        ck_assert_msg(strstr(clients[i].body, "pong") != NULL, "%s", http_describe(&clients[i]));
        http_close(&clients[i]);
    }
    ck_assert_msg(now() - start < 10, "one after the other"); /* that would be 25 s */
    http_close(&other);
}
END_TEST

Suite *fetch_suite(void)
{
    Suite *suite = suite_create("fetch");
    TCase *fetching = tcase_create("fetch");
    tcase_set_timeout(fetching, PLENTY);
    tcase_add_checked_fixture(fetching, start_server, stop_server);
    tcase_add_loop_test(fetching, upstream_is_understood, 0, COUNT(understood));
    tcase_add_loop_test(fetching, upstream_fails, 0, COUNT(failing));
    tcase_add_test(fetching, upstream_refuses);
#ifdef __linux__
    tcase_add_test(fetching, upstream_does_not_accept);
#endif
    tcase_add_loop_test(fetching, upstream_says_much, 0, COUNT(sizes));
    tcase_add_test(fetching, upstream_that_goes_on_is_left);
    tcase_add_test(fetching, others_are_served_while_much_is_fetched);
    tcase_add_loop_test(fetching, fetch_with_wrong_parameters, 0, COUNT(fetches));
    tcase_add_test(fetching, loopback_has_many_names);
    tcase_add_test(fetching, upstream_gets_one_request);
    tcase_add_test(fetching, client_leaves_during_fetch);
    tcase_add_test(fetching, fetches_at_once);
    suite_add_tcase(suite, fetching);
    return suite;
}
