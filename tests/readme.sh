#!/bin/sh
# Runs what the READMEs tell their readers to type, so that it keeps working.
#
#     sh tests/readme.sh [README.md...]        default: all there are
#
# Only fenced blocks with the info string `console` are run. In them, `$ ` starts a command (a \ at
# its end continues it); the other lines are what it prints. The words after `console`, which GitHub
# does not show, say how:
#
#   terminal=1  Its one command goes to the background, as in a terminal of its own; the test waits
#               for its `listening on`. It runs until a line `^C` in this or a later block with
#               terminal=1, the next command for terminal 1 or the end of the file; then it has to
#               exit with 0. What is shown of it is compared then.
#   terminal=2  (or 3) Needs what runs in terminal 1: left out when that is. Otherwise as no word:
#               all commands of a block run in one shell, which then waits for what was left in
#               the background.
#   varies      Has to succeed; what it prints is not compared.
#   fails       Each of its commands has to fail.
#
# Every line shown has to be printed, in this order, but there may be others between them. Numbers
# (also 1.5, 12:34, 127.0.0.1:8000) and blanks count as equal. Port 8000 is another one each time,
# and build/trace* and build/lossy* are other files, so that nothing clashes. `make test`, `make bench` and their
# like are only checked with `make -n`. A block whose tool (strace, pgrep, ps, bash, curl) is missing is
# left out; what strace prints is compared where its words are those of strace 6 on x86-64.
#
# Prints a line for each command, `ok - ` or `not ok - `, and exits with 1 if one is not ok.

cd "$(dirname "$0")/.." || exit 1
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES CH SERVER SAN FROM TO
tmp=$(mktemp -d) || exit 1
LIMIT=60 # seconds for the commands of one block
count=0 failed=0 terminal='' running='' blocks=''
mkdir "$tmp/bin" && ln -s "$(command -v "${MAKE:-make}")" "$tmp/bin/make" || exit 1
PATH=$tmp/bin:$PATH # so that `make` is GNU make, whatever its name
port=$((10000 + $$ * 37 % 20000)) # below what kernels give to outgoing connections
trap 'cleanup' EXIT
trap 'exit 1' INT TERM HUP

ok() { count=$((count + 1)); printf 'ok - %s\n' "$*"; }
skip() { ok "$1 # SKIP $2"; }
not_ok() { count=$((count + 1)); failed=$((failed + 1)); printf 'not ok - %s\n' "$*"; }
one_line() { sed 's/ *\\$//; s/^  */ /' "$1" | tr -d '\n'; }
quote() { awk '{ print "#   " $0 }' "$@"; } # ends a last line that has no end

cleanup()
{
    for top in $running $blocks; do
        for pid in $(tree "$top"); do kill -KILL "$pid" 2>/dev/null; done
    done
    rm -rf "$tmp"
}

# A process and all below it.
tree()
{
    echo "$1"
    command -v ps >/dev/null && ps -A -o pid= -o ppid= | awk -v top="$1" '
        { parent[$1] = $2 }
        END { for (p in parent)
                  for (q = parent[p]; q > 1; q = parent[q])
                      if (q == top) { print p; break } }'
}

# The program itself, without what only waits for it to end.
programs()
{
    for pid in $(tree "$1"); do
        case $(ps -o comm= -p "$pid" 2>/dev/null) in
        make | gmake | strace | sh | bash | dash) ;;
        *) echo "$pid" ;;
        esac
    done
}

