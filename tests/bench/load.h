/*
 * The load that `make bench` puts on a server, and what that costs the server.
 *
 * 50 connections, one batch in flight on each, from one epoll loop. A batch is a 64-byte message
 * for an echo server to send back; or for an HTTP server, one request for /health (or another) or
 * several, one behind the other without waiting (pipelined). The next batch goes out when the one
 * before is answered.
 */
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <sys/types.h>

enum { ACTIVE = 50, MESSAGE = 64, MAX_DEPTH = 16 };

/* What is measured: messages or requests a second, ns of the server's CPU time for each, and the
 * time until a batch is answered, in seconds, that half or 99 % of them did not exceed; bytes of
 * the server's own memory for an idle connection (NAN without any); bytes of an answer. */
enum figure { RATE, CPU, HALF, MOST, MEMORY, ANSWER, FIGURES };

struct plan {
    int depth; /* requests in a batch, at most MAX_DEPTH; 0: the server echoes */
    int idle;  /* connections beside the active ones; an HTTP server's have asked once */
    double seconds;
    bool pooled; /* an HTTP server is asked for /good-ping?ms=0, not /health */
};

/* Puts that load on the server with that port and process, and takes the figures. Returns NULL, or
 * what went wrong. All connections are closed again. */
const char *load_run(int port, pid_t pid, const struct plan *plan, double figures[FIGURES]);

#endif
