/*
 * dns_entry.h — what is known of one name: its addresses in each family, and when to ask for them again.
 *
 *     dns_entry_begin ──▶ dns_entry_read_hosts ──▶ dns_entry_hear ──▶ dns_entry_end
 *                                                  of each family          │
 *     dns_entry_answer: at any time               dns_entry_is_due ◀───────┘
 *
 * Who asks, and whom, is for dns/dns_cache.c.  Addresses are kept for their TTL, within the bounds
 * of --dns-ttl-min and --dns-ttl-max, and serve for --dns-stale longer.  After a failure the name is
 * due again after a pause, which grows with each failure.
 *
 * Each family has its own addresses: what went wrong with one does not touch the other.  A family
 * loses its addresses only when a server says that it has none, while the other has some; any other
 * bad news leaves what was known.  (That includes "no such name": during an outage name servers are
 * known to say so.)
 */
#ifndef DNS_DNS_ENTRY_H
#define DNS_DNS_ENTRY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"
#include "dns/dns_cache.h"
#include "dns/resolver.h"

struct config;
struct shared_dns;
struct slot;

#define DNS_FAMILIES 2 /* AF_INET and AF_INET6, wherever a family is a parameter */

struct dns_records {
    enum lookup_result result; /* of the latest question */
    double         expires;    /* clock_now() seconds */
    size_t         count;
    struct address addresses[DNS_ADDRESSES];
};

/* Embedded in its owner; its fields are for dns_entry.c. */
struct dns_entry {
    const char          *host;
    const struct config *config;
    struct slot         *slot;
    struct shared_dns   *shared_dns;
    struct dns_records   records[DNS_FAMILIES];
    double               due;      /* clock_now() seconds; not asked for before */
    bool                 found;    /* an address, in this round of questions */
    enum lookup_result   failure;  /* the worst of this round */
    const char          *why_not;  /* static memory */
    unsigned             failures; /* rounds in a row */
    unsigned             halves;   /* likewise, in which only one family failed */
    bool                 is_stale; /* counted as such */
};

/* Borrows all of them.  What other workers have learnt is known at once, and yet the name is due. */
void dns_entry_init(struct dns_entry *, const char *host, const struct config *, struct slot *,
                    struct shared_dns *);

/* The addresses that may be used now; renewing is the caller's to set.  Says so in the log when
 * none is left because --dns-stale is over. */
void dns_entry_answer(struct dns_entry *, struct dns_answer *);

bool dns_entry_is_due(const struct dns_entry *);
/* Whatever is known may be wrong: it is due at once. */
void dns_entry_make_due(struct dns_entry *);
/* Whether --dns-family leaves anything to ask for. */
bool dns_entry_wants(const struct dns_entry *, int family);

/* A round of questions, or the next name of the search list in one: nothing is found yet. */
void dns_entry_begin(struct dns_entry *);
/* The file is the whole truth about a name that is in it.  False: it has no address of a family that
 * is wanted. */
bool dns_entry_read_hosts(struct dns_entry *);
/* What the servers say; addresses are told to the workers that start later. */
void dns_entry_hear(struct dns_entry *, int family, const struct lookup_answer *);
/* An address has come since dns_entry_begin(). */
bool dns_entry_is_found(const struct dns_entry *);
/* Each family that was asked for has none, as the servers say. */
bool dns_entry_is_absent(const struct dns_entry *);
/* Counts and logs how the round went, and decides when the next one is due.  searched: more than one
 * name of the search list was asked for. */
void dns_entry_end(struct dns_entry *, bool searched);

#endif
