#include "confine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

enum { MOST_PROCESSES = 400 }; /* threads count, too */
enum { MOST_FOUND = 4096, MOST_INHERITED = 1024 };
enum { FIRST = -15, NORMAL = 0 }; /* setpriority() */

enum { FIRST_USER = 20000, USERS = 40000 }; /* one of these, which nobody is, will be the program */

struct confinement confinement;

/* --- who there is, by /proc --- */

struct found {
    long threads, memory_kib;
    pid_t pid, parent;
    uid_t user;
    bool stopped, ours;
};

static bool look_at(pid_t pid, struct found *found)
{
    char path[64], line[256];
    *found = (struct found){.pid = pid};
    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    while (fgets(line, sizeof line, file))
        if (strncmp(line, "PPid:", 5) == 0)
            found->parent = (pid_t)strtol(line + 5, NULL, 10);
        else if (strncmp(line, "Uid:", 4) == 0)
            found->user = (uid_t)strtol(line + 4, NULL, 10);
        else if (strncmp(line, "RssAnon:", 8) == 0)
            found->memory_kib += strtol(line + 8, NULL, 10);
        else if (strncmp(line, "RssShmem:", 9) == 0)
            found->memory_kib += strtol(line + 9, NULL, 10);
        else if (strncmp(line, "Threads:", 8) == 0)
            found->threads = strtol(line + 8, NULL, 10);
        else if (strncmp(line, "State:", 6) == 0)
            found->stopped = strpbrk(line + 6, "TZX") != NULL;
    fclose(file);
    return true;
}

/* All processes of the system, at most MOST_FOUND. Returns how many. */
static int look_around(struct found *all)
{
    int count = 0;
    DIR *folder = opendir("/proc");
    if (!folder)
        return 0;
    for (struct dirent *entry; count < MOST_FOUND && (entry = readdir(folder)) != NULL;) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 0 && look_at(pid, &all[count]))
            count++;
    }
    closedir(folder);
    return count;
}

/* Marks those that are below this process, in as many rounds as the tree has generations. */
static void mark_ours(struct found *all, int count)
{
    for (int i = 0; i < count; i++)
        all[i].ours = confinement.user > 0 && all[i].user == confinement.user;
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < count; i++) {
            if (all[i].ours)
                continue;
            all[i].ours = all[i].parent == getpid();
            for (int j = 0; j < count && !all[i].ours; j++)
                all[i].ours = all[j].ours && all[j].pid == all[i].parent;
            more = more || all[i].ours;
        }
    }
}

/* --- the program's side --- */

static void limit(int resource, rlim_t most)
{
    struct rlimit limits;
    if (getrlimit(resource, &limits) == 0 && limits.rlim_max > most) {
        limits.rlim_cur = limits.rlim_max = most;
        setrlimit(resource, &limits);
    }
}

/* How many threads the user has now: the limit counts them all. */
static rlim_t threads_of_user(uid_t user)
{
    static struct found all[MOST_FOUND];
    rlim_t threads = 0;
    for (int i = 0, count = look_around(all); i < count; i++)
        threads += all[i].user == user ? (rlim_t)all[i].threads : 0;
    return threads;
}

/* Root may do too much; nobody else needs to become somebody else, or could. */
static void become_nobody(void)
{
    uid_t user = confinement.user;
    if (user == 0)
        return;
    if (setgroups(0, NULL) < 0 || setgid((gid_t)user) < 0 || setuid(user) < 0) {
        fprintf(stderr, "cannot become user %ld: %s\n", (long)user, strerror(errno));
        _exit(126);
    }
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* forgotten by setuid() */
#endif
}

/* What it is not told, it cannot tell others: tokens, for instance. */
static void clean_environment(void)
{
    static const char *const kept[] = {"PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS"};
    enum { KEPT = sizeof kept / sizeof *kept };
    static char values[KEPT][1024];
    static char *none[1];
    extern char **environ;
    for (int i = 0; i < KEPT; i++)
        snprintf(values[i], sizeof values[i], "%s", getenv(kept[i]) ? getenv(kept[i]) : "");
    environ = none;
    for (int i = 0; i < KEPT; i++)
        if (*values[i])
            setenv(kept[i], values[i], 1);
    setenv("LC_ALL", "C", 1);
    setenv("TMPDIR", confinement.scratch, 1);
    setenv("HOME", confinement.scratch, 1);
    setenv("TSAN_OPTIONS", "report_bugs=1 exitcode=66", 1); /* a program may have other defaults */
    if (confinement.perturb)
        setenv("MALLOC_PERTURB_", "165", 1);
}

