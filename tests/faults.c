/*
 * faults calls|memory CHAPTER SERVER [OPTIONS]: what becomes of a server when the system refuses it
 * something. Learns what the server asks the system for while a few clients talk to it; then runs
 * the same again and again, each time with one fault more:
 *
 *   calls   one system call fails once, with an error that its man page names, or SIGTERM comes in
 *           that moment; or all calls of that name fail for a while (strace does that);
 *   memory  one allocation fails, or several in a row (faults_alloc.c does that).
 *
 * Allowed are: a start that fails with exit status 1 and one line on stderr, instead of the line
 * "listening on"; or, for each fault, the end of one client. No client may wait for ever; when the
 * fault is over, a new client is served, the server does not spin, SIGTERM ends it with exit status
 * 0, and it has said no more than one line on stderr.
 *
 * Prints TAP. In the environment: FAULTS=all for all of the faults instead of a share of them,
 * FAULTS='recvfrom EIO' for those whose name contains that; FAULT_JOBS=N at once (default 4).
 */
#include "harness.h"
#include "http_client.h"
#include "suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Seconds in which SIGTERM ends a server. Its promise is one; the others are for slow machines. */
enum { SOON = 8 };
/* How long all calls fail. A server that waits between its tries makes nowhere near so many. */
enum { PHASE_MS = 250, MANY_CALLS = 400 };
enum { SHARE = 4 };        /* one fault in so many is tried, unless FAULTS=all */
enum { MEMORY_MAX = 300 }; /* the last allocation that fails: 02 goes on as long as it runs */
enum { ONCE_MAX = 13 };    /* the last repetition of a call that fails */

/* What goes wrong. */
struct fault {
    char name[80];
    const char *call,
        *error; /* as strace knows them; error SIGTERM: that signal; call NULL: memory */
    int when;   /* the number of the call, from 1 on; 0: all of them for a while */
    int many;   /* memory: how many in a row */
    bool ended; /* when 0: SIGTERM comes while they fail */
};

/* --- which calls fail, and how --- */

