/*
 * backoff.h — the addresses that failed lately: they are tried last for a while.
 *
 * Each further failure doubles the while, up to a minute; a connection that opens ends it.  What is
 * avoided is still tried when nothing better is left.
 */
#ifndef DIAL_BACKOFF_H
#define DIAL_BACKOFF_H

#include <stddef.h>

#include "base/address.h"

/* As many as failed last; with more, the one whose time is over first is forgotten. */
#define BACKOFF_MAX 64

struct backoff {
    struct backoff_address {
        struct address address; /* length 0: free */
        double         until;
        double         seconds; /* how long this time */
    } addresses[BACKOFF_MAX];
};

/* now is CLOCK_MONOTONIC seconds. */
void backoff_add(struct backoff *, const struct address *, double now);
void backoff_clear(struct backoff *, const struct address *);
/* Those that are avoided go behind the others; the order within both is kept. */
void backoff_put_last(const struct backoff *, struct address *addresses, size_t count, double now);

#endif
