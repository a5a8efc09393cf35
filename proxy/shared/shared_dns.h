/*
 * shared_dns.h — the addresses that names had last, for workers that have not asked yet.
 *
 *     worker ──shared_dns_store──▶ cell of name and family ──shared_dns_find──▶ a worker that starts
 *
 * It lies in the shared page and belongs to nobody: a worker that starts while no name server answers
 * would know nothing, although its siblings do.  A help, no promise: a cell that two write at once, or
 * one left half written by a worker that was killed, is as if it were empty, until the next answer.
 */
#ifndef SHARED_SHARED_DNS_H
#define SHARED_SHARED_DNS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

#define SHARED_DNS_ADDRESSES 8    /* of one name and family; further ones are not kept */
#define SHARED_DNS_CELLS     1024 /* four times as many as 256 names need, so that they seldom meet */
#define SHARED_DNS_HOST      256
#define SHARED_DNS_WORDS     50   /* of what a cell holds */

struct shared_dns_cell {
    _Atomic uint64_t words[SHARED_DNS_WORDS];
    _Atomic uint64_t sum; /* of the words; another one: they are not to be believed */
};

/* A zeroed one knows nothing. */
struct shared_dns {
    struct shared_dns_cell cells[SHARED_DNS_CELLS];
};

struct shared_dns_answer {
    size_t         count;
    double         expires;   /* CLOCK_MONOTONIC seconds, for which the answer counts as new */
    struct address addresses[SHARED_DNS_ADDRESSES]; /* with port 0 */
};

/* The addresses of this name and family (AF_INET, AF_INET6) from now on; a count of 0: none. */
void shared_dns_store(struct shared_dns *, const char *host, int family,
                      const struct shared_dns_answer *);
/* False: nothing is known. */
bool shared_dns_find(const struct shared_dns *, const char *host, int family,
                     struct shared_dns_answer *);

#endif
