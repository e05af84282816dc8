/* page.html as a string; made by `make carry`. */
#include "page.h"

const char page_html[] =
    "<!doctype html>\n"
    "<html lang=\"en\"><meta charset=\"utf-8\"><title>09</title><h1>09: the combined server</h1>\n"
    ;
const long long page_html_length = sizeof page_html - 1;