void confine_program(void)
{
    clean_environment();
    setpriority(PRIO_PROCESS, 0, NORMAL);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_CPU, 60);
    limit(RLIMIT_FSIZE, 64 << 20);
    setsid(); /* kill(0, ...) is for its own processes */
    if (!confinement.roomy)
        limit(RLIMIT_DATA, (rlim_t)4 << 30); /* of address space: 100 stacks are 800 MiB of it */
#ifdef __linux__
    limit(RLIMIT_NPROC, MOST_PROCESSES + (getuid() == 0 ? 0 : threads_of_user(getuid())));
#endif
    for (int fd = STDERR_FILENO + 1; fd < MOST_INHERITED; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC); /* what whoever runs the grader has open */
    if (chdir(confinement.scratch) < 0) {
        fprintf(stderr, "%s: %s\n", confinement.scratch, strerror(errno));
        _exit(126);
    }
    become_nobody();
}

void confine_give(const char *folder)
{
    if (confinement.user > 0 && chown(folder, confinement.user, (gid_t)confinement.user) < 0)
        fprintf(stderr, "chown %s: %s\n", folder, strerror(errno));
}

/* --- the supervisor's side --- */

/* Root gives the program a user that has no name and no process. */
static uid_t choose_user(void)
{
    static struct found all[MOST_FOUND];
    int count = getuid() == 0 ? look_around(all) : 0;
    for (int i = 0; count > 0 && i < USERS; i++) {
        uid_t user = FIRST_USER + (uid_t)(getpid() * 7 + i) % USERS;
        bool free = getpwuid(user) == NULL;
        for (int j = 0; j < count && free; j++)
            free = all[j].user != user;
        if (free)
            return user;
    }
    return 0;
}

void confine_begin(void)
{
    confinement.user = choose_user();
    if (getuid() == 0 && confinement.user == 0) {
        fprintf(stderr, "grade: /proc cannot be read, and without it root runs no strangers\n");
        exit(1);
    }
    setpriority(PRIO_PROCESS, 0, FIRST); /* if it may: to have its turn among hundreds */
#ifdef __linux__
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_DUMPABLE, 0); /* or the program could write to our memory: see proc(5), mem */
    syscall(SYS_unshare, CLONE_NEWIPC); /* if it may: System V's shared memory goes with us */
#endif
}

const char *confine_violation(void)
{
    static struct found all[MOST_FOUND];
    static char text[128];
    int count = look_around(all), processes = 0;
    long memory = 0, most = confinement.memory_mib;
    mark_ours(all, count);
    for (int i = 0; i < count; i++)
        if (all[i].ours) {
            processes++;
            memory += all[i].memory_kib / 1024;
        }
    if (memory > most)
        snprintf(text, sizeof text, "it used %ld MiB of memory, and was stopped: %ld are allowed",
                 memory, most);
    else if (processes > MOST_PROCESSES / 2)
        snprintf(text, sizeof text, "it had %d processes, and was stopped: %d are allowed",
                 processes, MOST_PROCESSES / 2);
    else
        return NULL;
    return text;
}

/* As that user, kill(-1) gets all of its processes at once, and leaves no moment for a fork(). */
static void kill_user(void)
{
    fflush(NULL);
    pid_t killer = fork();
    if (killer == 0) {
        if (setgid((gid_t)confinement.user) == 0 && setuid(confinement.user) == 0)
            kill(-1, SIGKILL);
        _exit(0);
    }
    if (killer > 0)
        waitpid(killer, NULL, 0);
}

/* First they are stopped, one after the other, until none is left that could fork: stopped ones
 * still count, so those that fork without end come to their limit. */
static void stop_all(struct found *all)
{
    int running = 1;
    for (int round = 0; round < 200 && running > 0; round++) {
        int count = look_around(all);
        running = 0;
        mark_ours(all, count);
        for (int i = 0; i < count; i++)
            if (all[i].ours && !all[i].stopped) {
                kill(all[i].pid, SIGSTOP);
                running++;
            }
    }
}

void confine_sweep(void)
{
    static struct found all[MOST_FOUND];
    pid_t ended;
    do {
        if (confinement.user > 0)
            kill_user();
        stop_all(all);
        int count = look_around(all);
        mark_ours(all, count);
        for (int i = 0; i < count; i++)
            if (all[i].ours)
                kill(all[i].pid, SIGKILL);
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        while ((ended = waitpid(-1, NULL, WNOHANG)) > 0)
            ;
    } while (ended == 0); /* -1: no child is left */
}
