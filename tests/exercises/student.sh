#!/bin/sh
# student.sh DIR: copies this checkout to DIR, a new folder, without the solutions and without what
# was built.
cd "$(dirname "$0")/../.." || exit 1
if [ -z "$1" ] || { [ -e "$1" ] && [ -n "$(ls -A "$1")" ]; }; then
    echo 'make student DIR=somewhere: DIR has to be a folder that does not exist yet, or an empty one' >&2
    exit 2
fi
mkdir -p "$1" || exit 1
dir=$(cd "$1" && pwd)
case $dir/ in
"$PWD"/build/*) ;; # which is not copied
"$PWD"/*)
    echo "make student: $dir lies in what is to be copied" >&2
    rmdir "$dir"
    exit 2 ;;
esac
tar cf - --exclude=./build --exclude=./.git --exclude=./.ci --exclude='./0*/solutions' . | tar xf - -C "$dir" &&
    env -u MAKEFLAGS -u MAKELEVEL "${MAKE:-make}" -s -C "$dir" clean &&
    echo "$dir: the student edition; commit it and hand it out"
