#!/bin/sh
# page.sh FILE.html: prints the C source that has the page as a string.
cat << 'END'
/* page.html as a string; made by "make carry". */
/* clang-format off */
#include "page.h"

/* ISO C asks compilers for 4,095 characters only; those we know take more. */
#pragma GCC diagnostic ignored "-Woverlength-strings"
const char page_html[] =
END
sed 's/\\/\\\\/g; s/"/\\"/g; s/^/    "/; s/$/\\n"/' "$1"
echo '    ;'
echo 'const long long page_html_length = sizeof page_html - 1;'
