#!/bin/sh
# Runs the tests and counts them; called by `make test`, which says with what (CH, SERVER, SAN: see
# `make help`; BUILD, IN: where the programs are). The last line is "N passed, N failed".
#
# Suites spend their time waiting, so JOBS of them (default 4) run side by side: each is this script
# again, as `run.sh one NUMBER ARGUMENTS...`.
work=$BUILD/tests/run

# Each suite reports in TAP: a line "ok ..." or "not ok ..." for each test.
report() { # TITLE STATUS: says how the suite went whose lines are in $tap
    passed=$(grep -c '^ok' "$tap")
    failed=$(grep -c '^not ok' "$tap")
    # a suite that died, or that tested nothing, must not look like one that passed
    if [ "$2" -ne 0 ] && [ "$failed" -eq 0 ] || [ $((passed + failed)) -eq 0 ]; then
        echo "not ok - $1: ended with status $2" >> "$tap"
        failed=$((failed + 1))
    fi
    failures=$(grep '^not ok' "$tap" | sed 's/^not ok/    FAILED/')
    printf '  %-38s %3d passed, %d failed\n%s' "$1" "$passed" "$failed" "${failures:+$failures
}"
}

suite() { # CHAPTER SERVER [OPTIONS [CASE]]: what a chapter's server has to do; "echo": any echo server
    title=$1${3:+ $3}
    [ "$1" != echo ] || title=${2#"$IN"} title=${title#"$BUILD/"}${4:+: $4}
    client=$IN$1/client
    [ -x "$client" ] && [ -z "$SERVER" ] && [ -z "${3:-}" ] || client=
    [ -z "${4:-}" ] || export CK_RUN_CASE="$4"
    CLIENT=$client SLOW_PEER=$BUILD/tests/slow-peer CK_TAP_LOG_FILE_NAME=$tap CK_VERBOSITY=silent \
        "$BUILD/tests/suite" "$1" "$2" "${3:-}"
    report "$title" $?
}

unit() { # NAME: a suite that calls functions, and not a program
    CK_TAP_LOG_FILE_NAME=$tap CK_VERBOSITY=silent "$BUILD/tests/$1" 2> "$tap.errors"
    report "$1" $?
    [ "$failed" -eq 0 ] || cat "$tap.errors" >&2
    rm "$tap.errors"
}

script() { # TITLE COMMAND...: a command that prints TAP itself
    title=$1
    shift
    "$@" > "$tap" 2>&1
    report "$title" $?
}

if [ "${1:-}" = one ]; then
    tap=$work/$2
    shift 2
    "$@"
    exit 0
fi

# --- what there is to do: a line each, with quoted arguments ---

rm -rf "$work"
mkdir -p "$work"
count=0
plan() {
    count=$((count + 1))
    printf '%d' $count
    printf ' "%s"' "$@"
    printf '\n'
}

plan_chapter() { # CHAPTER SERVER
    plan suite "$1" "$2"
    case $1 in
    05-epoll | 06-kqueue)
        plan suite "$1" "$2" --edge ;;
    07-event-loop)
        case $SAN in # sanitized: once more, with the one that keeps the most in memory of its own
        '') backends='poll kqueue select' ;;
        thread) backends= ;;
        *) backends=poll ;;
        esac
        for backend in $backends; do
            plan suite "$1" "$2" "--backend $backend"
        done ;;
    esac
    [ -z "$SERVER" ] || return
    case $1 in
    06-kqueue)
        plan unit test_kqueue ;;
    07-event-loop)
        plan unit test_loop
        plan unit test_http
        plan unit test_http_clients
        plan unit test_coroutine
        plan suite echo "$IN$1/coroutines/await_echo" ;;
    08-threadpool)
        plan unit test_threadpool ;;
    09-cpu-offload)
        plan unit test_procpool ;;
    esac
}

