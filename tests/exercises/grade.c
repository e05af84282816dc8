/*
 * Grades exercises: builds a program of each, runs its checks, tells what is missing.
 *
 *     grade [--submission DIR] [--report DIR] [--check TITLE] [--strict] [NAME]
 *                                       the reader's exercises, or those of DIR
 *     grade --prove-solutions [NAME]    that our answers get all points
 *     grade --prove-starters [NAME]     that our starters fail what is still to do, and that only
 *     grade --list [NAME]               names, points and minutes
 *
 * NAME is an exercise (05-epoll/edge) or a chapter (05-epoll); without it, all there are. The
 * Makefile says with what to build, in the environment: GRADE_CC and RACING_CC, compilers with
 * their flags, and BUILD, the folder with the kits: what an exercise may use of its chapter.
 *
 * A program is a stranger's. It is built and run in a folder of its own outside the checkout, and
 * confined. Each exercise has a process that supervises it; that one starts each check in a process
 * of its own, and kills what the check leaves behind.
 */
#include "grade.h"
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHECK_SECONDS = 30, EXERCISE_SECONDS = 150, BUILD_SECONDS = 60 };
enum { SANITIZED_PATIENCE = 3 }; /* times as long for all of these */
enum { MAX_SOURCE = 1 << 20 };   /* bytes */
enum { JOBS = 2, MAX_EXERCISES = 64 };

static const struct exercise *const chapters[] = {
    exercises_01, exercises_02, exercises_03, exercises_04, exercises_05,
    exercises_06, exercises_07, exercises_08, exercises_09, NULL,
};

static struct {
    const char *only;       /* an exercise or a chapter; NULL: all */
    const char *check;      /* the one check to be run, by what it shows; NULL: all */
    const char *submission; /* the checkout whose exercises are graded */
    bool strict, list, prove_solutions, prove_starters;
    const char *report; /* the folder for grade.json and grade.xml */
} options = {.submission = "."};

static char root[PATH_MAX]; /* this checkout */
static pid_t grader;        /* the process that starts those which supervise */
static char work[64];       /* where programs are built and run */
static char scratch[80];    /* the folder there of a supervised exercise */
static int slowness = 1;
static volatile sig_atomic_t interrupted;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "grade: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

/* --- files --- */

/* Runs a command of the system's, unconfined. */
static bool run_tool(const char *const argv[])
{
    void (*prepare)(void) = process_prepare;
    process_prepare = NULL;
    struct process process = process_start(argv, 0);
    process_prepare = prepare;
    return process_end(&process, 0) == 0;
}

/* However many files a program has made in it, and whatever it has made of their permissions. */
static void remove_folder(const char *path)
{
    const char *script = "rm -rf \"$0\" 2> /dev/null || { chmod -R u+rwX \"$0\"; rm -rf \"$0\"; }";
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0); /* a second ^C is not for it */
        execl("/bin/sh", "sh", "-c", script, path, (char *)NULL);
        _exit(1);
    }
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* What the program's user has left elsewhere, since the grader was started: an older file with that
 * number is somebody's. */
static void remove_files_of_user(void)
{
    char user[16], started[80];
    snprintf(user, sizeof user, "%ld", (long)confinement.user);
    snprintf(started, sizeof started, "%s/started", work);
    if (confinement.user > 0)
        run_tool((const char *const[]){"/usr/bin/find", "/tmp", "/var/tmp", "/dev/shm", "-xdev",
                                       "-user", user, "-cnewer", started, "-delete", NULL});
}

static bool copy_file(const char *from, const char *to)
{
    char bytes[16 * 1024];
    size_t n;
    FILE *in = fopen(from, "r"), *out = in ? fopen(to, "w") : NULL;
    bool good = out != NULL;
    while (good && (n = fread(bytes, 1, sizeof bytes, in)) > 0)
        good = fwrite(bytes, 1, n, out) == n;
    if (in)
        fclose(in);
    return out && fclose(out) == 0 && good;
}

