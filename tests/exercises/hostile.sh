#!/bin/sh
# shellcheck disable=SC2009,SC2317 # pgrep shows no arguments everywhere; functions called through check
# hostile.sh: hands in programs that do harm, and looks at what the grader makes of them. Each has
# to fail with the right sentence, in time, and to leave nothing behind. Prints TAP.
#
# The victim is 03-select/limit; GRADE_CC, RACING_CC and BUILD are as for the grader.
cd "$(dirname "$0")/../.." || exit 1
work=$PWD/$BUILD/hostile
victim=03-select/limit
failed=0
TMPDIR=$(mktemp -d /tmp/hostile-XXXXXX) || exit 1
chmod 755 "$TMPDIR"
export TMPDIR PATIENCE=2
rm -rf "$work"
mkdir -p "$work"

check() { # DESCRIPTION COMMAND...: ok if the command succeeds; else $work/log may say why
    title=$1
    shift
    if "$@"; then
        echo "ok - $title"
    else
        echo "not ok - $title"
        sed 's/^/#   /' "$work/log"
        failed=1
    fi
}

hand_in() { # NAME: a submission of that name, with the program that is on stdin
    mkdir -p "$work/$1/03-select/exercises"
    cat > "$work/$1/$(dirname "$victim")/exercises/${victim#*/}.c"
}

grade() { # ARGUMENTS...: what the grader prints is in $work/log
    "$BUILD/tests/grade" "$@" > "$work/log" 2>&1
}

gets_nothing() { # NAME SENTENCE: no points, for that reason, and soon
    start=$(date +%s)
    grade --submission "$work/$1" "$victim" && took=$(($(date +%s) - start)) &&
        echo "after $took s" >> "$work/log" && [ "$took" -lt 170 ] &&
        grep -q "$victim  *0 of" "$work/log" && grep -qE "$2" "$work/log"
}

fails_with() { # NAME SENTENCE
    check "$1: $2" gets_nothing "$1" "$2"
}

# --- what does not become a program ---

hand_in nonsense << 'END'
int main(void) { return }
END
fails_with nonsense "does not compile: limit.c:1:[0-9]*: error"

hand_in endless-source << 'END'
#include "/dev/zero"
END
fails_with endless-source 'does not compile|did not come to an end'

hand_in large-program << 'END'
char large[1L << 31] = {1};
int main(void) { return large[0]; }
END
fails_with large-program 'does not compile'

printf '#include "%s/03-select/server.c"\n' "$PWD" | hand_in whole-path
fails_with whole-path 'includes a file by its path'

mkdir -p "$work/nothing"
fails_with nothing 'there is no file'

hand_in link < /dev/null
ln -sf "$PWD/03-select/server.c" "$work/link/03-select/exercises/limit.c"
fails_with link 'no regular file'

mkdir -p "$work/linked-folder/03-select" "$work/elsewhere"
cp 03-select/server.c "$work/elsewhere/limit.c"
ln -s "$work/elsewhere" "$work/linked-folder/03-select/exercises"
fails_with linked-folder 'no regular file'

hand_in pipe < /dev/null
rm "$work/pipe/03-select/exercises/limit.c"
mkfifo "$work/pipe/03-select/exercises/limit.c"
fails_with pipe 'no regular file'

# --- what does ---

hand_in hangs << 'END'
int main(void) { for (;;); }
END
fails_with hangs "did not print 'listening on"

hand_in crashes << 'END'
int main(void) { __builtin_trap(); }
END
fails_with crashes 'the program was ended by signal'

hand_in eats-memory << 'END'
#include <stdlib.h>
#include <string.h>
int main(void) { for (char *p;;) if ((p = malloc(1 << 24))) memset(p, 1, 1 << 24); }
END
PATIENCE=30 # on a busy machine it takes seconds to eat so much
fails_with eats-memory 'MiB of memory, and was stopped'
PATIENCE=2

hand_in prints-without-end << 'END'
#include <stdio.h>
int main(void) { for (;;) printf("listening on 127.0.0.1:1\n<&>\"\\ \xff\x1b[31m"); }
END
fails_with prints-without-end 'connect'

hand_in complains-without-end << 'END'
#include <stdio.h>
int main(void) { for (;;) fprintf(stderr, "]]><&>\"\\ \xff\x1b[31m\n"); }
END
fails_with complains-without-end "did not print 'listening on"