# Splits a README: block.N.info, block.N.cmd.I (command I), block.N.out.I (what it prints, and for
# I = 0 what is shown before any command). Prints how many blocks there are.
split()
{
    awk -v to="$tmp/block" '
        function file(kind) { return to "." n "." kind }
        !inside && /^ *```console( |$)/ {
            inside = 1; n++; i = 0; more = 0
            indent = index($0, "`") - 1
            print substr($0, indent + 11) " " > file("info"); printf "" > file("out.0"); next
        }
        inside && /^ *```/ { inside = 0; next }
        !inside { next }
        { for (k = indent; k > 0 && /^ /; k--) sub(/^ /, "") }
        more { print >> file("cmd." i); more = /\\$/; next }
        /^\$ / {
            i++; print substr($0, 3) > file("cmd." i); printf "" > file("out." i)
            more = /\\$/; next
        }
        { print >> file("out." i) }
        END { print n + 0 }' "$1"
}

# Puts the port and the files of this run in place of those shown.
ours() { sed "s/\([^0-9]\)8000\([^0-9]\)/\1$port\2/g; s/\([^0-9]\)8000\$/\1$port/
              s|build/trace|$tmp/trace|g; s|build/lossy|$tmp/lossy|g" "$@"; }

# Is every line of $1 in $2, in order? If not, says which one is missing and what there was.
compare()
{
    awk '
        function plain(s) {
            gsub(/0x[0-9a-f]+/, "#", s); gsub(/[0-9]+([.,:][0-9]+)*/, "#", s)
            gsub(/[ \t\r]+/, " ", s); sub(/ $/, "", s); sub(/^ /, "", s)
            return s
        }
        FILENAME == ARGV[1] { if ($0 != "..." && $0 != "^C") want[++n] = $0; next }
        { if (k < n && plain($0) == plain(want[k + 1])) k++ }
        END { if (k < n) { print "this line is shown in the README but was not printed"
                           if (k) print "after \"" want[k] "\""
                           print "- " want[k + 1]; exit 1 } }' "$1" "$2" ||
        { echo 'what was printed:'; awk 'NR <= 40 { print "+ " $0 }' "$2"; return 1; }
}

comparable() # block
{
    case $(cat "$tmp/block.$1".*) in
    *' varies '*) return 1 ;;
    *strace* | *build/trace*)
        case $(uname -m) in x86_64 | amd64) ;; *) return 1 ;; esac
        case $(strace -V | head -n 1) in *'version '[6-9]*) ;; *) return 1 ;; esac ;;
    esac
}

# What of this block is missing here? Prints it, or nothing.
missing()
{
    for tool in strace pgrep ps bash curl; do
        grep -qw "$tool" "$tmp/block.$1".cmd.* 2>/dev/null || continue
        command -v $tool >/dev/null || { echo "no $tool here"; return; }
    done
    if grep -qw strace "$tmp/block.$1".cmd.* 2>/dev/null; then
        strace -o /dev/null true 2>/dev/null || { echo 'strace is not permitted here'; return; }
        # ends the program below strace, which itself takes no signal
        command -v ps >/dev/null || { echo 'no ps here'; return; }
    fi
    needed=$(sed -n 's/.*ulimit -Sn \([0-9]*\).*/\1/p' "$tmp/block.$1".cmd.* 2>/dev/null | head -n 1)
    hard=$(sh -c 'ulimit -Hn')
    if [ -n "$needed" ] && [ "$hard" != unlimited ] && [ "$hard" -lt "$needed" ]; then
        echo "no more than $hard descriptors here"
    elif grep -q '{fd}' "$tmp/block.$1".cmd.* 2>/dev/null && ! bash -c 'exec {fd}<&0' 2>/dev/null
    then
        echo 'bash 4 is needed'
    fi
}

# --- terminal 1 ---

start_terminal() # README block
{
    tries=0
    while :; do
        port=$((port + 1))
        { printf 'exec '; ours "$tmp/block.$2.cmd.1"; } >"$tmp/terminal.cmd"
        : >"$tmp/terminal.out" # or the line of the one before would do
        sh "$tmp/terminal.cmd" </dev/null >"$tmp/terminal.out" 2>&1 &
        running=$! waited=0
        until grep -q 'listening on' "$tmp/terminal.out"; do
            if ! kill -0 $running 2>/dev/null || [ $waited -ge 100 ]; then break; fi
            sleep 0.1
            waited=$((waited + 1))
        done
        tries=$((tries + 1))
        if [ $tries -ge 20 ] || ! grep -q 'in use' "$tmp/terminal.out"; then break; fi
        wait $running
    done
    if ! grep -q 'listening on' "$tmp/terminal.out"; then
        not_ok "$terminal: never listened"
        quote "$tmp/terminal.out"
    fi
    : >"$tmp/terminal.want"
    if comparable "$2"; then cat "$tmp/block.$2".out.* >"$tmp/terminal.want"; fi
}

stop_terminal()
{
    [ -n "$running" ] || return 0
    for pid in $(programs "$running"); do kill -TERM "$pid" 2>/dev/null; done
    waited=0
    while kill -0 "$running" 2>/dev/null && [ $waited -lt 100 ]; do
        sleep 0.1
        waited=$((waited + 1))
    done
    for pid in $(tree "$running"); do kill -KILL "$pid" 2>/dev/null; done
    wait "$running"
    status=$?
    running=''
    if [ $status -ne 0 ]; then
        not_ok "$terminal: exit status $status"
        quote "$tmp/terminal.out"
    elif ! compare "$tmp/terminal.want" "$tmp/terminal.out" >"$tmp/why"; then
        not_ok "$terminal"
        quote "$tmp/why"
    else
        ok "$terminal"
    fi
}

terminal_block() # README block
{
    if [ -f "$tmp/block.$2.cmd.1" ]; then
        stop_terminal
        terminal="$1: $(one_line "$tmp/block.$2.cmd.1")"
        without=$(missing "$2")
        if [ -n "$without" ]; then
            skip "$terminal" "$without"
            return
        fi
        start_terminal "$1" "$2"
    elif [ -n "$running" ] && comparable "$2"; then
        cat "$tmp/block.$2.out.0" >>"$tmp/terminal.want"
    fi
    if grep -qx '^C' "$tmp/block.$2".out.*; then stop_terminal; fi
}

# --- the other terminals ---

run_block() # README block
{
    i=1
    rm -f "$tmp"/status.* "$tmp"/printed.*
    : >"$tmp/block.sh"
    while [ -f "$tmp/block.$2.cmd.$i" ]; do
        ours "$tmp/block.$2.cmd.$i" | sed -E '1s/^make (test|bench|grade|experiments)/make -n \1/' \
            >"$tmp/cmd"
        grep -q '^make -n' "$tmp/cmd" && : >"$tmp/block.$2.out.$i"
        { echo "exec >'$tmp/printed.$i' 2>&1"; cat "$tmp/cmd"; echo "echo \$? >'$tmp/status.$i'"; } \
            >>"$tmp/block.sh"
        i=$((i + 1))
    done
    echo wait >>"$tmp/block.sh"
    if command -v timeout >/dev/null; then
        timeout -k 5 $LIMIT sh "$tmp/block.sh" </dev/null &
    else
        sh "$tmp/block.sh" </dev/null &
    fi
    blocks=$!
    wait $blocks || true
    blocks=''

    shown=$i i=1
    while [ $i -lt $shown ]; do
        judge "$1: $(one_line "$tmp/block.$2.cmd.$i")" "$2" $i
        i=$((i + 1))
    done
}

judge() # name block command
{
    status=$(cat "$tmp/status.$3" 2>/dev/null || echo "none, it did not finish")
    ours "$tmp/block.$2.out.$3" >"$tmp/want"
    comparable "$2" || : >"$tmp/want"
    fails=$(grep -c ' fails ' "$tmp/block.$2.info")
    if [ "$status" = 0 ] && [ "$fails" -gt 0 ]; then
        not_ok "$1: should fail and did not"
    elif [ "$status" != 0 ] && [ "$fails" -eq 0 ]; then
        not_ok "$1: exit status $status"
        [ ! -f "$tmp/printed.$3" ] || quote "$tmp/printed.$3"
    elif ! compare "$tmp/want" "$tmp/printed.$3" >"$tmp/why"; then
        not_ok "$1"
        quote "$tmp/why"
    else
        ok "$1"
    fi
}

check() # README
{
    rm -f "$tmp"/block.* "$tmp/trace"*
    n=0 last=$(split "$1")
    while [ $n -lt "$last" ]; do
        n=$((n + 1))
        case $(cat "$tmp/block.$n.info") in
        *' terminal=1 '*) terminal_block "$1" $n ;;
        *)
            without=$(missing $n)
            case $(cat "$tmp/block.$n.info") in
            *' terminal='*) [ -n "$running" ] || without='terminal 1 is left out' ;;
            esac
            if [ ! -f "$tmp/block.$n.cmd.1" ]; then
                not_ok "$1: a block \`console\` without a command"
            elif [ -n "$without" ]; then
                skip "$1: $(one_line "$tmp/block.$n.cmd.1")" "$without"
            else
                run_block "$1" $n
            fi
            ;;
        esac
    done
    stop_terminal
}

if [ $# -eq 0 ]; then
    for readme in README.md 0[1-9]-*/README.md; do
        [ -f "$readme" ] && set -- "$@" "$readme"
    done
fi
make -s all build/tests/slow-peer || exit 1
for readme in "$@"; do
    if [ ! -f "$readme" ]; then
        not_ok "$readme: there is no such file"
        continue
    fi
    check "$readme"
done
echo "1..$count"
[ $failed -eq 0 ]
