#!/bin/sh
# run.sh SUITE [SCRIPT]: breaks servers on purpose and demands that the suites notice.
#
# A mutant is a sed script NAME.sed. Its first line says which file of a chapter it breaks (and the
# server's options), the second which test case and test have to fail on it, the third what is wrong.
# Prints "ok" for a mutant that is caught, "not ok" for one that gets through.
cd "$(dirname "$0")/../.." || exit 1
suite=$1
where=build/mutants
if [ "$(uname)" = Linux ]; then # as in the Makefile: kqueue has to be made of epoll
    headers=-I06-kqueue/compat
    kqueue=$where/kqueue.o
fi

build() { # FILE FOLDER: the server in FOLDER, of the broken file there and the rest of its chapter
    chapter=${1%/*} file=$1 folder=$2
    set -- "$folder/${1##*/}"
    for source in "$chapter"/*.c; do # compiled by `make`, beside the suite
        case $source in "$file" | */client.c) continue ;; esac
        set -- "$@" "$(dirname "$suite")/../${source%.c}.o"
    done
    case $chapter in 0[6-9]*) set -- "$@" ${kqueue:+"$kqueue"} ;; esac
    # what /files serves lies beside the program
    [ ! -d "$chapter/files" ] || ln -s "$PWD/$chapter/files" "$folder/files"
    ${CC:-cc} -std=gnu11 -O2 -w -I"$chapter" ${headers:+"$headers"} -o "$folder/server" "$@" -pthread
}

check() { # NAME SCRIPT FILE OPTIONS CASE TEST
    broken=$where/$1/${3##*/}
    mkdir -p "$where/$1"
    sed -f "$2" "$3" > "$broken"
    if [ "$(uname)" != Linux ] && [ "${3%/*}" = 05-epoll ]; then
        echo "ok - mutant $1 # SKIP no epoll here"
    elif cmp -s "$3" "$broken"; then
        echo "not ok - mutant $1: changes nothing in $3"
    elif ! build "$3" "$where/$1"; then
        echo "not ok - mutant $1: does not compile"
    else
        # some faults need luck to show: who gets through has to do so three times
        for attempt in 1 2 3; do
            PATIENCE=3 CLIENT='' CK_RUN_CASE=$5 CK_VERBOSITY=normal \
                "$suite" "${3%/*}" "$where/$1/server" "$4" > "$where/$1/log" 2>&1
            grep -q ":[FES]:[^:]*:$6:" "$where/$1/log" && break
        done
        if grep -q ":[FES]:[^:]*:$6:" "$where/$1/log"; then
            echo "ok - mutant $1: caught by $6"
        else
            echo "not ok - mutant $1: gets through $6 ($attempt times)"
        fi
    fi
}

if [ $# -gt 1 ]; then
    where_line=$(sed -n '1s/# //p' "$2")
    caught_line=$(sed -n '2s/# caught by //p' "$2")
    options=${where_line#* }
    [ "$options" = "$where_line" ] && options=
    name=$(basename "$2" .sed)
    check "$name" "$2" "${where_line%% *}" "$options" "${caught_line% *}" "${caught_line#* }" \
        > "$where/$name.result" 2>&1
    exit 0
fi

rm -rf "$where"
mkdir -p "$where"
[ -z "${kqueue:-}" ] || ${CC:-cc} -std=gnu11 -O2 "$headers" -c \
    -o "$kqueue" 06-kqueue/compat/kqueue.c
# four at a time: mostly they wait for a broken server
printf '%s\n' tests/mutants/*.sed | xargs -n 1 -P 4 sh tests/mutants/run.sh "$suite"
cat "$where"/*.result
! grep -q '^not ok' "$where"/*.result