static const struct {
    const char *call, *errors;
} failures[] = {
    {"accept", "EAGAIN ECONNABORTED EINTR EINVAL EIO EMFILE ENFILE ENOBUFS ENOMEM EPERM EPROTO"},
    {"accept4", "EAGAIN ECONNABORTED EINTR EINVAL EIO EMFILE ENFILE ENOBUFS ENOMEM EPERM EPROTO"},
    {"bind", "EACCES EADDRINUSE EADDRNOTAVAIL"},
    {"clock_nanosleep", "EINTR EINVAL"},
    {"clone", "EAGAIN ENOMEM"},
    {"clone3", "EAGAIN ENOMEM"},
    {"connect", "EACCES EADDRNOTAVAIL EAGAIN ECONNREFUSED EINTR ENETUNREACH ETIMEDOUT"},
    {"dup", "EMFILE"},
    {"dup2", "EMFILE EINTR"},
    {"dup3", "EMFILE EINTR"},
    {"epoll_create1", "EMFILE ENFILE ENOMEM"},
    {"epoll_ctl", "ENOMEM ENOSPC"},
    {"epoll_pwait", "EINTR EINVAL ENOMEM"},
    {"epoll_wait", "EINTR EINVAL ENOMEM"},
    {"eventfd2", "EMFILE ENFILE ENOMEM"},
    {"execve", "EACCES EAGAIN ENOMEM"},
    {"fcntl", "EMFILE EPERM"},
    {"fork", "EAGAIN ENOMEM"},
    {"fstat", "EIO ENOMEM"},
    {"getdents64", "EIO"},
    {"getpeername", "ENOBUFS ENOTCONN"},
    {"getsockname", "ENOBUFS"},
    {"getsockopt", "ENOBUFS ENOPROTOOPT"},
    {"ioctl", "EINVAL"},
    {"kill", "EPERM ESRCH"},
    {"listen", "EADDRINUSE EOPNOTSUPP"},
    {"newfstatat", "EACCES EIO ENOMEM"},
    {"openat", "EACCES EINTR EIO ELOOP EMFILE ENFILE ENOENT ENOMEM"},
    {"openat2", "EACCES EINTR EIO ELOOP EMFILE ENFILE ENOENT ENOMEM ENOSYS"},
    {"pipe2", "EMFILE ENFILE"},
    {"poll", "EINTR EINVAL ENOMEM"},
    {"ppoll", "EINTR EINVAL ENOMEM"},
    {"prctl", "EINVAL"},
    {"pread64", "EINTR EIO"},
    {"prlimit64", "EPERM"},
    {"pselect6", "EINTR EINVAL ENOMEM"},
    {"read", "EAGAIN EINTR EIO"},
    {"readlink", "EACCES ENOENT"},
    {"recvfrom", "EAGAIN ECONNRESET EINTR ENOMEM ETIMEDOUT"},
    {"recvmsg", "EAGAIN ECONNRESET EINTR EMFILE ENOMEM"},
    {"sched_getaffinity", "EPERM"},
    {"sendmsg", "EAGAIN ECONNRESET EINTR ENOBUFS ENOMEM EPIPE ETOOMANYREFS"},
    {"sendto", "EAGAIN ECONNRESET EINTR ENOBUFS ENOMEM EPIPE"},
    {"setitimer", "EINVAL"},
    {"setsockopt", "ENOBUFS ENOPROTOOPT"},
    {"socket", "EACCES EMFILE ENFILE ENOBUFS ENOMEM"},
    {"socketpair", "EMFILE ENFILE ENOMEM"},
    {"timerfd_create", "EMFILE ENFILE ENOMEM"},
    {"timerfd_settime", "ECANCELED"},
    {"vfork", "EAGAIN ENOMEM"},
    {"wait4", "ECHILD EINTR"},
    {"waitid", "ECHILD EINTR"},
    {"write", "EINTR EIO ENOSPC EPIPE"}, /* not EAGAIN: a pipe that is full wakes its reader */
    /* No fault of these, only the signal: a call that is refused without being made is another
     * thing than its failure, which frees the descriptor or ends the connection, too; or it cannot
     * fail the way it is called. */
    {"alarm", ""},
    {"close", ""},
    {"getpid", ""},
    {"getppid", ""},
    {"gettid", ""},
    {"lseek", ""},
    {"rt_sigaction", ""},
    {"rt_sigprocmask", ""},
    {"shutdown", ""},
    {"sched_yield", ""},
    /* Not tried: the loader's and the allocator's (memory has faults of its own); what cannot fail,
     * and has no moment of its own for a signal: the end, the locks, what a thread begins with. */
    {"access", NULL},
    {"arch_prctl", NULL},
    {"brk", NULL},
    {"exit", NULL},
    {"exit_group", NULL},
    {"futex", NULL},
    {"getrandom", NULL},
    {"madvise", NULL},
    {"mmap", NULL},
    {"mprotect", NULL},
    {"mremap", NULL},
    {"munmap", NULL},
    {"restart_syscall", NULL},
    {"rseq", NULL},
    {"rt_sigreturn", NULL},
    {"set_robust_list", NULL},
    {"set_tid_address", NULL},
};

/* What a kernel would not say for ever. */
static bool may_last(const char *call, const char *error)
{
    bool accepts = strncmp(call, "accept", 6) == 0;
    return strcmp(error, "SIGTERM") != 0 && strcmp(error, "EAGAIN") != 0 &&
           (accepts || strcmp(error, "EINTR") != 0);
}

/* A spurious EAGAIN, or EINTR where nothing blocks, does not come from a kernel; and the promise of
 * edge-triggered events is that these errors mean "you will be told again". */
static bool possible(const char *call, const char *error)
{
    bool later = strcmp(error, "EAGAIN") == 0 ||
                 (strcmp(error, "EINTR") == 0 && strncmp(call, "accept", 6) != 0);
    return !(later && strstr("accept accept4 recvfrom sendto", call) &&
             strstr(subject.args, "--edge"));
}

/* --- what an experiment finds --- */

static char problem[256]; /* what the server did wrong first; "": nothing */

