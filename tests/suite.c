/*
 * suite CHAPTER SERVER [ARGS]: runs the tests that a chapter's server has to pass, on any program.
 * The environment may name CLIENT and SLOW_PEER, for the tests of the chapter's client, and SAN.
 */
#include "suite.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

struct subject subject;
struct process server;

void start_server(void)
{
    server = server_start(subject.server, subject.args, 0);
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

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr,
                "suite CHAPTER SERVER [ARGS], for instance: suite 05 05-epoll/server --edge\n");
        return 2;
    }
    const char *sanitizers = getenv("SAN"), *client = getenv("CLIENT");
    subject = (struct subject){.chapter = (int)strtol(argv[1], NULL, 10),
                               .server = argv[2],
                               .args = argc > 3 ? argv[3] : "",
                               .client = client && *client ? client : NULL,
                               .slow_peer = getenv("SLOW_PEER"),
                               .sanitized = sanitizers && *sanitizers};
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    SRunner *runner = srunner_create(command_line_suite());
    srunner_add_suite(runner, echo_suite());
    srunner_add_suite(runner, lesson_suite());
    if (subject.client)
        srunner_add_suite(runner, client_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
