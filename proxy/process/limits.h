/*
 * limits.h — what the descriptor limit allows: sessions, and shadows beside them.
 *
 *     descriptors of a worker = spare + 2 for each pipe + 2 for each session + 1 for each shadow
 *                               logs                      client, primary
 *
 * A session's two are always kept free, so that shadows never take the primary's.
 */
#ifndef PROCESS_LIMITS_H
#define PROCESS_LIMITS_H

#include <stdbool.h>
#include <stddef.h>

struct config;

struct limits {
    size_t sessions;            /* clients at a time, over all workers */
    size_t sessions_per_worker;
    size_t shadows_per_worker;  /* open connections to shadows */
    size_t pipes_per_worker;    /* that bytes are spliced through */
    bool   is_lowered;          /* --max-sessions asked for more */
};

/* descriptors: what one process may open. */
struct limits limits_choose(const struct config *, size_t descriptors);

/* Bytes that buffers can take at worst: every session full both ways, and all shadow lag. */
double limits_worst_memory(const struct config *, const struct limits *);

/* Raises this process's descriptor limit as far as it goes (setrlimit(2)); answers the limit. */
size_t limits_raise_descriptors(void);

#endif