/* The whole path of what lies in folder, or anywhere if it begins with a slash. False: nothing. */
static bool resolve(const char *folder, const char *path, char whole[PATH_MAX])
{
    char joined[2 * PATH_MAX];
    snprintf(joined, sizeof joined, "%s%s%s", *path == '/' ? "" : folder, *path == '/' ? "" : "/",
             path);
    return realpath(joined, whole) != NULL;
}

static bool is_below(const char *path, const char *folder)
{
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && path[length] == '/';
}

/* Copies what is handed in. Returns NULL, or why it is not taken. A link could lead to what is
 * not theirs: to the solutions, for instance. */
static const char *take_source(const char *folder, const char *name, const char *to)
{
    static char why[PATH_MAX + 64];
    char path[PATH_MAX], whole[PATH_MAX], base[PATH_MAX];
    struct stat status;
    snprintf(path, sizeof path, "%s/%.*s/%s/%s.c", options.submission, (int)strcspn(name, "/"),
             name, folder, strchr(name, '/') + 1);
    if (lstat(path, &status) < 0)
        snprintf(why, sizeof why, "there is no file %s", path);
    else if (!S_ISREG(status.st_mode) || !realpath(options.submission, base) ||
             !realpath(path, whole) || !is_below(whole, base))
        snprintf(why, sizeof why, "%s is no regular file", path);
    else if (status.st_size > MAX_SOURCE)
        snprintf(why, sizeof why, "%s is larger than %d bytes", path, MAX_SOURCE);
    else if (!copy_file(path, to))
        snprintf(why, sizeof why, "%s cannot be read: %s", path, strerror(errno));
    else
        return NULL;
    return why;
}

/* --- building --- */

/* Copies text as one line of printable ASCII: a stranger's words may be in it. */
static void copy_line(char *to, size_t size, const char *text)
{
    size_t length = 0;
    for (; *text && length + 1 < size; text++) {
        bool blank = *text == '\n' || *text == '\t' || *text == ' ';
        if (blank && (length == 0 || to[length - 1] == ' '))
            continue;
        if (*text != '\r')
            to[length++] = (char)(blank ? ' ' : *text < ' ' || *text > '~' ? '?' : *text);
    }
    to[length] = '\0';
}

/* Runs the command in the scratch folder, confined. Returns its exit status; what it has printed
 * is in *process. */
static int run_command(const char *command, struct process *process)
{
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    siginfo_t end = {0};
    *process = process_start(argv, 0);
    for (double limit = now() + BUILD_SECONDS * slowness; now() < limit && !interrupted;) {
        process_read_output(process);
        if (waitid(P_PID, (id_t)process->pid, &end, WEXITED | WNOHANG | WNOWAIT) < 0 || end.si_pid)
            break;
        if (confine_violation())
            break;
        sleep_for(0.02);
    }
    int status = process_end(process, end.si_pid ? 0 : SIGKILL);
    confine_sweep();
    return status;
}

/* Files that the program was made of, beside its own, the kit's and the system's. */
static bool uses_the_checkout(void)
{
    char path[96], word[PATH_MAX], whole[PATH_MAX];
    bool found = false;
    snprintf(path, sizeof path, "%s/deps", scratch);
    FILE *file = fopen(path, "r");
    while (file && !found && fscanf(file, "%4095s", word) == 1)
        found = resolve(scratch, word, whole) && is_below(whole, root);
    if (file)
        fclose(file);
    return found;
}

/* Copies what an exercise may use of its chapter. False if there is nothing. */
static bool take_kit(const char *name)
{
    char kit[PATH_MAX];
    snprintf(kit, sizeof kit, "%s/kit/%.*s/.", getenv("BUILD"), (int)strcspn(name, "/"), name);
    return access(kit, R_OK) == 0 &&
           run_tool((const char *const[]){"/bin/cp", "-R", kit, scratch, NULL});
}

/* The sentence about a program that does not compile: the compiler's first error. The linker says
 * first what is wrong, and calls that an error at the end. */
static void describe_error(const struct process *process, int status, char *why, size_t size)
{
    char text[512];
    const char *line = strstr(process->errors, "error");
    if (!line || strstr(process->errors, "ld returned"))
        line = process->errors;
    while (line > process->errors && line[-1] != '\n')
        line--;
    if (status == 128 + SIGKILL)
        snprintf(text, sizeof text, "the compiler did not come to an end");
    else
        snprintf(text, sizeof text, "it does not compile: %.*s", (int)strcspn(line, "\n"), line);
    copy_line(why, size, text);
}

