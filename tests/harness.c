#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <dirent.h>
#include <sys/prctl.h>
#endif

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "harness: %s: %s\n", what, strerror(errno));
    exit(1);
}

int patience(void)
{
    const char *seconds = getenv("PATIENCE");
    return seconds ? (int)strtol(seconds, NULL, 10) : 20;
}

double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int lines_in(const char *text)
{
    int lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

void sleep_for(double seconds)
{
    struct timespec time = {.tv_sec = (time_t)seconds};
    time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
    while (nanosleep(&time, &time) < 0 && errno == EINTR)
        ;
}

/* --- processes --- */

void (*process_prepare)(void);

static void run_child(const char *const argv[], int output, int errors, int max_descriptors)
{
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
#ifdef PR_SET_PTRACER
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY); /* for strace_attach() */
#endif
    if (dup2(output, STDOUT_FILENO) < 0 || dup2(errors, STDERR_FILENO) < 0)
        die("dup2");
    /* Signals ignored by whoever runs the tests (nohup, a shell's &) stay ignored across exec. */
    signal(SIGINT, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    if (max_descriptors > 0) {
        struct rlimit limit;
        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur =
            (rlim_t)max_descriptors; /* the hard limit stays: a test may raise it again */
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            die("setrlimit");
    }
    if (process_prepare)
        process_prepare();
    execv(argv[0], (char *const *)argv);
    die(argv[0]);
}

struct process process_start(const char *const argv[], int max_descriptors)
{
    int output[2], errors[2], begun[2];
    if (pipe(output) < 0 || pipe(errors) < 0 || pipe(begun) < 0)
        die("pipe");
    for (int i = 0; i < 2; i++) { /* what this program has open is not the child's business */
        fcntl(output[i], F_SETFD, FD_CLOEXEC);
        fcntl(errors[i], F_SETFD, FD_CLOEXEC);
        fcntl(begun[i], F_SETFD, FD_CLOEXEC);
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        run_child(argv, output[1], errors[1], max_descriptors);
    close(output[1]);
    close(errors[1]);
    /* Not before the program has taken the child's place, which closes the last writing end: a
     * signal would meet this program's handlers there. */
    close(begun[1]);
    while (read(begun[0], &(char){0}, 1) < 0 && errno == EINTR)
        ;
    close(begun[0]);
    fcntl(output[0], F_SETFL, O_NONBLOCK);
    fcntl(errors[0], F_SETFL, O_NONBLOCK);
    return (struct process){
        .pid = pid, .output_fd = output[0], .errors_fd = errors[0], .status = -1};
}

/* Appends what the pipe holds to text. Returns false at its end of file. Of a program that prints
 * without end it takes a share, or this would have no end, either. */
static bool read_into(int fd, char *text)
{
    for (int share = 0; share < 1000; share++) {
        size_t length = strlen(text);
        char spill[256];
        bool full = length + 1 >= OUTPUT_MAX; /* keep reading, or the program blocks */
        ssize_t n =
            full ? read(fd, spill, sizeof spill) : read(fd, text + length, OUTPUT_MAX - 1 - length);
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        if (!full)
            text[length + (size_t)n] = '\0';
    }
    return true;
}

void process_read_output(struct process *process)
{
    read_into(process->output_fd, process->output);
    read_into(process->errors_fd, process->errors);
}

int process_listening(struct process *process)
{
    const char *words = "listening on ";
    for (double end = now() + patience(); now() < end;) {
        bool open = read_into(process->output_fd, process->output);
        const char *line = strstr(process->output, words);
        if (line && strchr(line, '\n')) {
            const char *colon = strchr(line, ':');
            return process->port = colon ? (int)strtol(colon + 1, NULL, 10) : -1;
        }
        if (!open) /* it has ended; why is on its stderr */
            break;
        poll(&(struct pollfd){.fd = process->output_fd, .events = POLLIN}, 1, 100);
    }
    read_into(process->errors_fd, process->errors);
    return -1;
}

struct process process_start_words(const char *path, const char *args, int max_descriptors)
{
    char words[4096] = "", *rest = words;
    const char *argv[512] = {path};
    int count = 1;
    snprintf(words, sizeof words, "%s", args ? args : "");
    for (char *word; (word = strsep(&rest, " ")) != NULL && count < 511;)
        if (*word)
            argv[count++] = word;
    return process_start(argv, max_descriptors);
}

struct process server_start(const char *path, const char *args, int max_descriptors)
{
    char words[256];
    snprintf(words, sizeof words, "%s 0", args ? args : "");
    struct process process = process_start_words(path, words, max_descriptors);
    if (process_listening(&process) < 0) {
        fprintf(stderr, "harness: %s did not start: %s\n", path, process.errors);
        process_end(&process, SIGKILL);
        exit(1);
    }
    return process;
}

bool process_ends_within(const struct process *process, double seconds)
{
    siginfo_t info = {0};
    for (double end = now() + seconds;; sleep_for(0.002)) {
        if (waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOWAIT | WNOHANG) < 0)
            return false;
        if (info.si_pid != 0 || now() >= end)
            return info.si_pid != 0;
    }
}

bool thread_sanitizer(void)
{
    const char *sanitizers = getenv("SAN");
    return sanitizers && strstr(sanitizers, "thread");
}

int process_end(struct process *process, int signal_number)
{
    if (signal_number)
        kill(process->pid, signal_number);
    int status = 0;
    pid_t ended = 0;
    double start = now(), rung = start;
    while ((ended = waitpid(process->pid, &status, WNOHANG)) == 0 && now() < start + patience()) {
        process_read_output(process);
        sleep_for(0.002);
        /* a signal just before the wait is kept until the next one: ring again */
        if (signal_number && thread_sanitizer() && now() > rung + 1) {
            kill(process->pid, signal_number);
            rung = now();
        }
    }
    if (ended == 0) {
        kill(process->pid, SIGKILL);
        waitpid(process->pid, &status, 0);
    }
    process_read_output(process);
    close(process->output_fd);
    close(process->errors_fd);
    return process->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

struct process strace_attach(pid_t pid, const char *options)
{
    char command[512];
    snprintf(command, sizeof command, "strace -f %s -p %ld", options, (long)pid);
    struct process strace = process_start_words("/usr/bin/env", command, 0);
    for (double end = now() + patience(); now() < end && !strstr(strace.errors, "attached");
         sleep_for(0.005)) {
        bool ended = process_ends_within(&strace, 0);
        process_read_output(&strace);
        if (ended && !strstr(strace.errors, "attached")) {
            process_end(&strace, 0);
            return strace;
        }
    }
    if (!strstr(strace.errors, "attached"))
        process_end(&strace, SIGKILL);
    return strace;
}

double process_cpu(pid_t pid)
{
#if !defined __APPLE__ /* which has no such clock */
    clockid_t clock;
    struct timespec time;
    if (clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &time) == 0)
        return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
#endif
    (void)pid;
    return -1;
}

double process_cpu_share(pid_t pid, double seconds)
{
    double start = now(), before = process_cpu(pid);
    sleep_for(seconds);
    double after = process_cpu(pid);
    return before < 0 ? -1 : (after - before) / (now() - start);
}

/* Seconds that the process has run, and has been waiting for a CPU: see proc(5), schedstat. */
static double runnable_time(pid_t pid)
{
    char path[64], line[128] = "";
    snprintf(path, sizeof path, "/proc/%ld/schedstat", (long)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return -1;
    char *rest = line;
    double ran = fgets(line, sizeof line, file) ? strtod(line, &rest) : 0;
    fclose(file);
    return (ran + strtod(rest, NULL)) / 1e9;
}

double process_runnable_share(pid_t pid, double seconds)
{
    double start = now(), before = runnable_time(pid);
    sleep_for(seconds);
    double after = runnable_time(pid);
    return before < 0 ? -1 : (after - before) / (now() - start);
}

const char *process_status(pid_t pid, const char *field)
{
    static char line[256];
    char path[64];
    const char *value = "";
    size_t length = strlen(field);
    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *file = fopen(path, "r");
    while (file && *value == '\0' && fgets(line, sizeof line, file))
        if (strncmp(line, field, length) == 0 && line[length] == ':')
            value = line + length + 1 + strspn(line + length + 1, " \t");
    if (file)
        fclose(file);
    return value;
}

long process_memory_kib(pid_t pid)
{
    const char *resident = process_status(pid, "RssAnon");
    return *resident ? strtol(resident, NULL, 10) : -1;
}

int process_descriptors(pid_t pid)
{
    int count = -1;
#ifdef __linux__
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/fd", (long)pid);
    DIR *folder = opendir(path);
    if (folder) {
        count = 0;
        while (readdir(folder))
            count++;
        count -= 2; /* "." and ".." */
        closedir(folder);
    }
#else
    (void)pid;
#endif
    return count;
}

int raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        die("getrlimit");
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0) /* some systems name a maximum they refuse */
            getrlimit(RLIMIT_NOFILE, &limit);
    }
    return limit.rlim_cur > 1000000 ? 1000000 : (int)limit.rlim_cur;
}

