#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

enum { MAX_WORKERS = 4096 }; /* those being replaced included */

static char helper_name[] = "worker-helper"; /* by which a process knows that it is the helper */
static char *program;                        /* as it was called */
extern char **environ;

/* --- a worker --- */

/* Both return false at the end of the stream, or if it breaks: the server is gone. */
static bool read_all(int fd, void *bytes, size_t length)
{
    for (size_t got = 0; got < length;) {
        ssize_t n = read(fd, (char *)bytes + got, length - got);
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        got += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool write_all(int fd, const void *bytes, size_t length)
{
    for (size_t sent = 0; sent < length;) {
        ssize_t n = write(fd, (const char *)bytes + sent, length - sent);
        if (n < 0 && errno != EINTR)
            return false;
        sent += n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* A worker may block: it has no clients. Its socket is its standard input. */
static _Noreturn void run_worker(worker_function *work)
{
    const int fd = STDIN_FILENO;
    char input[FRAME_MAX], output[sizeof(struct frame) + FRAME_MAX];
    struct frame frame;
    while (read_all(fd, &frame, sizeof frame) && frame.length <= FRAME_MAX &&
           read_all(fd, input, frame.length)) {
        size_t length = work(input, frame.length, output + sizeof frame);
        frame.length = (uint32_t)length;
        memcpy(output, &frame, sizeof frame); /* in one piece, so that the server wakes up once */
        if (!write_all(fd, output, sizeof frame + length))
            break;
    }
    _exit(0); /* not exit(): what the server's program had planned for its end is not ours */
}

/* --- the helper --- */

/* Orders come from the standard input. */
struct helper {
    worker_function *work;
    pid_t workers[MAX_WORKERS];
    int count;
    sigset_t waiting; /* the signals that are blocked during a wait: not SIGCHLD */
};

static volatile sig_atomic_t child_ended;

static void on_child(int number)
{
    (void)number;
    child_ended = 1;
}

/* Only here do process ids become free again: until then one that is in the list is ours. */
static void collect_ended(struct helper *helper)
{
    pid_t pid;
    child_ended = 0;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
        for (int i = 0; i < helper->count; i++)
            if (helper->workers[i] == pid)
                helper->workers[i] = helper->workers[--helper->count];
}

/* The worker starts as a program would: no signal caught, ignored or blocked, nothing open but its
 * socket, in the place of the helper's, and the other standard streams. */
static _Noreturn void become_worker(const struct helper *helper, int fd, pid_t parent)
{
    const int caught[] = {SIGINT, SIGTERM, SIGCHLD, SIGPIPE};
    sigset_t none;
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the helper be killed: it could not kill us then */
#endif
    if (getppid() != parent)
        _exit(1);
    if (dup2(fd, STDIN_FILENO) < 0)
        _exit(1);
    close(fd);
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
        signal(caught[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    run_worker(helper->work);
}

/* Returns the worker's process id and the server's end of its socket, or -1 with errno set. */
static pid_t start_worker(struct helper *helper, int *server_end)
{
    int ends[2];
    pid_t parent = getpid();
    errno = EAGAIN; /* for too many workers */
    if (helper->count == MAX_WORKERS || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        become_worker(helper, ends[1], parent);
    }
    int error = errno;
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        errno = error;
        return -1;
    }
    helper->workers[helper->count++] = pid;
    *server_end = ends[0];
    return pid;
}

/* Sends the reply, and with it the descriptor unless it is -1. */
static bool send_reply(int socket, struct reply reply, int fd)
{
    union {
        struct cmsghdr header; /* for its alignment */
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec data = {.iov_base = &reply, .iov_len = sizeof reply};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    if (fd >= 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    ssize_t n;
    while ((n = sendmsg(socket, &message, 0)) < 0 && errno == EINTR)
        ;
    return n == sizeof reply;
}

static bool obey(struct helper *helper, const struct order *order)
{
    if (order->what == 'k') {
        for (int i = 0; i < helper->count; i++)
            if (helper->workers[i] == order->pid)
                kill(order->pid, SIGKILL);
        return true;
    }
    int fd = -1;
    struct reply reply = {.pid = start_worker(helper, &fd)};
    reply.error = reply.pid < 0 ? errno : 0;
    bool sent = send_reply(STDIN_FILENO, reply, fd);
    if (!sent) /* perhaps without a descriptor: that takes no memory of the kernel's */
        sent = send_reply(STDIN_FILENO, (struct reply){.pid = -1, .error = errno}, -1);
    if (fd >= 0)
        close(fd); /* the server has its own now; or nobody has, and the worker ends */
    return sent;
}

/* Waits for an order; collects children meanwhile. SIGCHLD is let in during the wait only, so none
 * is missed between the look at child_ended and the wait: that is what pselect() is for. */
static bool next_order(struct helper *helper, struct order *order)
{
    for (;;) {
        fd_set readable;
        FD_ZERO(&readable);
        FD_SET(STDIN_FILENO, &readable);
        if (child_ended)
            collect_ended(helper);
        int n = pselect(STDIN_FILENO + 1, &readable, NULL, NULL, NULL, &helper->waiting);
        if (n >= 0 || errno != EINTR) /* a wait that fails otherwise: read() waits as well */
            return read_all(STDIN_FILENO, order, sizeof *order);
    }
}

static _Noreturn void run_helper(worker_function *work)
{
    struct helper helper = {.work = work};
    struct sigaction action = {.sa_handler = on_child};
    struct order order;
    sigset_t child;
    sigemptyset(&helper.waiting);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_SETMASK, &child, NULL); /* the server's mask was ours until now */
    sigaction(SIGCHLD, &action, NULL);
    signal(SIGINT, SIG_IGN); /* Ctrl-C goes to all; the server ends us when it has ended */
    signal(SIGTERM, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    while (next_order(&helper, &order) && obey(&helper, &order))
        ;
    for (int i = 0; i < helper.count; i++)
        kill(helper.workers[i], SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    _exit(0);
}

/* --- in the server --- */

void helper_main(char **argv, worker_function *work)
{
    program = argv[0];
    if (program && strcmp(program, helper_name) == 0)
        run_helper(work);
}

/* Linux has the program itself under that name, even when its file has been replaced meanwhile. */
static int spawn_self(pid_t *pid, const posix_spawn_file_actions_t *actions)
{
    char *const argv[] = {helper_name, NULL};
    const char *self = "/proc/self/exe";
    posix_spawnattr_t group; /* a process group of its own, so that none can be left over */
    int error = posix_spawnattr_init(&group);
    if (error)
        return error;
    posix_spawnattr_setpgroup(&group, 0);
    posix_spawnattr_setflags(&group, POSIX_SPAWN_SETPGROUP);
    error =
        posix_spawnp(pid, access(self, X_OK) == 0 ? self : program, actions, &group, argv, environ);
    posix_spawnattr_destroy(&group);
    return error;
}

int helper_start(pid_t *pid)
{
    int ends[2], error = 0;
    posix_spawn_file_actions_t actions;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
        return -1;
    for (int i = 0; i < 2; i++)
        if (fcntl(ends[i], F_SETFD, FD_CLOEXEC) < 0)
            error = errno;
    if (error == 0 && (error = posix_spawn_file_actions_init(&actions)) == 0) {
        error = posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO);
        error = error ? error : spawn_self(pid, &actions);
        posix_spawn_file_actions_destroy(&actions);
    }
    close(ends[1]);
    if (error == 0)
        return ends[0];
    close(ends[0]);
    errno = error;
    return -1;
}
