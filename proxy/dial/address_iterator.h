/*
 * address_iterator.h — the addresses to try, one after another: targets in order, and of each every address.
 *
 *     target 1 ──known, or names──▶ address, address, ... ──all failed──▶ target 2 ──▶ ... ──▶ none
 *                    ▲                                  │
 *                    └── the name was being asked for ──┘
 *
 * Addresses that failed lately come last among those of their target (dial/backoff.h).  When all have
 * failed and they may have been old, what the name servers say by then is worth another try.
 */
#ifndef DIAL_ADDRESS_ITERATOR_H
#define DIAL_ADDRESS_ITERATOR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"
#include "config/config.h"
#include "dial/backoff.h"
#include "socket/socket.h"

struct dns_wait;
struct dns_cache;

/* What all of a worker share. */
struct address_iterator_settings {
    struct dns_cache   *dns_cache;
    struct backoff  backoff;
    enum dns_family family;
};

/* Whose they are, and of what; all of it is borrowed. */
struct address_iterator_terms {
    struct address_iterator_settings *settings;
    const struct target_config *targets;
    size_t                      target_count;
    const struct address       *original; /* of original-dst; length 0: not known */
    void (*on_failure)(void *owner, enum failure, const char *why); /* a target has no address */
    void (*on_more)(void *owner); /* what was awaited is there, or will not come */
    void *owner;
};

/* Embedded; its members are its own. */
struct address_iterator {
    struct address_iterator_terms terms;
    size_t                  target;      /* the next one */
    struct dns_wait       *wait;        /* NULL: for no name */
    struct address         *addresses;   /* of the target under way */
    size_t                  count;
    size_t                  next;
    bool                    is_renewing; /* they may be old: the name is being asked for */
};

enum next_address {
    NEXT_ADDRESS_FOUND,
    NEXT_ADDRESS_AWAITED, /* on_more() says when to ask again */
    NEXT_ADDRESS_NONE,
};

void address_iterator_start(struct address_iterator *, const struct address_iterator_terms *);
/* on_more() is silent afterwards. */
void address_iterator_end(struct address_iterator *);

/* Goes on to the next address.  Calls on_failure() for targets that it passes over; on_more() is never
 * called before it has answered NEXT_ADDRESS_AWAITED. */
enum next_address address_iterator_next(struct address_iterator *);
/* The address that was found last, until the next call; and its target. */
const struct address       *address_iterator_address(const struct address_iterator *);
const struct target_config *address_iterator_target(const struct address_iterator *);

/* That address could not be connected to, for a reason of its own: it comes last for a while. */
void address_iterator_back_off(struct address_iterator *);
/* It could: it is as good as any other. */
void address_iterator_mark_reachable(struct address_iterator *);

#endif
