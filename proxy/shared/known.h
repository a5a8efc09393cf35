/*
 * known.h — the addresses that names had last, for workers that have not asked yet.
 *
 *     worker ──known_note──▶ cell of name and family ──known_find──▶ a worker that starts
 *
 * It lies in the shared page and belongs to nobody: a worker that starts while no name server answers
 * would know nothing, although its siblings do.  A help, no promise: a cell that two write at once, or
 * one left half written by a worker that was killed, is as if it were empty, until the next answer.
 */
#ifndef SHARED_KNOWN_H
#define SHARED_KNOWN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

#define KNOWN_ADDRESSES 8    /* of one name and family; further ones are not kept */
#define KNOWN_CELLS     1024 /* four times as many as 256 names need, so that they seldom meet */
#define KNOWN_HOST      256
#define KNOWN_WORDS     50   /* of what a cell holds */

struct known_cell {
    _Atomic uint64_t words[KNOWN_WORDS];
    _Atomic uint64_t sum; /* of the words; another one: they are not to be believed */
};

/* A zeroed one knows nothing. */
struct known {
    struct known_cell cells[KNOWN_CELLS];
};

struct known_answer {
    size_t         count;
    double         expires;   /* CLOCK_MONOTONIC seconds, for which the answer counts as new */
    struct address addresses[KNOWN_ADDRESSES]; /* with port 0 */
};

/* The addresses of this name and family (AF_INET, AF_INET6) from now on; a count of 0: none. */
void known_note(struct known *, const char *host, int family, const struct known_answer *);
/* False: nothing is known. */
bool known_find(const struct known *, const char *host, int family, struct known_answer *);

#endif