/* Builds scratch/racing, where ThreadSanitizer is to be had: if a program of our own runs with it.
 */
static bool build_racing(const char *name, const char *kit, char *why, size_t size)
{
    static char racing[96];
    char command[1024];
    struct process process;
    snprintf(command, sizeof command,
             "echo 'int main(void) { return 0; }' > probe.c && %s -o probe probe.c && ./probe",
             getenv("RACING_CC"));
    if (run_command(command, &process) != 0)
        return true;
    snprintf(command, sizeof command, "exec %s -I. -o racing %s.c %s -pthread", getenv("RACING_CC"),
             name, kit);
    int status = run_command(command, &process);
    describe_error(&process, status, why, size);
    snprintf(racing, sizeof racing, "%s/racing", scratch);
    subject.racing = racing;
    return status == 0;
}

/* Builds scratch/program, and scratch/racing if it has threads. Returns false with why. */
static bool build(const struct exercise *exercise, const char *folder, char *why, size_t size)
{
    char command[4096], source[256];
    struct process process;
    const char *name = strchr(exercise->name, '/') + 1,
               *kit = take_kit(exercise->name) ? "chapter.a" : "";
    snprintf(source, sizeof source, "%s/%.100s.c", scratch, name);
    const char *refused = take_source(folder, exercise->name, source);
    if (refused) {
        snprintf(why, size, "%.600s", refused);
        return false;
    }
    /* whatever the umask is: this is the program's, and nobody else's */
    run_tool((const char *const[]){"/bin/chmod", "-R", "a+rX,go-w", scratch, NULL});
    chmod(scratch, 0700);
    confine_give(scratch);
    snprintf(command, sizeof command, "exec %s -I. -MD -MF deps -o program %s.c %s -pthread",
             getenv("GRADE_CC"), name, kit);
    int status = run_command(command, &process);
    if (status != 0) {
        describe_error(&process, status, why, size);
        return false;
    }
    if (uses_the_checkout()) {
        snprintf(why, size,
                 "it includes a file by its path; only the chapter's headers, by their "
                 "names, and the system's are to be used");
        return false;
    }
    return !exercise->threads || slowness > 1 || build_racing(name, kit, why, size);
}

/* --- a check --- */

static const struct check *current;

START_TEST(run_current)
{
    current->run();
    finish_check();
}
END_TEST

/* In a process of its own. Check is not told to fork, as that has been done. */
static _Noreturn void run_check(const struct check *check, enum result *result, char *sentence,
                                size_t size)
{
    pid_t self = getpid();
    setpgid(0, 0);                   /* at ^C Check kills its whole group */
    setpriority(PRIO_PROCESS, 0, 0); /* like the program, and unlike its supervisor */
    Suite *suite = suite_create("exercise");
    TCase *only = tcase_create("exercise");
    current = check;
    tcase_add_test(only, run_current);
    suite_add_tcase(suite, only);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_SILENT);
    if (getpid() != self) /* a check had started a process that came here by a failure */
        _exit(1);
    TestResult **results = srunner_results(runner);
    copy_line(sentence, size, tr_msg(results[0]));
    *result = srunner_ntests_failed(runner) ? FAILED : PASSED;
    _exit(0);
}

/* Waits for the check. Returns why it had to be stopped, or NULL; *harmful: why no other check is
 * to be run, either. */
static const char *watch_check(pid_t pid, double limit, const char **harmful)
{
    static char why[64];
    for (int looks = 1; waitpid(pid, NULL, WNOHANG) == 0; looks++) {
        if (interrupted)
            return "interrupted";
        if (now() > limit) {
            snprintf(why, sizeof why, "it took longer than %d s, and was stopped",
                     CHECK_SECONDS * slowness);
            return why;
        }
        if (looks % 10 == 0 && (*harmful = confine_violation()) != NULL)
            return *harmful;
        sleep_for(0.02);
    }
    return NULL;
}