static void expect(bool held, const char *what)
{
    if (!held && !*problem)
        snprintf(problem, sizeof problem, "%s", what);
}

/* --- the clients: each returns whether it was served --- */

static bool greets(int port)
{
    int fd = client_connect(port);
    bool served =
        fd >= 0 && client_echo(fd, "hello") && shutdown(fd, SHUT_WR) == 0 && client_at_eof(fd);
    close(fd);
    return served;
}

/* More than the sockets between the two hold: the server has to wait for this client, too. */
static bool sends_much(int port)
{
    enum { MUCH = 1 << 20, PIECE = 1 << 17 };
    static char bytes[MUCH];
    for (size_t i = 0; i < MUCH; i++)
        bytes[i] = (char)(i ^ i >> 8);
    int fd = client_connect(port);
    bool served = fd >= 0 && client_exchange(fd, bytes, MUCH, PIECE);
    close(fd);
    return served;
}

static bool leaves(int port)
{
    int fd = client_connect(port);
    if (fd >= 0 && client_send(fd, "x", 1))
        client_reset(fd);
    return true;
}

/* Any answer will do: which one is right when the system refuses something, other suites say. */
static bool asks(int port, const char *request, bool keeps)
{
    char text[512];
    struct http_client client = http_connect(port);
    snprintf(text, sizeof text, request, port);
    bool served = client.fd >= 0 && http_send(&client, text) && http_receive(&client) > 0 &&
                  (!keeps || client.closes || http_get(&client, "/health") > 0);
    http_close(&client);
    return served;
}

#define GET(target) "GET " target " HTTP/1.1\r\nHost: localhost\r\n\r\n"
static const struct {
    int from; /* the first chapter that answers it */
    const char *request;
} requests[] = {
    {7, GET("/")},
    {7, GET("/perfect-ping?ms=5")},
    {7, GET("/fetch?host=127.0.0.1&port=%d&path=/health&timeout_ms=2000")},
    {8, GET("/good-ping?ms=5")},
    {8, GET("/files/hello.txt")},
    {8, GET("/fetch-blocking?host=127.0.0.1&port=%d&path=/health&timeout_ms=2000")},
    {9, GET("/compute?n=1000&on=process")},
    {9, "POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{\"n\":1000}"},
    {9, GET("/tasks/1")},
};

/* GET /events has no end: what is awaited is its first bytes. */
static bool listens(int port)
{
    int fd = client_connect(port);
    const char *request = GET("/events");
    bool served =
        fd >= 0 && client_send(fd, request, strlen(request)) && client_has_input(fd, patience());
    close(fd);
    return served;
}

/* Counts a client's visit, which began then. */
static void visited(bool served, double began, int *unserved)
{
    *unserved += !served;
    expect(now() < began + patience(), "a client waits for ever");
}

static void converse_http(int port, int *unserved)
{
    for (int i = 0; i < COUNT(requests); i++) {
        double began = now();
        if (subject.chapter >= requests[i].from)
            visited(asks(port, requests[i].request, i % 2), began, unserved);
    }
    double began = now();
    if (subject.chapter >= 9)
        visited(listens(port), began, unserved);
}

static void converse_echo(int port, int *unserved)
{
    static bool (*const visits[])(int) = {greets, sends_much, leaves, greets};
    for (int i = 0; i < COUNT(visits); i++) {
        double began = now();
        visited(visits[i](port), began, unserved);
    }
}

/* What the clients of one experiment do. Returns how many of them were not served. */
static int converse(int port)
{
    int unserved = 0, others = -1; /* a client that is there before the others, and after them */
    double began = now();
    if (subject.chapter > 1) { /* 01 serves one at a time */
        others = client_connect(port);
        visited(others >= 0 && is_served(others), began, &unserved);
    }
    if (subject.chapter < FIRST_HTTP_CHAPTER)
        converse_echo(port, &unserved);
    else
        converse_http(port, &unserved);
    began = now();
    if (subject.chapter > 1 && unserved == 0)
        visited(is_served(others), began, &unserved);
    close(others);
    return unserved;
}

