#!/bin/sh
# run.sh SUITE: breaks servers on purpose and demands that the suites notice.
#
# A mutant is a sed script NAME.sed. Its first line says which chapter's server.c it breaks (and the
# server's options), the second which test case and test have to fail on it, the third what is wrong.
# Prints "ok" for a mutant that is caught, "not ok" for one that gets through.
cd "$(dirname "$0")/../.." || exit 1
suite=$1
where=build/mutants

check() { # NAME SCRIPT CHAPTER OPTIONS CASE TEST
    mkdir -p "$where/$1"
    sed -f "$2" "$3/server.c" > "$where/$1/server.c"
    if cmp -s "$3/server.c" "$where/$1/server.c"; then
        echo "not ok - mutant $1: changes nothing in $3/server.c"
    elif ! ${CC:-cc} -std=gnu11 -O2 -w -o "$where/$1/server" "$where/$1/server.c"; then
        echo "not ok - mutant $1: does not compile"
    else
        # some faults need luck to show: who gets through has to do so three times
        for attempt in 1 2 3; do
            PATIENCE=3 CLIENT='' CK_RUN_CASE=$5 CK_VERBOSITY=normal \
                "$suite" "$3" "$where/$1/server" "$4" > "$where/$1/log" 2>&1
            grep -q ":[FES]:[^:]*:$6:" "$where/$1/log" && break
        done
        if grep -q ":[FES]:[^:]*:$6:" "$where/$1/log"; then
            echo "ok - mutant $1: caught by $6"
        else
            echo "not ok - mutant $1: gets through $6 ($attempt times)"
        fi
    fi > "$where/$1.result" 2>&1
}

rm -rf "$where"
count=0
for script in tests/mutants/*.sed; do
    name=$(basename "$script" .sed)
    where_line=$(sed -n '1s/# //p' "$script")
    caught_line=$(sed -n '2s/# caught by //p' "$script")
    options=${where_line#* }
    [ "$options" = "$where_line" ] && options=
    check "$name" "$script" "${where_line%% *}" "$options" "${caught_line% *}" "${caught_line#* }" &
    count=$((count + 1))
    [ $((count % 4)) -eq 0 ] && wait # four at a time: mostly they wait for a broken server
done
wait
cat "$where"/*.result
! grep -q '^not ok' "$where"/*.result