/* Returns why the checks after this one are not to be run, or NULL. */
static const char *supervise_check(const struct exercise *exercise, int i, struct outcome *outcome)
{
    const char *harmful = NULL;
    char *sentence = outcome->sentences[i];
    size_t size = sizeof outcome->sentences[i];
    double start = now();
    outcome->running = i + 1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        run_check(&exercise->checks[i], &outcome->results[i], sentence, size);
    const char *why = watch_check(pid, start + CHECK_SECONDS * slowness, &harmful);
    confine_sweep();
    outcome->seconds[i] = now() - start;
    if (!why && outcome->results[i] == NOT_RUN)
        why = "the check itself was ended from outside";
    if (why) {
        outcome->results[i] = FAILED;
        snprintf(sentence, size, "%s", why);
    }
    return harmful;
}

/* --- an exercise --- */

/* Where the program of the supervised exercise is built and run, by whomever it is run. */
static void make_scratch(void)
{
    snprintf(scratch, sizeof scratch, "%s/XXXXXX", work);
    if (!mkdtemp(scratch))
        die(scratch);
    confinement.scratch = scratch;
    process_prepare = confine_program;
}

/* In a process of its own: builds the program and runs all checks. */
static void supervise(const struct exercise *exercise, const char *folder, struct outcome *outcome)
{
    char program[96], why[sizeof outcome->sentences[0]];
    double limit = now() + EXERCISE_SECONDS * slowness;
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGTERM);
#endif
    confine_begin();
    make_scratch();
    snprintf(program, sizeof program, "%s/program", scratch);
    subject.chapter = (int)strtol(exercise->name, NULL, 10);
    subject.server = program;
    subject.args = "";
    subject.sanitized = slowness > 1;
    confinement.roomy = subject.sanitized || exercise->threads;
    confinement.perturb = subject.chapter >= FIRST_HTTP_CHAPTER;
    confinement.memory_mib = subject.sanitized ? 3072 : 768;
    const char *refused = build(exercise, folder, why, sizeof why) ? NULL : why;
    for (int i = 0; i < exercise_checks(exercise) && !interrupted; i++) {
        if (now() > limit)
            refused = "not run: the time for this exercise is over";
        if (options.check && strcmp(exercise->checks[i].shows, options.check) != 0)
            continue;
        if (refused) {
            outcome->results[i] = FAILED;
            snprintf(outcome->sentences[i], sizeof outcome->sentences[i], "%s", refused);
        } else {
            refused = supervise_check(exercise, i, outcome);
        }
    }
    remove_folder(scratch);
    remove_files_of_user();
    if (getppid() != grader)
        remove_folder(work); /* it was killed, and will not */
    outcome->finished = !interrupted;
}

/* --- all of them --- */

static bool is_wanted(const struct exercise *exercise)
{
    const char *name = exercise->name, *sanitizers = getenv("SAN");
    if (sanitizers && strcmp(sanitizers, "thread") == 0 && !exercise->threads)
        return false;
    size_t length = options.only ? strlen(options.only) : 0;
    if (length > 0 && options.only[length - 1] == '/')
        length--;
    return !options.only ||
           (strncmp(name, options.only, length) == 0 && (name[length] == '/' || !name[length]));
}

/* Returns how many there are, in their order. */
static int choose(const struct exercise **chosen)
{
    int count = 0;
    for (int i = 0; chapters[i]; i++)
        for (const struct exercise *exercise = chapters[i]; exercise->name; exercise++)
            if (is_wanted(exercise) && count < MAX_EXERCISES)
                chosen[count++] = exercise;
    return count;
}

