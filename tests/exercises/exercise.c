#include "exercise.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RACED = 66 }; /* ThreadSanitizer's exit status */

static const size_t MIB = 1 << 20;

/* --- the program --- */

/* What a wait status or an exit status (128 + N: signal N) means. */
static const char *describe_end(int status)
{
    static char text[256];
    if (status > 128)
        snprintf(text, sizeof text, "was ended by signal %d (%s)", status - 128,
                 strsignal(status - 128));
    else
        snprintf(text, sizeof text, "ended with exit status %d", status);
    return text;
}

/* True, and why in text, if the server has ended. */
static bool has_ended(char *text, size_t size)
{
    siginfo_t end = {0};
    if (server.pid <= 0 || server.status >= 0 ||
        waitid(P_PID, (id_t)server.pid, &end, WEXITED | WNOHANG | WNOWAIT) < 0 || end.si_pid == 0)
        return false;
    process_read_output(&server);
    size_t length = strlen(server.errors), shown = length > 300 ? 300 : length;
    int status = end.si_code == CLD_EXITED ? end.si_status : 128 + end.si_status;
    snprintf(text, size, " (the program %s%s%s)", describe_end(status), shown ? ": " : "",
             server.errors + length - shown);
    return true;
}

const char *obituary(void)
{
    static char text[1024];
    for (int i = 0; i < 10 && !has_ended(text, sizeof text); i++)
        sleep_for(0.02); /* its connections end a moment earlier than itself */
    return text;
}

void start(const char *args)
{
    char words[256];
    snprintf(words, sizeof words, "%s 0", args);
    server = process_start_words(subject.server, words, 0);
    expect(process_listening(&server) > 0,
           "started with '%s', it did not print 'listening on ADDR:PORT' within %d s", words,
           patience());
}

void run_program(const char *args, double seconds)
{
    server = process_start_words(subject.server, args, 0);
    siginfo_t end = {0};
    for (double limit = now() + seconds; now() < limit && end.si_pid == 0; sleep_for(0.01)) {
        process_read_output(&server);
        waitid(P_PID, (id_t)server.pid, &end, WEXITED | WNOHANG | WNOWAIT);
    }
    expect(end.si_pid != 0, "run with '%.100s', it had not ended after %.1f s", args, seconds);
    process_end(&server, 0);
}

bool start_racing(const char *args)
{
    if (!subject.racing)
        return false;
    const char *plain = subject.server;
    subject.server = subject.racing;
    start(args);
    subject.server = plain;
    return true;
}

void end_racing(void)
{
    char function[64] = "?", path[128] = "?";
    int status = process_end(&server, SIGTERM);
    const char *race = strstr(server.errors, "data race");
    const char *frame = race ? strstr(race, "#0 ") : NULL;
    if (frame)
        sscanf(frame, "#0 %63s %127s", function, path);
    const char *slash = strrchr(path, '/');
    expect(!race,
           "two threads use the same memory at the same time, without a lock, and one of them "
           "writes: ThreadSanitizer saw it in %s(), %s",
           function, slash ? slash + 1 : path);
    const char *warning = strstr(server.errors, "ThreadSanitizer: ");
    expect(status != RACED, "ThreadSanitizer says '%.200s'", warning ? warning : server.errors);
    expect(status == 0, "after SIGTERM it %s: %.200s", describe_end(status), server.errors);
}

void finish_check(void)
{
    if (server.pid <= 0 || server.status >= 0)
        return;
    char text[1024];
    expect(!has_ended(text, sizeof text), "at the end of the check it did not run any more");
    double start = now();
    int status = process_end(&server, SIGTERM);
    expect(status != 128 + SIGKILL || now() - start < patience(),
           "it was still running %d s after SIGTERM", patience());
    expect(status == 0, "after SIGTERM it %s, and not with 0; stderr: %.250s", describe_end(status),
           server.errors);
}

/* --- shared checks --- */

static void exchange_some(int fd, size_t length, size_t cut)
{
    expect(client_exchange(fd, pattern(length), length, cut),
           "of %zu bytes, sent in pieces of up to %zu, not all came back as they were sent", length,
           cut);
}

