/* What every echo server owes its clients, whatever is inside. */
#include "suite.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PLENTY = 120 }; /* seconds a test may take on a slow, busy machine */
static const size_t MIB = 1 << 20;

/* --- the bytes --- */

static const size_t lengths[] = {1,     2,      256,     4095,    65535,   65536,
                                 65537, 300000, 1 << 20, 8 << 20, 32 << 20};

START_TEST(bytes_come_back_exactly)
{
    size_t length = lengths[_i];
    int fd = connect_client();
    srand((unsigned)length);
    ck_assert(client_exchange(fd, pattern(length), length, length < 1000 ? 7 : length / 3));
    ck_assert_msg(!client_has_input(fd, 0.02), "more came back than was sent");
    shutdown(fd, SHUT_WR);
    ck_assert(client_at_eof(fd));
    close(fd);
}
END_TEST

START_TEST(byte_by_byte)
{
    int fd = connect_client();
    ck_assert(client_exchange(fd, pattern(20000), 20000, 1));
    close(fd);
}
END_TEST

/* A client that says "that was all" while much is still on its way gets all of it, then the end. */
START_TEST(half_close_gets_all_that_is_owed)
{
    static const size_t sizes[] = {0, 1, 70000, 64 << 20};
    int fd = connect_client();
    size_t sent = send_until_stuck(fd, pattern(sizes[_i]), sizes[_i]);
    shutdown(fd, SHUT_WR);
    sleep_for(0.1); /* let the end arrive before the first byte is taken */
    char *back = malloc(sent + 1);
    ck_assert_ptr_nonnull(back);
    ck_assert_msg(client_receive(fd, back, sent), "not all of %zu bytes came back", sent);
    ck_assert(sent == 0 || memcmp(back, pattern(sent), sent) == 0);
    ck_assert(client_at_eof(fd));
    free(back);
    close(fd);
}
END_TEST

/* --- clients that behave badly --- */

/* Clients that end in the worst moments; after each, somebody else is served. */
START_TEST(rude_clients_end_alone)
{
    for (int i = 0; i < 60; i++) {
        int rude = connect_client();
        if (i % 3 == 0) /* owes us nothing, we owe it much */
            send_until_stuck(rude, pattern(MIB), (size_t)(i + 1) * 10000);
        else if (i % 3 == 1)
            client_send(rude, "hello", 5); /* and no look at the answer */
        if (i % 2)
            client_reset(rude);
        else
            close(rude); /* with unread bytes, that is a reset, too: after ours have gone out */
        int polite = connect_client();
        ck_assert_msg(client_echo(polite, "still there?"), "after rude client %d", i);
        close(polite);
    }
}
END_TEST

/* Sends 64 MiB and does not read: the server must not collect that, nor spin, nor forget others. */
START_TEST(back_pressure)
{
    size_t length = 64 * MIB;
    int warm = connect_client(), fd = connect_client();
    ck_assert(client_echo(warm, "first use of the heap"));
    if (subject.chapter == 1)
        close(warm); /* or the other would never have its turn */
    long before = process_memory_kib(server.pid);
    size_t sent = send_until_stuck(fd, pattern(length), length);
    if (before >= 0 && !subject.sanitized) {
        long grown = process_memory_kib(server.pid) - before;
        ck_assert_msg(grown < 1024, "%ld KiB grown for one client that does not read", grown);
    }
    if (subject.chapter > 1)
        for (int i = 0; i < 100; i++)
            ck_assert_msg(client_echo(warm, "meanwhile"), "held up by a client that does not read");
    if (subject.chapter != 2) {
        double share = process_cpu_share(server.pid, 0.5);
        ck_assert_msg(share < 0.2, "%.0f %% CPU while nobody reads or sends", share * 100);
    }
    char *back = malloc(sent);
    ck_assert_ptr_nonnull(back);
    ck_assert_msg(client_receive(fd, back, sent), "not all of %zu bytes came back", sent);
    ck_assert_msg(memcmp(back, pattern(sent), sent) == 0, "other bytes came back");
    ck_assert_msg(client_echo(fd, "and on"), "not read again after its bytes were taken");
    if (subject.chapter != 2) /* write interest must be gone with what was waiting */
        ck_assert(process_cpu_share(server.pid, 0.5) < 0.2);
    free(back);
    close(fd);
}
END_TEST

