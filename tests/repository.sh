#!/bin/sh
# shellcheck disable=SC2016,SC2317 # awk's own $; functions called through check
# What the repository promises of itself: sizes, differences, builds. Prints TAP lines.
cd "$(dirname "$0")/.." || exit 1
work=build/repository
rm -rf "$work"
mkdir -p "$work"
failed=0

check() { # DESCRIPTION COMMAND...: ok if the command succeeds
    title=$1
    shift
    if "$@" > "$work/log" 2>&1; then
        echo "ok - $title"
    else
        echo "not ok - $title"
        sed 's/^/#   /' "$work/log"
        failed=1
    fi
}

# Off Linux there is no epoll, and kqueue is the system's own.
linux=
[ "$(uname)" != Linux ] || linux=yes
is_here() { # FILE OR CHAPTER
    case $1 in 05-epoll*) [ -n "$linux" ] ;; esac
}

at_most() { # NUMBER LIMIT WHAT
    echo "$1 $3, at most $2"
    [ "$1" -le "$2" ]
}

# --- the difference is the lesson ---

changed() { # CHAPTER CHAPTER: lines that differ between their servers
    diff "$1"*/server.c "$2"*/server.c | grep -c '^[<>]'
}
check 'diff 01 02' at_most "$(changed 01 02)" 140 'changed lines'
for pair in 02:03 03:04 04:05 05:06; do
    from=${pair%:*} to=${pair#*:}
    check "diff $from $to" at_most "$(changed "$from" "$to")" 80 'changed lines'
done
"${MAKE:-make}" diff FROM=03 TO=04 > "$work/diff" 2>&1
check 'make diff shows it' grep -q '^+.*poll(' "$work/diff"

# --- a carried module is the same file ---

for folder in 08-threadpool 09-cpu-offload; do
    for file in "$folder"/*.[ch]; do
        name=$(basename "$file")
        for original in 07-event-loop 08-threadpool; do
            [ "$name" = server.c ] || [ "$original" = "$folder" ] || [ ! -f "$original/$name" ] ||
                check "$file is the one of $original" cmp "$original/$name" "$file"
        done
    done
done
page_is_carried() {
    sh tests/page.sh 09-cpu-offload/page.html | cmp - 09-cpu-offload/page.c
}
check 'page.c is page.html' page_is_carried
for folder in 08-threadpool 09-cpu-offload; do
    check "$folder/exercises/setup.h is the one of 07" \
        cmp 07-event-loop/exercises/setup.h $folder/exercises/setup.h
done

longest_function() { # FILE: lines of its longest function, from its name to its closing brace
    awk '/^{$/ { start = NR - 1 } /^}$/ { if (NR - start + 1 > most) most = NR - start + 1 }
         END { print most + 0 }' "$1"
}
for file in 0[1-6]*/server.c; do # without comments and empty lines: nobody is to save on comments
    check "$file is short" at_most "$(${CC:-cc} -fpreprocessed -dD -E -P "$file" | grep -c .)" 220 lines
done
for file in 0*/*.c 0*/*/*.c tests/*.c tests/*/*.c; do
    check "functions of $file are short" at_most "$(longest_function "$file")" 50 \
        'lines in the longest function'
done

# --- each chapter stands alone ---

alone() { # FILE: compiles elsewhere, with nothing but itself
    cp "$1" "$work/alone.c" && (cd "$work" && ${CC:-cc} -o alone alone.c && ./alone --help)
}
for file in 0[1-5]*/server.c 0*/client.c; do
    if is_here "$file"; then
        check "cc -o server $file" alone "$file"
    else
        echo "ok - cc -o server $file # SKIP no epoll here"
    fi
done

folder_alone() { # CHAPTER FILES...: they compile in a copy of the folder, and know their options
    folder=$1
    shift
    rm -rf "$work/folder"
    cp -R "$folder" "$work/folder"
    (cd "$work/folder" && rm -f server && ${CC:-cc} -o server "$@" -pthread && ./server --help)
}
check '06 builds alone' folder_alone 06-kqueue server.c ${linux:+-Icompat compat/kqueue.c}
for folder in 0[7-9]*; do
    # shellcheck disable=SC2046 # several names
    check "cc *.c -pthread in $folder" folder_alone "$folder" $(cd "$folder" && echo *.c)
done
says_what_it_has() {
    "$work/folder/server" --backend kqueue > "$work/said" 2>&1
    test $? -eq 2 || return 1
    cat "$work/said"
    test "$(cat "$work/said")" = 'server: kqueue: not on this system; have epoll, poll, select'
}
[ -z "$linux" ] || check 'a copied 07 has no kqueue, and says so' says_what_it_has

# What is only used on Linux here compiles for the systems it is written for.
for system in macos freebsd; do
    for file in 06-kqueue/server.c 07-event-loop/backend_kqueue.c; do
        [ -z "$linux" ] || check "$file, with the declarations of $system" "${CC:-cc}" -std=gnu11 \
            -fsyntax-only -Wall -Wextra -Wconversion -Werror -Itests/kqueue_headers/$system "$file"
    done
done

# --- exercises ---

# What the grader knows of an exercise is what its chapter's README says, and it has its files.
described() { # CHAPTER NAME POINTS MINUTES
    grep -q "^### $2: .* ($3 points, about $4 minutes)\$" "$1/README.md" || {
        echo "no heading '### $2: ... ($3 points, about $4 minutes)' in $1/README.md"
        return 1
    }
}
has_starter_and_answer() { # CHAPTER NAME
    [ -f "$1/exercises/$2.c" ] && { [ ! -d "$1/solutions" ] || [ -f "$1/solutions/$2.c" ]; }
}
"${BUILD:-build}/tests/grade" --list > "$work/exercises"
while read -r name points minutes; do
    chapter=${name%/*} exercise=${name#*/}
    check "$name: the README knows it" described "$chapter" "$exercise" "$points" "$minutes"
    check "$name: has a starter, and an answer" has_starter_and_answer "$chapter" "$exercise"
done < "$work/exercises"
check 'twenty exercises' test "$(wc -l < "$work/exercises")" -ge 20
for chapter in 0*; do
    check "two exercises in $chapter" test "$(grep -c "^$chapter/" "$work/exercises")" -ge 2
done
all_are_known() {
    for file in 0*/exercises/*.c; do
        name=$(echo "$file" | sed 's|/exercises/|/|; s|\.c$||')
        grep -q "^$name " "$work/exercises" || { echo "$file has no check"; return 1; }
    done
}
check 'no starter without a check' all_are_known
points=$(awk '{ sum += $2 } END { print sum }' "$work/exercises")
points_of_weeks() { # the plan in the README
    awk -F '|' '/^\| [1-6] \|/ { sum += $5 } END { print sum + 0 }' README.md
}
check "six weeks have all $points points" test "$(points_of_weeks)" -eq "$points"
student_edition() {
    "${MAKE:-make}" -s student DIR="$work/student" && ! ls "$work"/student/0*/solutions &&
        diff -r -x build -x .git -x .ci -x solutions -x server -x client -x await_demo -x await_echo . "$work/student"
}
check 'the student edition is all but the solutions' student_edition

# --- the Makefile, in a clone of its own ---

clone=$work/clone
mkdir -p "$clone"
tar cf - --exclude=./build --exclude=./.git . | tar xf - -C "$clone"
make_in() { # ARGUMENTS...
    env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL "${MAKE:-make}" -C "$clone" --no-print-directory "$@"
}
make_in clean > /dev/null

check 'make -j builds every chapter' make_in -j4
every_program() {
    for chapter in 0*/; do
        [ -x "$clone/${chapter}server" ] || ! is_here "$chapter" || { echo "no ${chapter}server"; return 1; }
    done
    stray=$(find "$clone"/0* -name '*.o' -o -name '*.d')
    [ -z "$stray" ] || { echo "$stray"; return 1; }
}
check 'only finished programs lie in the chapters' every_program
make_in > "$work/plan"
check 'a second make builds nothing' test ! -s "$work/plan"
make_in build/tests/demo > /dev/null
touch "$clone/tests/harness.h"
make_in build/tests/demo > "$work/plan"
check 'a touched header builds what includes it' grep -q 'demo.o' "$work/plan"
touch "$clone/04-poll/server.c"
make_in > "$work/plan"
check 'a touched source builds its program' grep -q 'LD.*04-poll/server' "$work/plan"
make_in CFLAGS=-O1 > "$work/plan"
check 'other flags build everything anew' grep -q 'CC.*01-blocking/server.o' "$work/plan"
make_in help > "$work/plan"
check 'make help lists the targets' grep -q 'make demo' "$work/plan"
plans() { # WHAT ARGUMENTS...: what make would do for ARGUMENTS has WHAT in it
    what=$1
    shift
    make_in -n "$@" > "$work/plan" && grep -qE -e "$what" "$work/plan"
}
for ch in 04 4 04-poll 04-poll/; do
    check "make run CH=$ch" plans '^ *04-poll/server' run CH=$ch
    check "make test CH=$ch" plans "CH='04-poll'" test CH=$ch
done
for ex in limit 03/limit 03-select/limit; do
    check "make run EX=$ex" plans '^ *build/exercises/03-select/limit' run EX=$ex
    check "make grade EX=$ex" plans ' 03-select/limit$' grade EX=$ex
done
which_one() { # ARGUMENTS...: one line that says which there are, and exit status 2
    make_in "$@" > "$work/said" 2>&1
    [ $? -eq 2 ] && cat "$work/said" && [ "$(wc -l < "$work/said")" -eq 1 ] &&
        grep -q 'which one? 0[13]-' "$work/said"
}
for wrong in run 'run CH=99' 'run CH=0' 'test CH=99' 'diff FROM=03' 'diff FROM=99 TO=04' \
    'run EX=idle' 'grade EX=no-such' 'grade CH=99'; do
    # shellcheck disable=SC2086 # several words
    check "make $wrong: which one?" which_one $wrong
done
needs_no_check() {
    ! plans install_check demo
}
check 'make demo needs no Check' needs_no_check
check 'where Check is, is asked' plans '-DASKED --cflags check' PKG_CONFIG='echo -DASKED' build/tests/suite
check 'make clean removes all that was built' make_in clean
built=$(cd "$clone" && find . -perm -u+x -type f ! -name '*.sh' ! -path './.ci/*'; ls -d "$clone/build" 2> /dev/null)
check 'nothing is left after make clean' test -z "$built"

# --- the demo ---

start=$(date +%s)
"${MAKE:-make}" -s demo > "$work/demo"
status=$?
took=$(($(date +%s) - start))
check 'make demo succeeds' test "$status" -eq 0
check 'make demo is over soon' at_most "$took" 30 seconds
check 'make demo fits 80 columns' awk 'length($0) > 80 { print; bad = 1 } END { exit bad }' "$work/demo"
plain() {
    ! grep -q "$(printf '\033')" "$work/demo"
}
check 'make demo is plain text in a pipe' plain
for chapter in 0*; do
    ! is_here "$chapter" || check "make demo shows $chapter" grep -q "$chapter" "$work/demo"
done
exit $failed
