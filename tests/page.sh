#!/bin/sh
# page.sh FILE.html: prints the C source that has the page as a string.
echo '/* page.html as a string; made by `make carry`. */'
echo '#include "page.h"'
echo
echo 'const char page_html[] ='
sed 's/\\/\\\\/g; s/"/\\"/g; s/^/    "/; s/$/\\n"/' "$1"
echo '    ;'
echo 'const long long page_html_length = sizeof page_html - 1;'
