/*
 * Serves the files of one folder. The calls that may block for long (open, fstat, read) are made in
 * the thread pool: a descriptor of a file is always "ready", so no event loop can wait for a disk.
 */
#ifndef FILES_H
#define FILES_H

#include "http_server.h"
#include "threadpool.h"

/* Answers the request with the file of that name in the folder that root is a descriptor of (-1:
 * none, then nothing is there), or a part of it (Range, RFC 9110, 14). What is not a regular file
 * below root, reached without a symbolic link, is not there: 404. When the pool takes no more jobs:
 * 503. Belongs to the loop's thread. However large the file, it costs at most
 * 192 KiB. */
void files_answer(struct client *client, const struct http_parser *request, const char *name,
                  int root, struct threadpool *pool);

#endif
