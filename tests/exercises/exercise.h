/*
 * What an exercise is, and what its checks are made of. The checks of chapter NN are in check_NN.c;
 * grade.c builds a program of the reader's file, and runs each check on it in a process of its own.
 */
#ifndef EXERCISE_H
#define EXERCISE_H

#include "../suite.h"

/* One thing that has to be true of the program. */
struct check {
    const char *shows; /* what is true, as the reader will see it: "a second client is served" */
    /* Starts the program, looks at it from outside, and fails by expect(). What it leaves running
     * is killed. It is given CHECK_SECONDS. */
    void (*run)(void);
    int points;
    bool kept; /* the starter passes it already: it counts once one of the others is passed, too */
};

enum { MAX_CHECKS = 8 };

struct exercise {
    const char *name; /* "05-epoll/edge": the file is 05-epoll/exercises/edge.c */
    int minutes;      /* that it takes, about */
    bool threads;     /* the program has threads: start_racing() can be asked for */
    struct check checks[MAX_CHECKS + 1]; /* the last one without a run() */
};

/* Each chapter's, the last one without a name. */
extern const struct exercise exercises_01[], exercises_02[], exercises_03[], exercises_04[],
    exercises_05[], exercises_06[], exercises_07[], exercises_08[], exercises_09[];

/* Fails the check unless the condition holds. The message is one sentence that the reader can act
 * on: what was done, what was expected, what came instead. If the program has died, that is added.
 */
#define expect(condition, ...)                                \
    do {                                                      \
        if (!(condition)) {                                   \
            char sentence[512];                               \
            snprintf(sentence, sizeof sentence, __VA_ARGS__); \
            ck_abort_msg("%s%s", sentence, obituary());       \
        }                                                     \
    } while (0)

/* What has become of the server that start() started: "" while it runs (and goes on running for a
 * moment longer). */
const char *obituary(void);

/* Starts the program as a server, with these options ("--idle 500"; "": none), as `server`. When
 * the check returns it gets SIGTERM and has to end with exit status 0. */
void start(const char *args);

/* Runs the program, which is no server, with these arguments until it ends; it has `seconds` for
 * that. `server` is the result: status, output, errors. */
void run_program(const char *args, double seconds);

/* start() for the program built with ThreadSanitizer. Returns false where that cannot be had: the
 * check is to return then. end_racing() ends it, and fails the check if two threads raced. */
bool start_racing(const char *args);
void end_racing(void);

/* Called when a check returns: ends the server that is still running, see start(). */
void finish_check(void);

/* True as soon as condition is; false if it is not for patience() seconds. */
#define becomes_true(condition)                 \
    __extension__({                             \
        double give_up = now() + patience();    \
        while (!(condition) && now() < give_up) \
            sleep_for(0.02);                    \
        (condition);                            \
    })

/* --- checks that several exercises share --- */

/* Of an echo server started with args: bytes come back exactly, and a client that half-closes gets
 * all it is owed. */
void echoes_exactly(const char *args);

/* Started with args, serves 3 clients of 10 bytes (an HTTP server: 3 requests for /health), ends
 * with exit status 0 after SIGTERM, and prints nothing but the two lines. */
void ends_in_order(const char *args);

/* Of a server with the option --idle MS: who says nothing for so long is closed. */
void silent_client_is_closed(void); /* neither at once nor after seconds */
void talking_client_stays(void);    /* while the silent one beside it is closed */
void each_has_its_own_time(void);   /* those who came one after the other leave in that order */
void waiting_costs_nothing(void);   /* no CPU while the time-outs of ten clients run */

/* --- looking at a process from outside; -1 (or a lenient answer) without /proc --- */

/* Its children, ended ones that nobody waited for (zombies) included; at most room of their ids. */
int process_children(pid_t pid, pid_t pids[], int room);
bool process_is_zombie(pid_t pid);

/* How many threads it has. */
int process_threads(pid_t pid);

/* How often it has waited for something so far. */
long process_switches(pid_t pid);

/* How many of its descriptors are what /proc/PID/fd says: "socket:", "anon_inode:[timerfd]". */
int process_has(pid_t pid, const char *kind);

#endif
