/*
 * candidates.h — the addresses to try, one after another: targets in order, and of each every address.
 *
 *     target 1 ──known, or names──▶ address, address, ... ──all failed──▶ target 2 ──▶ ... ──▶ none
 *                    ▲                                  │
 *                    └── the name was being asked for ──┘
 *
 * Addresses that failed lately come last among those of their target (dial/avoided.h).  When all have
 * failed and they may have been old, what the name servers say by then is worth another try.
 */
#ifndef DIAL_CANDIDATES_H
#define DIAL_CANDIDATES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"
#include "config/config.h"
#include "dial/avoided.h"
#include "socket/socket.h"

struct name_wait;
struct names;

/* What all of a worker share. */
struct candidates_settings {
    struct names   *names;
    struct avoided  avoided;
    enum dns_family family;
};

/* Whose they are, and of what; all of it is borrowed. */
struct candidates_terms {
    struct candidates_settings *settings;
    const struct target_config *targets;
    size_t                      target_count;
    const struct address       *original; /* of original-dst; length 0: not known */
    void (*on_failure)(void *owner, enum failure, const char *why); /* a target has no address */
    void (*on_more)(void *owner); /* what was awaited is there, or will not come */
    void *owner;
};

/* Embedded; its members are its own. */
struct candidates {
    struct candidates_terms terms;
    size_t                  target;      /* the next one */
    struct name_wait       *wait;        /* NULL: for no name */
    struct address         *addresses;   /* of the target under way */
    size_t                  count;
    size_t                  next;
    bool                    is_renewing; /* they may be old: the name is being asked for */
};

enum candidate {
    CANDIDATE_FOUND,
    CANDIDATE_AWAITED, /* on_more() says when to ask again */
    CANDIDATE_NONE,
};

void candidates_start(struct candidates *, const struct candidates_terms *);
/* on_more() is silent afterwards. */
void candidates_end(struct candidates *);

/* Goes on to the next address.  Calls on_failure() for targets that it passes over; on_more() is never
 * called before it has answered CANDIDATE_AWAITED. */
enum candidate candidates_next(struct candidates *);
/* The address that was found last, until the next call; and its target. */
const struct address       *candidates_address(const struct candidates *);
const struct target_config *candidates_target(const struct candidates *);

/* That address could not be connected to, for a reason of its own: it comes last for a while. */
void candidates_avoid(struct candidates *);
/* It could: it is as good as any other. */
void candidates_welcome(struct candidates *);

#endif