# Faults are tried in a server with each of its ways to wait.
plan_faults() { # CHAPTER
    case $1 in
    05-epoll | 06-kqueue) options='--edge' ;;
    07-event-loop) options='--backend=poll --backend=kqueue --backend=select' ;;
    *) options= ;;
    esac
    for option in '' $options; do
        for kind in $kinds; do
            plan script "$1${option:+ $option}: $kind" "$BUILD/tests/faults" "$kind" "$1" "$IN$1/server" \
                "$(echo "$option" | tr '=' ' ')"
        done
    done
}

# The answers to exercises that are echo servers owe their clients what every echo server does.
plan_solutions() { # CHAPTER
    for solution in "$BUILD/solutions/$1"/*; do
        case $SAN:${solution#"$BUILD/solutions/"} in
        *'/*' | */connect | */chat | */gather | */yield | *:0[89]-*) ;; # there are none; no echo servers
        thread:*/thread) plan suite echo "$solution" ;;
        thread:*) ;; # the others have none, or need more descriptors then than a test leaves them
        address*) # what goes through them; the rest is the same code as their chapter's server
            for case in bytes clients; do
                plan suite echo "$solution" '' "$case"
            done ;;
        *:01-blocking/fork | *:06-kqueue/wakeup) # all but the tests with very few descriptors: fork's
            # clients have theirs in other processes, and wakeup needs nearly all of them itself
            for case in alone ending running bytes clients; do
                plan suite echo "$solution" '' "$case"
            done ;;
        *) plan suite echo "$solution" ;;
        esac
    done
}

kinds='calls memory'
if [ -n "${PROVE:-}" ] && ! strace -o /dev/null true 2> /dev/null; then
    echo '  system calls that fail: skipped, strace does not work here' >&2
    kinds=memory
fi
for chapter in ${CH:-0[1-9]-*}; do
    [ -d "$chapter" ] || { echo "CH=$chapter: no such chapter" >&2; exit 2; }
    if [ -z "$SERVER" ] && [ ! -x "$IN$chapter/server" ]; then
        echo "  $chapter: skipped, not for this system" >&2
        continue
    fi
    # ThreadSanitizer's runtime does not know that select() blocks, and keeps SIGTERM back for ever
    [ "$chapter$SAN" != 03-selectthread ] || continue
    if [ -n "${PROVE:-}" ]; then
        plan_faults "$chapter"
        continue
    fi
    plan_chapter "$chapter" "${SERVER:-$IN$chapter/server}"
    [ -n "$SERVER" ] || plan_solutions "$chapter"
done > "$work/plan"

export SERVER SAN BUILD IN
# the last chapters' suites take longest: first, or one of them would run alone at the end
sort -rn "$work/plan" | xargs -L 1 -P "${JOBS:-4}" sh "$0" one
if [ -z "${PROVE:-}$SERVER" ] && [ "$SAN$CH" != "thread${CH:-none}" ] && [ -d 01-blocking/solutions ]; then
    # (with SAN=thread only a few exercises are proved, and a chapter may have none of them)
    tap=$work/solutions
    # shellcheck disable=SC2086 # no chapter: all of them
    script 'solutions of the exercises' "$BUILD/tests/grade" --prove-solutions $CH
fi
if [ -z "${PROVE:-}$CH$SERVER$SAN" ]; then # these measure, or start jobs of their own: one after the other
    tap=$work/mutants
    script 'servers broken on purpose' sh tests/mutants/run.sh "$BUILD/tests/suite"
    if [ -d 01-blocking/solutions ]; then
        tap=$work/wrong
        script 'mistakes in exercises' sh tests/exercises/wrong.sh
    fi
    tap=$work/hostile
    script 'programs that do harm' sh tests/exercises/hostile.sh
    tap=$work/repository
    script 'the repository' sh tests/repository.sh
    if command -v python3 > /dev/null; then
        tap=$work/page
        script 'the live page in a browser' python3 tests/test_page.py 09-cpu-offload/server
    else
        echo '  the live page in a browser: skipped, no python3 here'
    fi
    tap=$work/readme
    script 'commands in the READMEs' sh tests/readme.sh
fi

rm "$work/plan"
cat "$work"/* > "$BUILD/tests/log"
passed=$(grep -c '^ok' "$BUILD/tests/log")
failed=$(grep -c '^not ok' "$BUILD/tests/log")
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
