#!/bin/sh
# Makes sure that the Check library (libcheck.github.io) is there, and installs it if it is not.
have_check() {
    # shellcheck disable=SC2046 # several flags
    echo '#include <check.h>' | ${COMPILE:-cc} \
        $(${PKG_CONFIG:-pkg-config} --cflags check 2> /dev/null) -E -x c - > /dev/null 2>&1
}
have_check && exit 0

as_root=
[ "$(id -u)" -eq 0 ] || as_root=sudo
if command -v apt-get > /dev/null; then
    install="$as_root apt-get install -y check"
    update="$as_root apt-get update"
elif command -v dnf > /dev/null; then
    install="$as_root dnf install -y check-devel"
elif command -v apk > /dev/null; then
    install="$as_root apk add check-dev"
elif command -v pacman > /dev/null; then
    install="$as_root pacman -S --noconfirm check"
elif command -v brew > /dev/null; then
    install="brew install check pkgconf" # which tells where it is
elif command -v pkg > /dev/null; then
    install="$as_root pkg install -y check pkgconf"
else
    echo "The tests need the Check library (package check): please install it." >&2
    exit 1
fi
echo "The tests need the Check library, which is missing. Installing it: $install"
mkdir -p build
{ ${update:-true} && $install; } > build/install-check.log 2>&1 && have_check && exit 0
tail -n 5 build/install-check.log >&2
echo "That did not work: please install the package yourself." >&2
exit 1