hand_in becomes-a-daemon << 'END'
#include <signal.h>
#include <unistd.h>
int main(void)
{
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    for (int i = 0; i < 2; i++) {
        if (fork() > 0)
            _exit(0);
        setsid();
    }
    for (;;)
        pause();
}
END
fails_with becomes-a-daemon 'ended with exit status 0'

forks_without_end='#include <signal.h>
#include <unistd.h>
int main(void) { signal(SIGTERM, SIG_IGN); for (;;) if (fork() == 0) setsid(); }'
echo "$forks_without_end" | hand_in forks-without-end
fails_with forks-without-end 'processes, and was stopped'

if [ "$(id -u)" -eq 0 ]; then # others cannot be kept from killing what is theirs
    hand_in kills << 'END'
#include <signal.h>
#include <unistd.h>
int main(void) { kill(getppid(), SIGKILL); kill(-1, SIGKILL); for (;;) pause(); }
END
    fails_with kills "did not print 'listening on"
fi

hand_in leaves-things << 'END'
#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/shm.h>
int main(void)
{
    open("/tmp/left-by-an-exercise", O_CREAT | O_WRONLY, 0666);
    shmget(0x4c454654, 1 << 20, IPC_CREAT | 0666);
    return 0;
}
END
fails_with leaves-things 'ended with exit status 0'
things_are_left() {
    { ls /tmp/left-by-an-exercise; ipcs -m 2> /dev/null | grep 4c454654; } > "$work/log" 2> /dev/null
    [ -s "$work/log" ]
}
nothing_else_is_left() {
    ! things_are_left
}
if [ "$(id -u)" -eq 0 ] && [ "$(uname)" = Linux ]; then
    check 'no file and no shared memory is left' nothing_else_is_left
fi
rm -f /tmp/left-by-an-exercise

# ^C, which timeout sends to all of its group
interrupted() {
    timeout -s "$1" 3 "$BUILD/tests/grade" --submission "$work/becomes-a-daemon" "$victim" > "$work/log" 2>&1
    ls "$TMPDIR" >> "$work/log"
    ! grep -q 'points' "$work/log" && nothing_is_left
}
# --- what is left, the neighbour, the files, the exit status ---

nothing_is_left() {
    ls "$TMPDIR" > "$work/log"
    ps -A -o pid= -o args= 2> /dev/null | grep "^ *[0-9]* $TMPDIR" >> "$work/log"
    ! [ -s "$work/log" ]
}
check 'no folder and no process is left' nothing_is_left
if command -v timeout > /dev/null; then
    for signal in INT TERM HUP; do
        check "nothing is left after SIG$signal, either" interrupted $signal
    done
fi

mkdir -p "$work/neighbours"
cp -R "$work/forks-without-end/03-select" "$work/neighbours"
cp 03-select/server.c "$work/neighbours/03-select/exercises/idle.c" # knows no --idle
neighbour_is_graded() {
    grade --submission "$work/neighbours" 03-select
    grep -q 'processes, and was stopped' "$work/log" &&
        sed -n '/idle .* 0 of/,$p' "$work/log" | grep -q 'wrong argument' &&
        ! sed -n '/idle .* 0 of/,$p' "$work/log" | grep -q 'outside'
}
check 'a neighbour of one that forks without end is graded as ever' neighbour_is_graded

ends_with() { # STATUS ARGUMENTS...
    wanted=$1
    shift
    grade "$@"
    [ $? -eq "$wanted" ]
}
check 'points are missing: exit status 0' ends_with 0 --submission "$work/nothing" "$victim"
check '--strict: exit status 1' ends_with 1 --strict --submission "$work/nothing" "$victim"
check 'no such exercise: exit status 2' ends_with 2 03-select/no-such
check 'no such submission: exit status 2' ends_with 2 --submission "$work/nowhere"
check 'wrong argument: exit status 2' ends_with 2 --nonsense
check 'a chapter may end in a slash' ends_with 0 --submission "$work/nothing" 03-select/

if command -v python3 > /dev/null; then
    grade --submission "$work/complains-without-end" "$victim"
    check 'grade.json and grade.xml are what they should be' \
        python3 tests/exercises/read_reports.py "$BUILD/grade.json" "$BUILD/grade.xml"
fi
rm -rf "$work" "$TMPDIR"
exit $failed
