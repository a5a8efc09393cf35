/*
 * avoided.h — the addresses that failed lately: they are tried last for a while.
 *
 * Each further failure doubles the while, up to a minute; a connection that opens ends it.  What is
 * avoided is still tried when nothing better is left.
 */
#ifndef DIAL_AVOIDED_H
#define DIAL_AVOIDED_H

#include <stddef.h>

#include "base/address.h"

/* As many as failed last; with more, the one whose time is over first is forgotten. */
#define AVOIDED_MOST 64

struct avoided {
    struct avoided_address {
        struct address address; /* length 0: free */
        double         until;
        double         seconds; /* how long this time */
    } addresses[AVOIDED_MOST];
};

/* now is CLOCK_MONOTONIC seconds. */
void avoided_add(struct avoided *, const struct address *, double now);
void avoided_forget(struct avoided *, const struct address *);
/* Those that are avoided go behind the others; the order within both is kept. */
void avoided_put_last(const struct avoided *, struct address *addresses, size_t count, double now);

#endif
