/*
 * suite CHAPTER SERVER [ARGS]: runs the tests that a chapter's server has to pass, on any program.
 * The environment may name CLIENT and SLOW_PEER, for the tests of the chapter's client, and SAN.
 */
#include "suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr,
                "suite CHAPTER SERVER [ARGS], for instance: suite 05 05-epoll/server --edge\n"
                "CHAPTER echo: any echo server, without a chapter's lesson\n");
        return 2;
    }
    const char *sanitizers = getenv("SAN"), *client = getenv("CLIENT");
    bool echo_only = strcmp(argv[1], "echo") == 0;
    subject = (struct subject){.chapter = echo_only ? 5 : (int)strtol(argv[1], NULL, 10),
                               .server = argv[2],
                               .args = argc > 3 ? argv[3] : "",
                               .client = client && *client ? client : NULL,
                               .slow_peer = getenv("SLOW_PEER"),
                               .sanitized = sanitizers && *sanitizers};
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    SRunner *runner = srunner_create(every_server_suite());
    srunner_add_suite(runner, start_end_suite());
    if (subject.chapter < FIRST_HTTP_CHAPTER) {
        srunner_add_suite(runner, echo_suite());
        if (!echo_only)
            srunner_add_suite(runner, lesson_suite());
    } else {
        srunner_add_suite(runner, http_syntax_suite());
        srunner_add_suite(runner, http_suite());
        srunner_add_suite(runner, event_loop_suite());
        srunner_add_suite(runner, fetch_suite());
        /* once: what it looks at does not depend on the back end, or on threads */
        if (!*subject.args && !thread_sanitizer())
            srunner_add_suite(runner, matrix_suite());
    }
    if (subject.chapter >= 8)
        srunner_add_suite(runner, pool_server_suite());
    if (subject.chapter >= 9)
        srunner_add_suite(runner, offload_server_suite());
    if (subject.client)
        srunner_add_suite(runner, client_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
