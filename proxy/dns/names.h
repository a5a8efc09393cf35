/*
 * names.h — the names this worker knows: asked for once, kept for their TTL, stale when they must be.
 *
 *     names_know ──known──▶ addresses, at once; renewed in the background when their time is over
 *         └──never heard of──▶ names_wait ──▶ one question, however many wait ──▶ name_done
 *
 * A session whose name has an address is never delayed.  When asking again fails, in whatever way,
 * the last addresses serve for --dns-stale longer, and meanwhile the name is asked for again with
 * growing pauses.  One that never had an address fails at once during such a pause.
 */
#ifndef DNS_NAMES_H
#define DNS_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"

struct config;
struct ev_loop;
struct fault;
struct known;
struct name_wait;
struct names;
struct slot;

#define NAME_ADDRESSES 32 /* at most this many of one name are used */

struct name_answer {
    size_t         count;                     /* 0: the name does not resolve */
    bool           renewing;                  /* a question is under way that may know better */
    const char    *why_not;                   /* "" with addresses; static memory */
    struct address addresses[NAME_ADDRESSES]; /* with port 0, in the order to try */
};

/* Borrows the configuration; lookups are counted in the slot.  What others have learnt lately is known
 * from the start, and what is learnt here is told there.  NULL: the fault says why. */
struct names *names_new(struct ev_loop *, const struct config *, struct slot *, struct known *,
                        struct fault *);
/* Ends every question and every wait, silently. */
void names_free(struct names *);

/* The host is as the operator wrote it: a short one is completed by the search list of resolv.conf,
 * one with a final dot is not (dns/search.h).  False: nothing is known yet and a question is
 * under way; wait for it. */
bool names_know(struct names *, const char *host, struct name_answer *);

/* The answer lives for the call. */
typedef void name_done(void *owner, const struct name_answer *);

/* Waits for the question that names_know() has told of: it answered false, or said renewing.  Never
 * calls done before it returns, nor after name_wait_cancel(); calls it exactly once otherwise, after
 * which the wait is gone.  Bounded by --dns-timeout; with a search list by twice that.  NULL: no
 * memory. */
struct name_wait *names_wait(struct names *, const char *host, name_done *, void *owner);
void              name_wait_cancel(struct name_wait *); /* NULL is fine */

#endif