/* On a terminal: what is going on, in a line that the next one replaces. */
static void show_progress(const struct report *report, const pid_t *running, int finished)
{
    if (!isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r\033[K  %d of %d;", finished, report->count);
    for (int i = 0; i < report->count; i++)
        if (running[i] > 0)
            fprintf(stderr, " %s (%d of %d)", report->exercises[i]->name,
                    report->outcomes[i].running, exercise_checks(report->exercises[i]));
    fflush(stderr);
}

static bool is_proof(void)
{
    return options.prove_solutions || options.prove_starters;
}

/* Prints the exercises that are over, each once those before it are. Returns how many. */
static int tell_finished(const struct report *report, const pid_t *running, int told)
{
    for (; told < report->count && running[told] < 0; told++) {
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r\033[K");
        if (!is_proof())
            report_exercise(stdout, report->exercises[told], &report->outcomes[told]);
        fflush(stdout);
    }
    return told;
}

/* A supervisor that was killed has left checks that nobody has judged. */
static void judge_the_rest(const struct exercise *exercise, struct outcome *outcome)
{
    for (int i = 0; i < exercise_checks(exercise) && !outcome->finished; i++)
        if (outcome->results[i] == NOT_RUN) {
            outcome->results[i] = FAILED;
            snprintf(outcome->sentences[i], sizeof outcome->sentences[i],
                     "the checks were ended from outside");
        }
}

/* Grades all of them, JOBS at a time, from the folder exercises/ or solutions/ of each chapter. */
static void grade(const struct report *report, const char *folder, struct outcome *outcomes)
{
    pid_t running[MAX_EXERCISES] = {0}, slots[JOBS] = {0}; /* -1: over */
    int finished = 0, told = 0, next = 0;
    while (finished < report->count && !interrupted) {
        for (int slot = 0; slot < JOBS; slot++) {
            if (slots[slot] > 0 || next == report->count)
                continue;
            fflush(NULL);
            slots[slot] = running[next] = fork();
            if (slots[slot] < 0)
                die("fork");
            if (slots[slot] == 0) {
                supervise(report->exercises[next], folder, &outcomes[next]);
                _exit(0);
            }
            next++;
        }
        for (int i = 0; i < next; i++) {
            if (running[i] <= 0 || waitpid(running[i], NULL, WNOHANG) == 0)
                continue;
            for (int slot = 0; slot < JOBS; slot++)
                slots[slot] = slots[slot] == running[i] ? 0 : slots[slot];
            running[i] = -1;
            judge_the_rest(report->exercises[i], &outcomes[i]);
            finished++;
        }
        told = tell_finished(report, running, told);
        show_progress(report, running, finished);
        sleep_for(0.1);
    }
    for (int i = 0; i < next; i++)
        if (running[i] > 0) {
            kill(running[i], SIGTERM); /* the signal may have been for this process only */
            waitpid(running[i], NULL, 0);
        }
}

static int list(const struct exercise *const *exercises, int count)
{
    for (int i = 0; i < count; i++)
        printf("%s %d %d\n", exercises[i]->name, exercise_points(exercises[i]),
               exercises[i]->minutes);
    return 0;
}

static struct report grade_from(const char *folder, const struct exercise *const *exercises,
                                int count)
{
    size_t size = (size_t)count * sizeof(struct outcome);
    struct outcome *outcomes =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (outcomes == MAP_FAILED)
        die("mmap");
    double start = now();
    struct report report = {exercises, outcomes, count, 0};
    grade(&report, folder, outcomes);
    report.seconds = now() - start;
    return report;
}

/* --- what comes of it --- */

static const char *report_path(const char *name)
{
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", options.report ? options.report : getenv("BUILD"), name);
    return path;
}

static void write_file(const char *name, void (*write)(FILE *, const struct report *),
                       const struct report *report)
{
    FILE *file = fopen(report_path(name), "w");
    if (!file)
        die(report_path(name));
    write(file, report);
    if (fclose(file) != 0)
        die(report_path(name));
    printf("%s", report_path(name));
}

static int grade_readers(const struct exercise *const *exercises, int count)
{
    bool complete = true;
    unlink(report_path("grade.json")); /* nobody is to take an earlier one for this one */
    unlink(report_path("grade.xml"));
    struct report report = grade_from("exercises", exercises, count);
    if (interrupted)
        return 130;
    report_chapters(stdout, &report);
    printf("\nIn files: ");
    write_file("grade.json", report_json, &report);
    printf(" (Gradescope), ");
    write_file("grade.xml", report_xml, &report);
    printf(" (JUnit)\n");
    for (int i = 0; i < count; i++)
        complete = complete && outcome_points(exercises[i], &report.outcomes[i]) ==
                                   exercise_points(exercises[i]);
    return complete || !options.strict ? 0 : 1;
}

/* Says what is not as it should be: all have passed, or, of a starter, those that are kept. */
static bool prove(const struct report *report, bool starter)
{
    bool good = true;
    for (int i = 0; i < report->count; i++) {
        const struct exercise *exercise = report->exercises[i];
        const struct outcome *outcome = &report->outcomes[i];
        bool as_it_should = true;
        for (int j = 0; j < exercise_checks(exercise); j++)
            as_it_should = as_it_should && (outcome->results[j] == PASSED) ==
                                               (!starter || exercise->checks[j].kept);
        printf("%s - %s: the %s\n", as_it_should ? "ok" : "not ok", exercise->name,
               starter ? "starter fails what is still to do, and nothing else"
                       : "solution gets all points");
        for (int j = 0; j < exercise_checks(exercise) && !as_it_should; j++)
            printf("#   %s: %s %s\n", exercise->checks[j].shows,
                   outcome->results[j] == PASSED ? "passed" : "failed", outcome->sentences[j]);
        good = good && as_it_should;
    }
    return good;
}

static int prove_ours(const struct exercise *const *exercises, int count)
{
    bool good = true;
    if (options.prove_solutions) {
        struct report solutions = grade_from("solutions", exercises, count);
        good = prove(&solutions, false);
    }
    if (options.prove_starters && !interrupted) {
        struct report starters = grade_from("exercises", exercises, count);
        good = prove(&starters, true) && good;
    }
    return interrupted ? 130 : good ? 0 : 1;
}

static void read_options(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--strict") == 0)
            options.strict = true;
        else if (strcmp(argv[i], "--prove-solutions") == 0)
            options.prove_solutions = true;
        else if (strcmp(argv[i], "--prove-starters") == 0)
            options.prove_starters = true;
        else if (strcmp(argv[i], "--list") == 0)
            options.list = true;
        else if (strcmp(argv[i], "--report") == 0 && i + 1 < argc)
            options.report = argv[++i];
        else if (strcmp(argv[i], "--check") == 0 && i + 1 < argc)
            options.check = argv[++i];
        else if (strcmp(argv[i], "--submission") == 0 && i + 1 < argc)
            options.submission = argv[++i];
        else if (argv[i][0] != '-' && !options.only)
            options.only = argv[i];
        else {
            fprintf(stderr, "grade: wrong argument '%s'\n", argv[i]);
            exit(2);
        }
    struct stat status;
    if (stat(options.submission, &status) < 0 || !S_ISDIR(status.st_mode)) {
        fprintf(stderr, "grade: %s is no folder\n", options.submission);
        exit(2);
    }
}

/* At the end, however that comes. */
static void clean_up(void)
{
    if (getpid() != grader)
        return;
    confine_sweep();
    remove_folder(work);
}

int main(int argc, char **argv)
{
    const struct exercise *exercises[MAX_EXERCISES];
    const char *sanitizers = getenv("SAN"), *tmp = getenv("TMPDIR");
    struct sigaction action = {.sa_handler = on_signal};
    read_options(argc, argv);
    int count = choose(exercises);
    if (count == 0) {
        fprintf(stderr, "grade: '%s' is neither an exercise nor a chapter with exercises\n",
                options.only);
        return 2;
    }
    if (options.list)
        return list(exercises, count);
    slowness = sanitizers && *sanitizers ? SANITIZED_PATIENCE : 1;
    setenv("PATIENCE", slowness > 1 ? "20" : "8", 0);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    sigaction(SIGQUIT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    confine_begin();
    snprintf(work, sizeof work, "%s/grade-XXXXXX",
             tmp && *tmp == '/' && strlen(tmp) < 40 ? tmp : "/tmp");
    if (!realpath(".", root) || !mkdtemp(work) || chmod(work, 0711) < 0 ||
        !freopen("/dev/null", "r", stdin))
        die(work);
    grader = getpid();
    atexit(clean_up);
    snprintf(scratch, sizeof scratch, "%s/started", work);
    int started = open(scratch, O_CREAT | O_WRONLY | O_EXCL, 0600);
    if (started < 0 || close(started) < 0)
        die(scratch);
    return is_proof() ? prove_ours(exercises, count) : grade_readers(exercises, count);
}
