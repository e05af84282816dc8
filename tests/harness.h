/*
 * Runs a server as its users do: as a program of its own, spoken to over the loopback interface and
 * looked at from outside. Nothing in here depends on a test framework; the demo and the benchmarks
 * use it too. All functions are for one thread. Times are in seconds. Nothing waits for ever: see
 * patience().
 */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { OUTPUT_MAX = 4096 };

/* A running or finished program, and what it has printed. */
struct process {
    pid_t pid;
    int port; /* from its line "listening on ADDR:PORT"; 0 before process_listening() */
    int output_fd, errors_fd;
    char output[OUTPUT_MAX], errors[OUTPUT_MAX]; /* stdout and stderr so far, as strings */
    int status;                                  /* exit status; -1 running, 128 + N: signal N */
};

/* Starts argv[0] with these arguments (the last one NULL): when this returns, it runs.
 * max_descriptors limits its RLIMIT_NOFILE (0: as it is). The program dies with its parent where
 * the system can do that (Linux). Ends the calling program with a message when even fork() fails.
 */
struct process process_start(const char *const argv[], int max_descriptors);

/* The same with the arguments as one string, separated by blanks; args may be NULL. */
struct process process_start_words(const char *path, const char *args, int max_descriptors);

/* Called in the new process before the program is run, if it is not NULL: to confine it. */
extern void (*process_prepare)(void);

/* Waits for the line "listening on". Returns the port, or -1 when the program ended
 * or stayed silent; process->errors then says why. */
int process_listening(struct process *process);

/* process_start() and process_listening() for a server on a port that the kernel picks: "path
 * [args...] 0". args may be NULL. Ends the calling program with a message when it does not start.
 */
struct process server_start(const char *path, const char *args, int max_descriptors);

/* Reads what the program has printed in the meantime, without waiting. */
void process_read_output(struct process *process);

/* True once the program has ended, which it has that many seconds for. Reads nothing of what it
 * prints meanwhile, and leaves the rest to process_end(). */
bool process_ends_within(const struct process *process, double seconds);

/* Whether the programs are built with ThreadSanitizer, as SAN says. Its runtime delivers a signal
 * only when the program next calls something of libc: not in the middle of a sum, nor in a wait. */
bool thread_sanitizer(void);

/* Sends the signal (0: none), waits until the program has ended, and kills it if it does not.
 * Collects all it printed. Returns its exit status, or 128 + N when signal N ended it. */
int process_end(struct process *process, int signal_number);

/* Has strace look at a program that process_start() has started: returns once it does. The status
 * is not -1 if it cannot, for instance because there is no strace. Or else process_end() with
 * SIGTERM ends strace, and the program goes on. */
struct process strace_attach(pid_t pid, const char *options);

/* What the system says of another process: CPU time used so far, user and system; resident private
 * memory in KiB; open descriptors. -1 where the system has no way to tell (without /proc). */
double process_cpu(pid_t pid);
long process_memory_kib(pid_t pid);
int process_descriptors(pid_t pid);

/* A field of /proc/PID/status as it is printed there, newline included, "" where there is none;
 * valid until the next call. See proc(5). */
const char *process_status(pid_t pid, const char *field);

/* The share of one CPU that the process uses while nobody does anything for that long, 0 to 1. */
double process_cpu_share(pid_t pid, double seconds);

/* The share of that time in which the process ran or waited for a CPU to run on: unlike the CPU
 * time it got, that does not depend on what else the machine has to do. -1 if the system does not
 * tell. */
double process_runnable_share(pid_t pid, double seconds);

/* Lets this program, and what it starts, have as many descriptors as the system allows. Returns
 * that number. */
int raise_descriptor_limit(void);

/* Seconds after which a server that has not done what it should is taken for broken: 20, or what
 * PATIENCE says in the environment. */
int patience(void);

/* How many lines the text has. */
int lines_in(const char *text);

double now(void); /* monotonic */
void sleep_for(double seconds);

/* --- clients: blocking sockets on 127.0.0.1, every call of which gives up in the end --- */

/* Returns a connected socket, or -1. The caller closes it. */
int client_connect(int port);

/* Sends, or receives, exactly length bytes. False on a time-out, end of file or error. */
bool client_send(int fd, const void *bytes, size_t length);
bool client_receive(int fd, void *bytes, size_t length);

/* Sends text and receives it back. */
bool client_echo(int fd, const char *text);

/* True if the connection's end of file is next (not bytes, not a time-out). */
bool client_at_eof(int fd);

/* True if something (bytes or the end) is there to be received within that time. */
bool client_has_input(int fd, double seconds);

/* Closes so that the other side sees a reset (RST) and no port is left in TIME_WAIT. */
void client_reset(int fd);

/* Sends bytes in pieces of random size, at most cut each, and receives the echo at the same time.
 * True when exactly the same bytes came back. The socket stays open in both directions. */
bool client_exchange(int fd, const char *bytes, size_t length, size_t cut);

#endif
