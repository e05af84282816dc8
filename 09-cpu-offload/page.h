/* The live page, page.html, as a string: see `make carry`. */
#ifndef PAGE_H
#define PAGE_H

extern const char page_html[];
extern const long long page_html_length; /* bytes */

#endif