/* Buffers are for bytes that are owed: with those, they go. */
START_TEST(buffers_are_given_back)
{
    enum { SLOW = 8 };
    int fds[SLOW];
    size_t sent[SLOW];
    char *back = malloc(16 * MIB);
    ck_assert_ptr_nonnull(back);
    long before = process_memory_kib(server.pid);
    for (int i = 0; i < SLOW; i++) {
        fds[i] = connect_client();
        sent[i] = send_until_stuck(fds[i], pattern(16 * MIB), 16 * MIB);
    }
    for (int i = 0; i < SLOW; i++) {
        ck_assert(client_receive(fds[i], back, sent[i]));
        if (subject.chapter == 1)
            close(fds[i]);
    }
    sleep_for(0.1);
    long grown = process_memory_kib(server.pid) - before;
    ck_assert_msg(before < 0 || subject.sanitized || grown < SLOW * 64 / 2,
                  "%ld KiB are still held for %d clients that are owed nothing", grown, SLOW);
    free(back);
}
END_TEST

/* --- many clients --- */

START_TEST(clients_interleaved)
{
    enum { CLIENTS = 500 };
    int fds[CLIENTS];
    char back[3000];
    size_t together = subject.chapter == 1 ? 1 : CLIENTS; /* chapter 01 takes one at a time */
    for (size_t first = 0; first < CLIENTS; first += together) {
        for (size_t i = first; i < first + together; i++)
            fds[i] = connect_client();
        for (int round = 0; round < 3; round++) {
            for (size_t i = first; i < first + together; i++)
                ck_assert(client_send(fds[i], pattern(9000) + i * 3, 1 + i * 5));
            for (size_t i = first + together; i-- > first;) { /* the other way round */
                ck_assert(client_receive(fds[i], back, 1 + i * 5));
                ck_assert_msg(memcmp(back, pattern(9000) + i * 3, 1 + i * 5) == 0,
                              "client %zu got other bytes than its own", i);
            }
        }
        for (size_t i = first; i < first + together; i++)
            close(fds[i]);
    }
}
END_TEST

START_TEST(bulk_clients_at_once)
{
    int clients = subject.chapter == 1 ? 2 : 8;
    for (int i = 0; i < clients; i++)
        if (fork() == 0) {
            size_t length = (size_t)(i + 1) * MIB;
            int fd = client_connect(server.port);
            srand((unsigned)i);
            _exit(fd >= 0 && client_exchange(fd, pattern(length), length, 100000) ? 0 : 1);
        }
    for (int i = 0; i < clients; i++) {
        int status;
        ck_assert(wait(&status) > 0);
        ck_assert_msg(status == 0, "a client did not get its bytes back");
    }
}
END_TEST

START_TEST(nothing_is_left_of_those_who_leave)
{
    int fd = connect_client();
    ck_assert(client_echo(fd, "first"));
    close(fd);
    sleep_for(0.1);
    int before = process_descriptors(server.pid);
    long memory = process_memory_kib(server.pid);
    for (int i = 0; i < 5000; i++) {
        fd = connect_client();
        if (i % 50 == 0)
            ck_assert(client_echo(fd, "hello"));
        else if (i % 50 == 1)
            send_until_stuck(fd, pattern(MIB), 100000);
        client_reset(fd);
    }
    ck_assert_msg(descriptors_become(before), "%d descriptors open before, %d after", before,
                  process_descriptors(server.pid));
    long grown = process_memory_kib(server.pid) - memory;
    ck_assert_msg(subject.sanitized || grown < 1024, "%ld KiB left after 5,000 clients", grown);
}
END_TEST

Suite *echo_suite(void)
{
    Suite *suite = suite_create("echo");
    TCase *bytes = tcase_create("bytes");
    tcase_set_timeout(bytes, PLENTY);
    tcase_add_checked_fixture(bytes, start_server, stop_server);
    tcase_add_loop_test(bytes, bytes_come_back_exactly, 0, sizeof lengths / sizeof *lengths);
    tcase_add_test(bytes, byte_by_byte);
    tcase_add_loop_test(bytes, half_close_gets_all_that_is_owed, 0, 4);
    suite_add_tcase(suite, bytes);

    TCase *clients = tcase_create("clients");
    tcase_set_timeout(clients, PLENTY);
    tcase_add_checked_fixture(clients, start_server, stop_server);
    tcase_add_test(clients, rude_clients_end_alone);
    tcase_add_test(clients, back_pressure);
    tcase_add_test(clients, buffers_are_given_back);
    tcase_add_test(clients, clients_interleaved);
    tcase_add_test(clients, bulk_clients_at_once);
    tcase_add_test(clients, nothing_is_left_of_those_who_leave);
    suite_add_tcase(suite, clients);
    return suite;
}
