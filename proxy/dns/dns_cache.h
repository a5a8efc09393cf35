/*
 * dns_cache.h — the names this worker knows: asked for once, kept for their TTL, stale when they must be.
 *
 *     dns_cache_find ──known──▶ addresses, at once; renewed in the background when their time is over
 *         └──never heard of──▶ dns_cache_wait ──▶ one question, however many wait ──▶ dns_done
 *
 * A session whose name has an address is never delayed.  When asking again fails, in whatever way,
 * the last addresses serve for --dns-stale longer, and meanwhile the name is asked for again with
 * growing pauses.  One that never had an address fails at once during such a pause.
 */
#ifndef DNS_DNS_CACHE_H
#define DNS_DNS_CACHE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"

struct config;
struct ev_loop;
struct fault;
struct shared_dns;
struct dns_wait;
struct dns_cache;
struct slot;

#define DNS_ADDRESSES 32 /* at most this many of one name are used */

struct dns_answer {
    size_t         count;                     /* 0: the name does not resolve */
    bool           renewing;                  /* a question is under way that may know better */
    const char    *why_not;                   /* "" with addresses; static memory */
    struct address addresses[DNS_ADDRESSES]; /* with port 0, in the order to try */
};

/* Borrows the configuration; lookups are counted in the slot.  What others have learnt lately is known
 * from the start, and what is learnt here is told there.  NULL: the fault says why. */
struct dns_cache *dns_cache_new(struct ev_loop *, const struct config *, struct slot *,
                                struct shared_dns *, struct fault *);
/* Ends every question and every wait, silently. */
void dns_cache_free(struct dns_cache *);

/* The host is as the operator wrote it: a short one is completed by the search list of resolv.conf,
 * one with a final dot is not (dns/search.h).  False: nothing is known yet and a question is
 * under way; wait for it. */
bool dns_cache_find(struct dns_cache *, const char *host, struct dns_answer *);

/* The answer lives for the call. */
typedef void dns_done(void *owner, const struct dns_answer *);

/* Waits for the question that dns_cache_find() has told of: it answered false, or said renewing.  Never
 * calls done before it returns, nor after dns_wait_cancel(); calls it exactly once otherwise, after
 * which the wait is gone.  Bounded by --dns-timeout; with a search list by twice that.  NULL: no
 * memory. */
struct dns_wait *dns_cache_wait(struct dns_cache *, const char *host, dns_done *, void *owner);
void              dns_wait_cancel(struct dns_wait *); /* NULL is fine */

#endif