/* --- running a server under strace, or without memory --- */

static char record[64]; /* the file of strace's log, or of faults_alloc.c's counts */
static struct {
    long allocations, refused;
} * memory; /* faults_alloc.c's counts */

static void make_record(const struct fault *fault)
{
    const char *folder = getenv("TMPDIR");
    snprintf(record, sizeof record, "%s/faults-XXXXXX", folder ? folder : "/tmp");
    int fd = mkstemp(record);
    if (fd < 0 || ftruncate(fd, fault->call ? 0 : sizeof *memory) < 0) {
        perror(record);
        exit(1);
    }
    if (!fault->call)
        memory = mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
}

/* The server's arguments. 08's and 09's pools are small, so that an experiment is short. */
static const char *server_args(void)
{
    static const char *const pools[] = {"", "--threads 2",
                                        "--threads 2 --workers 1 --job-timeout 2"};
    static char args[256];
    snprintf(args, sizeof args, "%s %s 0", subject.args,
             pools[subject.chapter < 8 ? 0 : subject.chapter - 7]);
    return args;
}

/* Starts the server, confined by that function. */
static struct process start_prepared(void (*prepare)(void))
{
    process_prepare = prepare;
    struct process process = process_start_words(subject.server, server_args(), 0);
    process_prepare = NULL;
    return process;
}

/* Starts the server with strace beside it (-D: the server is this program's child). inject: which
 * calls strace looks at, and what it does to them. */
static struct process start_traced(const char *inject)
{
    char command[768];
    snprintf(command, sizeof command, "strace -D -I 2 -f -q -o %s %s %s %s", record, inject,
             subject.server, server_args());
    return process_start_words("/usr/bin/env", command, 0);
}

static char library[256]; /* the path of faults_alloc.c's */
static const struct fault *refused;

/* In the new process: what faults_alloc.c reads. */
static void refuse_memory(void)
{
    char from[16], many[16];
    snprintf(from, sizeof from, "%d", refused->when);
    snprintf(many, sizeof many, "%d", refused->many);
    setenv("FAULT_FROM", from, 1);
    setenv("FAULT_COUNT", many, 1);
    setenv("FAULT_FILE", record, 1);
    setenv("LD_PRELOAD", library, 1);
}

static struct process start_refused(const struct fault *fault)
{
    refused = fault;
    return start_prepared(refuse_memory);
}

static struct process start(const struct fault *fault)
{
    char inject[128];
    if (!fault->call)
        return start_refused(fault);
    snprintf(inject, sizeof inject, "-e trace=%s --inject=%s:%s=%s:when=%d", fault->call,
             fault->call, strcmp(fault->error, "SIGTERM") == 0 ? "signal" : "error", fault->error,
             fault->when);
    return start_traced(inject);
}

/* How many lines of strace's log contain the words. */
static int logged(const char *words)
{
    char line[1024];
    int count = 0;
    FILE *log = fopen(record, "r");
    while (log && fgets(line, sizeof line, log))
        count += strstr(line, words) != NULL;
    if (log)
        fclose(log);
    return count;
}

/* The process that traces that one; 0: none does. */
static pid_t tracer_of(pid_t pid)
{
    return (pid_t)strtol(process_status(pid, "TracerPid"), NULL, 10);
}

/* Ends strace alone. The fault would come again in each process that the server starts. */
static void end_tracing(const struct process *process)
{
    pid_t tracer = tracer_of(process->pid);
    if (tracer > 0)
        kill(tracer, SIGTERM);
    for (double end = now() + 1; now() < end && tracer_of(process->pid) != 0;)
        sleep_for(0.005);
}

/* strace writes to the end only after the server has ended. */
static void complete_log(const struct process *process)
{
    char words[64];
    snprintf(words, sizeof words, "%ld +++ ", (long)process->pid);
    for (double end = now() + 1; now() < end && !logged(words); sleep_for(0.005))
        ;
}

static int count_faults(const struct fault *fault)
{
    return fault->call ? logged("(INJECTED)") : (int)memory->refused;
}

static bool is_signal(const struct fault *fault)
{
    return fault->call && strcmp(fault->error, "SIGTERM") == 0;
}