void echoes_exactly(const char *args)
{
    start(args);
    int fd = connect_client(), silent = connect_client();
    srand(1);
    close(silent);
    exchange_some(fd, 5000, 7);
    exchange_some(fd, 300000, 100000);
    shutdown(fd, SHUT_WR);
    expect(client_at_eof(fd), "a client half-closed, but after its bytes came no end of file");
    close(fd);

    fd = connect_client();
    size_t sent = send_until_stuck(fd, pattern(16 * MIB), 16 * MIB);
    shutdown(fd, SHUT_WR);
    char *back = malloc(sent + 1);
    ck_assert_ptr_nonnull(back);
    size_t got = 0;
    for (ssize_t n; got <= sent && (n = recv(fd, back + got, sent + 1 - got, 0)) > 0;)
        got += (size_t)n;
    expect(got == sent && memcmp(back, pattern(sent), sent) == 0,
           "after the client half-closed, %zu of %zu bytes came back%s", got, sent,
           got == sent ? ", but not the right ones" : "");
    free(back);
    close(fd);
}

void ends_in_order(const char *args)
{
    char expected[128];
    bool http = subject.chapter >= FIRST_HTTP_CHAPTER;
    start(args);
    for (int i = 0; i < 3; i++) {
        int fd = connect_client();
        expect(http ? is_served(fd) : client_echo(fd, "ten bytes!"), "client %d is not served",
               i + 1);
        shutdown(fd, SHUT_WR);
        expect(client_at_eof(fd), "client %d half-closed, and saw no end of file", i + 1);
        close(fd);
    }
    int status = process_end(&server, SIGTERM);
    expect(status == 0, "after SIGTERM it %s, and not with 0; stderr: %.250s", describe_end(status),
           server.errors);
    snprintf(expected, sizeof expected, "listening on 127.0.0.1:%d\nserved 3 %s\n", server.port,
             http ? "requests" : "clients, 30 bytes");
    expect(
        strcmp(server.output, expected) == 0,
        "3 clients later, '%s' was expected on stdout, but there was '%.200s' (are the totals in "
        "memory that all share who count?)",
        expected, server.output);
}

/* --- /proc --- */

/* The value of that field in /proc/PID/status; -1 if there is none. */
static long status_field(pid_t pid, const char *name)
{
    char path[64], line[256];
    long value = -1;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
            value = strtol(line + strlen(name) + 1, NULL, 10);
    if (file)
        fclose(file);
    return value;
}

int process_children(pid_t pid, pid_t pids[], int room)
{
    int count = 0;
    DIR *folder = opendir("/proc");
    if (!folder || status_field(getpid(), "PPid") < 0) {
        if (folder)
            closedir(folder);
        return -1;
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        pid_t child = (pid_t)strtol(entry->d_name, NULL, 10);
        if (child <= 0 || status_field(child, "PPid") != pid)
            continue;
        if (count < room)
            pids[count] = child;
        count++;
    }
    closedir(folder);
    return count;
}

bool process_is_zombie(pid_t pid)
{
    char path[64], line[256];
    bool zombie = false;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        zombie = zombie || strncmp(line, "State:\tZ", 8) == 0;
    if (file)
        fclose(file);
    return zombie;
}

int process_threads(pid_t pid)
{
    return (int)status_field(pid, "Threads");
}

long process_switches(pid_t pid)
{
    return status_field(pid, "voluntary_ctxt_switches");
}

int process_has(pid_t pid, const char *kind)
{
    char path[64], target[256];
    int count = 0;
    snprintf(path, sizeof path, "/proc/%ld/fd", (long)pid);
    DIR *folder = opendir(path);
    if (!folder)
        return -1;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        ssize_t length = readlinkat(dirfd(folder), entry->d_name, target, sizeof target - 1);
        if (length < 0)
            continue;
        target[length] = '\0';
        count += strncmp(target, kind, strlen(kind)) == 0;
    }
    closedir(folder);
    return count;
}
