#!/bin/sh
# wrong.sh [SCRIPT]: hands in answers with the mistakes that students make, and demands that the
# check which is about it fails, with a sentence that helps.
#
# A mistake is a sed script wrong/NAME.sed for the solution of an exercise. Its first line names the
# exercise, the second the check, the third has a part of the sentence (a regular expression), the
# fourth says what is wrong. GRADE_CC, RACING_CC and BUILD are as for the grader. Prints TAP.
cd "$(dirname "$0")/../.." || exit 1
where=$BUILD/wrong

if [ $# -gt 0 ]; then
    name=$(basename "$1" .sed)
    exercise=$(sed -n '1s/# //p' "$1") check=$(sed -n '2s/# //p' "$1") says=$(sed -n '3s/# //p' "$1")
    chapter=${exercise%/*} file=${exercise#*/}.c
    case $says in
    *ThreadSanitizer*)
        if ! [ -x "$where/probe" ]; then
            echo "ok - $exercise: $name # SKIP no ThreadSanitizer here"
            exit 0
        fi ;;
    esac
    mkdir -p "$where/$name/$chapter/exercises"
    sed -f "$1" "$chapter/solutions/$file" > "$where/$name/$chapter/exercises/$file"
    # some mistakes need luck to show: who gets through has to do so three times
    for attempt in 1 2 3; do
        cmp -s "$chapter/solutions/$file" "$where/$name/$chapter/exercises/$file" && break
        PATIENCE=${PATIENCE:-5} "$BUILD/tests/grade" --submission "$where/$name" --check "$check" \
            --report "$where/$name" "$exercise" > "$where/$name/log" 2>&1
        if grep -A 1 -F -e "$check" "$where/$name/log" | grep -q -e "$says"; then
            echo "ok - $exercise: $name"
            exit 0
        fi
    done
    echo "not ok - $exercise: $name ($attempt times)"
    sed 's/^/#   /' "$where/$name/log" 2> /dev/null
    exit 0
fi

rm -rf "$where"
mkdir -p "$where"
# whether it is here, and runs: on some kernels it does not
echo 'int main(void) { return 0; }' > "$where/probe.c"
# shellcheck disable=SC2086 # a compiler and its flags
if ! { $RACING_CC -o "$where/probe" "$where/probe.c" && "$where/probe"; } 2> /dev/null; then
    rm -f "$where/probe"
fi
printf '%s\n' tests/exercises/wrong/*.sed | xargs -n 1 -P 3 sh tests/exercises/wrong.sh > "$where/log"
cat "$where/log"
! grep -q '^not ok' "$where/log"