/* True if the injected SIGTERM came to the server itself: it has to end, or has already. To which
 * of them a signal came that went to another thread or process only the server's end tells. */
static bool was_signalled(const struct fault *fault, const struct process *process)
{
    char words[64];
    if (!is_signal(fault))
        return false;
    bool ended = process_ends_within(process, 0.01);
    if (ended)
        complete_log(process);
    snprintf(words, sizeof words, "%ld --- SIGTERM ", (long)process->pid);
    return logged(ended ? "--- SIGTERM " : words) > 0;
}

/* --- the experiment --- */

/* The loader, which is no part of a server, says so when it is refused something. */
static bool loader_failed(const struct process *process)
{
    return process->status == 127 && strstr(process->errors, "shared librar");
}

static void judge_failed_start(const struct fault *fault, struct process *process)
{
    expect(process_ends_within(process, SOON), "the start neither succeeds nor fails");
    bool signalled = was_signalled(fault, process);
    process_end(process, 0);
    if (loader_failed(process) || (process->status == 0 && signalled))
        return;
    expect(process->status == 1, "a failed start, and the exit status is not 1");
    expect(!strstr(process->output, "listening"), "a failed start after \"listening on\"");
    expect(lines_in(process->errors) == 1, "a failed start, and not one line on stderr");
}

static bool serves_again(int port)
{
    bool served = false;
    for (double end = now() + patience(); now() < end && !served; sleep_for(0.02)) {
        int fd = client_connect(port);
        served = fd >= 0 && is_served(fd);
        close(fd);
    }
    return served;
}

/* What spins does so for ever; what is late with its work on a busy machine does not. */
static bool spins(const struct process *process)
{
    int tries = 0;
    while (tries < 5 && process_runnable_share(process->pid, 0.1) > 0.5)
        tries++;
    return tries == 5;
}

static void judge_end(struct process *process, int signal_number)
{
    if (signal_number)
        kill(process->pid, signal_number);
    expect(process_ends_within(process, SOON), "SIGTERM does not end it");
    process_end(process, 0);
    expect(process->status == 0, "SIGTERM, and the exit status is not 0");
    expect(lines_in(process->output) <= 2, "more than two lines on stdout");
    expect(lines_in(process->errors) <= 1, "more than one line on stderr");
}

/* One call, or one allocation, fails. */
static void one_fails(const struct fault *fault, struct process *process)
{
    *process = start(fault);
    if (process_listening(process) < 0) {
        judge_failed_start(fault, process);
        return;
    }
    int unserved = converse(process->port);
    if (is_signal(fault)) { /* which may still come: with a client's farewell, for instance */
        judge_end(process, was_signalled(fault, process) ? 0 : SIGTERM);
        return;
    }
    end_tracing(process);
    expect(unserved <= count_faults(fault), "more clients unserved than there were faults");
    expect(serves_again(process->port), "no new client is served");
    if (subject.chapter != 2)
        expect(!spins(process), "it spins");
    judge_end(process, SIGTERM);
}

static struct process attach(const struct fault *fault, const struct process *process)
{
    char options[256];
    snprintf(options, sizeof options, "-o %s -e trace=%s --inject=%s:error=%s", record, fault->call,
             fault->call, fault->error);
    return strace_attach(process->pid, options);
}

enum { BEFORE = 3, CLIENTS = 3 + COUNT(requests) };

/* Asks for something, and does not wait for the answer. */
static void ask_first(int fd, int i, int port)
{
    char text[512];
    if (subject.chapter < FIRST_HTTP_CHAPTER || i < BEFORE ||
        subject.chapter < requests[i - BEFORE].from) {
        client_asks(fd);
        return;
    }
    snprintf(text, sizeof text, requests[i - BEFORE].request, port);
    client_send(fd, text, strlen(text));
}

/* All calls of that name fail, while clients who are there already and others want something.
 * Afterwards all of them are answered, or have been let go. */
