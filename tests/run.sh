#!/bin/sh
# Runs the tests and counts them; called by `make test`, which says with what (CH, SERVER, SAN: see
# `make help`; BUILD, IN: where the programs are). The last line is "N passed, N failed".
log=$BUILD/tests/log
tap=$BUILD/tests/tap
: > "$log"

# Each suite reports in TAP: a line "ok ..." or "not ok ..." for each test.
report() { # TITLE STATUS: says how the suite went whose lines are in $tap
    passed=$(grep -c '^ok' "$tap")
    failed=$(grep -c '^not ok' "$tap")
    # a suite that died, or that tested nothing, must not look like one that passed
    if [ "$2" -ne 0 ] && [ "$failed" -eq 0 ] || [ $((passed + failed)) -eq 0 ]; then
        echo "not ok - $1: ended with status $2" >> "$tap"
        failed=$((failed + 1))
    fi
    printf '  %-34s %3d passed, %d failed\n' "$1" "$passed" "$failed"
    grep '^not ok' "$tap" | sed 's/^not ok/    FAILED/'
    cat "$tap" >> "$log"
}

suite() { # CHAPTER SERVER [OPTIONS]
    client=$IN$1/client
    [ -x "$client" ] && [ -z "$SERVER" ] && [ -z "${3:-}" ] || client=
    rm -f "$tap"
    CLIENT=$client SLOW_PEER=$BUILD/tests/slow-peer CK_TAP_LOG_FILE_NAME=$tap CK_VERBOSITY=silent \
        "$BUILD/tests/suite" "$1" "$2" "${3:-}"
    report "$1${3:+ $3}" $?
}

script() { # TITLE COMMAND...: a command that prints TAP itself
    title=$1
    shift
    "$@" > "$tap" 2>&1
    report "$title" $?
}

for chapter in ${CH:-0[1-9]-*}; do
    [ -d "$chapter" ] || { echo "CH=$chapter: no such chapter" >&2; exit 2; }
    if [ -z "$SERVER" ] && [ ! -x "$IN$chapter/server" ]; then
        echo "  $chapter: skipped, not for this system"
        continue
    fi
    if [ "$chapter$SAN" = 03-selectthread ]; then
        # its runtime does not know that select() blocks, and keeps SIGTERM back for ever
        echo "  $chapter: skipped, ThreadSanitizer delivers no signal during select()"
        continue
    fi
    suite "$chapter" "${SERVER:-$IN$chapter/server}"
    [ "$chapter" = 05-epoll ] && suite "$chapter" "${SERVER:-$IN$chapter/server}" --edge
done
if [ -z "$CH$SERVER$SAN" ]; then
    script 'servers broken on purpose' sh tests/mutants/run.sh "$BUILD/tests/suite"
    script 'the repository' sh tests/repository.sh
    script 'commands in the READMEs' sh tests/readme.sh
fi

passed=$(grep -c '^ok' "$log")
failed=$(grep -c '^not ok' "$log")
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
