/*
 * resolver.h — one question about a name, asked on the loop through c-ares.
 *
 * One family at a time, so that a silent question does not hold up the other; what is asked when,
 * and how long an answer counts, is for dns/dns_cache.h.  Numeric hosts, "localhost" and the hosts
 * file are the caller's business, and so is the search list: here a name is complete.
 */
#ifndef DNS_RESOLVER_H
#define DNS_RESOLVER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"

struct config;
struct ev_loop;
struct fault;
struct lookup;
struct resolver;
struct search;

/* At most this many addresses of one name are used. */
#define RESOLVER_ADDRESSES 32

/* Borrows the configuration: name servers, files, --dns-timeout.  NULL: the fault says why. */
struct resolver *resolver_new(struct ev_loop *, const struct config *, struct fault *);
/* Cancels every lookup; their callbacks stay silent. */
void resolver_free(struct resolver *);

/* Reads resolv.conf again.  True: it names other servers or another search list, which count from
 * now on. */
bool resolver_renew(struct resolver *);

/* Which names a short one may stand for; until resolver_renew(). */
const struct search *resolver_search(const struct resolver *);

enum lookup_result {
    LOOKUP_OK,
    LOOKUP_NOT_FOUND, /* there is no such name, or it has no address of that family */
    LOOKUP_TIMEOUT,
    LOOKUP_FAILED,
};

struct lookup_answer {
    enum lookup_result    result;
    const char           *why_not;   /* the failure in a few words */
    const struct address *addresses; /* with port 0, in the server's order */
    size_t                count;     /* 0 exactly when it failed */
    unsigned              ttl;       /* seconds, the least of all records involved */
};

/* The answer lives for the call. */
typedef void lookup_done(void *owner, const struct lookup_answer *);

/* Never calls done before it returns, nor after lookup_cancel(); calls it exactly once otherwise,
 * after which the lookup is gone.  Bounded by --dns-timeout.  NULL: no memory. */
struct lookup *resolver_lookup(struct resolver *, const char *host, int family, lookup_done *,
                               void *owner);
void           lookup_cancel(struct lookup *);

/* For -V: "c-ares 1.18.1, compiled with 1.18.1". */
const char *resolver_version(void);

#endif