static void all_fail(const struct fault *fault, struct process *process)
{
    int fds[CLIENTS];
    *process = start_prepared(NULL);
    process_listening(process);
    for (int i = 0; i < BEFORE && subject.chapter > 1; i++)
        expect((fds[i] = client_connect(process->port)) >= 0 && is_served(fds[i]), "not served");
    struct process strace = attach(fault, process);
    for (int i = subject.chapter > 1 ? BEFORE : 0; i < CLIENTS; i++)
        fds[i] = client_connect(process->port);
    for (int i = 0; i < CLIENTS; i++)
        ask_first(fds[i], i, process->port);
    sleep_for(PHASE_MS / 1e3);
    if (fault->ended)
        judge_end(process, SIGTERM);
    process_end(&strace, SIGTERM);
    /* after ECONNABORTED the next in the queue is tried, which may be as long as SOMAXCONN */
    if (subject.chapter != 2 && strcmp(fault->error, "ECONNABORTED") != 0)
        expect(logged("(INJECTED)") < MANY_CALLS, "it spins");
    for (int i = 0; i < CLIENTS; i++) {
        if (!fault->ended && fds[i] >= 0)
            expect(client_has_input(fds[i], patience()), "a client waits for ever");
        close(fds[i]);
    }
    if (fault->ended)
        return;
    expect(serves_again(process->port), "no new client is served");
    judge_end(process, SIGTERM);
}

/* In a process of its own. Prints one line of TAP. */
static int experiment(const struct fault *fault)
{
    char line[1024];
    struct process process;
    make_record(fault);
    (fault->when == 0 ? all_fail : one_fails)(fault, &process);
    unlink(record);
    process.errors[strcspn(process.errors, "\n")] = '\0';
    int length = snprintf(line, sizeof line, "%s - %s", *problem ? "not ok" : "ok", fault->name);
    if (*problem)
        length += snprintf(line + length, sizeof line - (size_t)length,
                           ": %s; exit status %d; %.200s", problem, process.status, process.errors);
    line[length++] = '\n';
    return write(STDOUT_FILENO, line, (size_t)length) != length; /* at once: others write, too */
}

/* --- which experiments there are --- */

/* What the server called in a run without faults. */
struct learned {
    char call[32];
    int count;  /* how often */
    int loader; /* what the loader did: the program's own first call is the one after */
    int deaf;   /* what was called before SIGTERM had its handler */
    bool later; /* also once the server listens */
} learned[128];
static int learned_count;

static struct learned *find_learned(const char *call)
{
    for (int i = 0; i < learned_count; i++)
        if (strcmp(learned[i].call, call) == 0)
            return &learned[i];
    struct learned *last = &learned[learned_count++];
    snprintf(last->call, sizeof last->call, "%s", call);
    return last;
}

/* Reads a line of the log, "PID call(arguments) = result", and adds it up. strace counts each
 * thread's calls by themselves; this does not, as a count that is too high does no harm. */
static void learn_line(const char *line, pid_t pid)
{
    static bool loaded, hears, listening;
    /* a server begins with its standard streams, or with its signals */
    loaded = loaded || strstr(line, "F_GETFD") || strstr(line, "rt_sigaction(SIG");

    char call[32];
    long caller;
    if (sscanf(line, "%ld %31[a-z0-9_](", &caller, call) != 2 || (caller != pid && !listening))
        return;
    struct learned *known = find_learned(call);
    known->count++;
    known->loader += !loaded;
    known->deaf += !hears;
    known->later |= listening;
    hears = hears || strstr(line, "rt_sigaction(SIGTERM");
    listening = listening || strstr(line, "listening on");
}

static void learn_calls(void)
{
    char line[1024];
    make_record(&(struct fault){.call = "all"});
    struct process process = start_traced("");
    if (process_listening(&process) < 0) {
        printf("not ok - strace and %s: %s\n", subject.server, process.errors);
        exit(1);
    }
    converse(process.port);
    process_end(&process, SIGTERM);
    complete_log(&process);
    FILE *log = fopen(record, "r");
    while (log && fgets(line, sizeof line, log))
        learn_line(line, process.pid);
    if (log)
        fclose(log);
    unlink(record);
}