/* --- clients --- */

int client_connect(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = patience()};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        return -1;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

bool client_send(int fd, const void *bytes, size_t length)
{
    for (size_t sent = 0; sent < length;) {
        ssize_t n = send(fd, (const char *)bytes + sent, length - sent, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        sent += (size_t)n;
    }
    return true;
}

bool client_receive(int fd, void *bytes, size_t length)
{
    for (size_t got = 0; got < length;) {
        ssize_t n = recv(fd, (char *)bytes + got, length - got, 0);
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

bool client_echo(int fd, const char *text)
{
    char back[256];
    size_t length = strlen(text);
    return length <= sizeof back && client_send(fd, text, length) &&
           client_receive(fd, back, length) && memcmp(text, back, length) == 0;
}

bool client_at_eof(int fd)
{
    char byte;
    return recv(fd, &byte, 1, 0) == 0;
}

bool client_has_input(int fd, double seconds)
{
    return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, (int)(seconds * 1000)) == 1;
}

void client_reset(int fd)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}

bool client_exchange(int fd, const char *bytes, size_t length, size_t cut)
{
    size_t sent = 0, got = 0;
    char back[16 * 1024];
    while (got < length) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (sent < length)
            wait.events |= POLLOUT;
        if (poll(&wait, 1, patience() * 1000) <= 0)
            return false;
        if (wait.revents & (POLLIN | POLLHUP | POLLERR)) {
            ssize_t n = recv(fd, back, sizeof back, MSG_DONTWAIT);
            if (n == 0 || (n < 0 && errno != EAGAIN))
                return false;
            if (n > 0 && ((size_t)n > length - got || memcmp(back, bytes + got, (size_t)n) != 0))
                return false;
            got += n > 0 ? (size_t)n : 0;
        }
        if (wait.revents & POLLOUT) {
            size_t piece = 1 + (size_t)rand() % cut;
            if (piece > length - sent)
                piece = length - sent;
            ssize_t n = send(fd, bytes + sent, piece, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN)
                return false;
            sent += n > 0 ? (size_t)n : 0;
        }
    }
    return true;
}