static int running, failed;

static void wait_for_one(void)
{
    int status = 0;
    if (wait(&status) > 0)
        running--;
    failed += status != 0;
}

/* True if that experiment belongs to those that are made. */
static bool chosen(const char *name)
{
    static unsigned number;
    const char *which = getenv("FAULTS");
    if (!which || !*which)
        return number++ % SHARE == (unsigned)subject.chapter % SHARE;
    return strcmp(which, "all") == 0 || strstr(name, which);
}

/* Makes the experiment beside others. */
static void try(const struct fault *fault)
{
    static int jobs;
    if (!jobs) {
        const char *text = getenv("FAULT_JOBS");
        jobs = text ? (int)strtol(text, NULL, 10) : 4;
    }
    if (!chosen(fault->name))
        return;
    if (running >= jobs)
        wait_for_one();
    pid_t pid = fork();
    if (pid == 0)
        _exit(experiment(fault));
    running += pid > 0;
}

static void try_call(const struct learned *known, const char *error)
{
    struct fault fault = {.call = known->call, .error = error};
    int first = is_signal(&fault) ? known->deaf : known->loader;
    for (int n = 1, before = 1; first + n <= known->count && n <= ONCE_MAX;
         n += before, before = n - before) {
        fault.when = first + n;
        snprintf(fault.name, sizeof fault.name, "%.31s %.16s %d", fault.call, error, n);
        try(&fault);
    }
    fault.when = 0;
    for (int ended = 0; ended < 2 && known->later && may_last(fault.call, error); ended++) {
        fault.ended = ended;
        snprintf(fault.name, sizeof fault.name, "%.31s %.16s for a while%s", fault.call, error,
                 ended ? ", and SIGTERM" : "");
        try(&fault);
    }
}

static void try_errors(const struct learned *known)
{
    for (int i = 0; i < COUNT(failures); i++) {
        if (strcmp(failures[i].call, known->call) != 0)
            continue;
        if (!failures[i].errors)
            return;
        char words[128], *rest = words;
        snprintf(words, sizeof words, "%s SIGTERM", failures[i].errors);
        for (char *error; (error = strsep(&rest, " ")) != NULL;)
            if (*error && possible(known->call, error))
                try_call(known, error);
        return;
    }
    printf("not ok - %s: nothing is known of how it fails\n", known->call);
    failed++;
}

static void try_calls(void)
{
    learn_calls();
    fflush(stdout);
    for (int i = 0; i < learned_count; i++)
        if (learned[i].count > learned[i].loader)
            try_errors(&learned[i]);
}

/* How many allocations a run without faults makes. */
static int learn_memory(void)
{
    const struct fault none = {.when = 1, .many = 0};
    make_record(&none);
    struct process process = start_refused(&none);
    process_listening(&process);
    converse(process.port);
    process_end(&process, SIGTERM);
    unlink(record);
    return (int)memory->allocations;
}

static void try_memory(void)
{
    static const int many[] = {1, 2, 5, 20};
    int count = learn_memory();
    if (count == 0) {
        printf("not ok - %s does not work here\n", library);
        failed++;
    }
    for (int n = 1; n <= count && n <= MEMORY_MAX; n++)
        for (int i = 0; i < COUNT(many); i++) {
            struct fault fault = {.when = n, .many = many[i]};
            snprintf(fault.name, sizeof fault.name, "memory %d, %d in a row", n, many[i]);
            try(&fault);
        }
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fputs("usage: faults calls|memory CHAPTER SERVER [OPTIONS]\n", stderr);
        return 2;
    }
    subject = (struct subject){.chapter = (int)strtol(argv[2], NULL, 10),
                               .server = argv[3],
                               .args = argc > 4 ? argv[4] : ""};
    signal(SIGPIPE, SIG_IGN);
    setenv("PATIENCE", "10", 0);
    snprintf(library, sizeof library, "%s_alloc.so", argv[0]); /* they lie side by side */
    (strcmp(argv[1], "calls") == 0 ? try_calls : try_memory)();
    while (running > 0)
        wait_for_one();
    return failed > 0;
}
