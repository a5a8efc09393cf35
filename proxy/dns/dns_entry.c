/*
 * dns_entry.c — what is known of one name: its addresses in each family, and when to ask for them again.
 *
 *     new ──TTL──▶ due, still used ──--dns-stale──▶ not used
 *      ▲               │      ▲
 *      │ an address    ▼      │ none: due again after a pause
 *      └─────────── a round ──┘
 */
#include "dns/dns_entry.h"

#include <stdint.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "dns/hosts.h"
#include "shared/page.h"
#include "shared/shared_dns.h"

#define PAUSE_MIN_SECONDS 0.5  /* between failures: long enough not to be a storm, ... */
#define PAUSE_MAX_SECONDS  5.0  /* ... short enough to see a name that has just been made */
#define HALF_MAX_SECONDS   30.0 /* for a family that fails while the other answers */

_Static_assert(RESOLVER_ADDRESSES <= DNS_ADDRESSES && SHARED_DNS_ADDRESSES <= DNS_ADDRESSES,
               "an entry holds whatever is learnt");

enum { IPV4, IPV6 };

_Static_assert(IPV6 + 1 == DNS_FAMILIES, "records of each family");

static int family_of(size_t i)
{
    return i == IPV4 ? AF_INET : AF_INET6;
}

bool dns_entry_wants(const struct dns_entry *entry, int family)
{
    enum dns_family wanted = entry->config->dns_family;

    return wanted == DNS_ANY || (wanted == DNS_IPV4) == (family == AF_INET);
}

/* --- what is known ----------------------------------------------------------------------- */

/* What other workers have learnt serves until we have asked ourselves, which is due at once. */
static void hear_from_others(struct dns_entry *entry)
{
    struct shared_dns_answer answer;

    for (size_t i = 0; i < DNS_FAMILIES; i++) {
        struct dns_records *records = &entry->records[i];

        if (!dns_entry_wants(entry, family_of(i)) ||
            !shared_dns_find(entry->shared_dns, entry->host, family_of(i), &answer))
            continue;
        records->expires = answer.expires;
        records->count = answer.count;
        memcpy(records->addresses, answer.addresses, answer.count * sizeof answer.addresses[0]);
    }
}

void dns_entry_init(struct dns_entry *entry, const char *host, const struct config *config,
                    struct slot *slot, struct shared_dns *shared_dns)
{
    *entry = (struct dns_entry){
        .host = host,
        .config = config,
        .slot = slot,
        .shared_dns = shared_dns,
        .why_not = "",
    };
    hear_from_others(entry);
}

static bool holds(const struct dns_answer *answer, const struct address *address)
{
    for (size_t i = 0; i < answer->count; i++) {
        if (address_equal(&answer->addresses[i], address))
            return true;
    }
    return false;
}

static void add_records(struct dns_answer *answer, const struct dns_records *records,
                        double stale_since)
{
    if (records->expires <= stale_since)
        return;
    for (size_t i = 0; i < records->count && answer->count < DNS_ADDRESSES; i++) {
        if (!holds(answer, &records->addresses[i]))
            answer->addresses[answer->count++] = records->addresses[i];
    }
}

/* IPv4 first, because it is what works nearly everywhere; within a family as the server said. */
static void collect(const struct dns_entry *entry, struct dns_answer *answer)
{
    double stale_since = clock_now() - entry->config->dns_stale;

    answer->count = 0;
    for (size_t i = 0; i < DNS_FAMILIES; i++)
        add_records(answer, &entry->records[i], stale_since);
    answer->why_not = answer->count > 0 ? "" : entry->why_not;
}

static void set_stale(struct dns_entry *entry, bool is_stale)
{
    if (entry->is_stale != is_stale)
        cell_add(&entry->slot->counts[COUNT_DNS_STALE], is_stale ? 1 : (uint64_t)-1);
    entry->is_stale = is_stale;
}

void dns_entry_answer(struct dns_entry *entry, struct dns_answer *answer)
{
    collect(entry, answer);
    if (answer->count > 0 || !entry->is_stale)
        return;
    set_stale(entry, false);
    log_warning("names", "name_unresolved", "name=%s why=%s", entry->host, entry->why_not);
}

bool dns_entry_is_due(const struct dns_entry *entry)
{
    return clock_now() >= entry->due;
}

void dns_entry_make_due(struct dns_entry *entry)
{
    entry->due = 0;
}

/* --- a round of questions ---------------------------------------------------------------- */

void dns_entry_begin(struct dns_entry *entry)
{
    entry->found = false;
    entry->failure = LOOKUP_OK;
    for (size_t i = 0; i < DNS_FAMILIES; i++)
        entry->records[i].result = LOOKUP_NOT_FOUND;
}

static double kept_seconds(const struct config *config, unsigned ttl)
{
    double seconds = ttl < config->dns_ttl_max ? ttl : config->dns_ttl_max;

    return seconds > config->dns_ttl_min ? seconds : config->dns_ttl_min;
}

static void learn(struct dns_entry *entry, size_t i, const struct address *addresses, size_t count,
                  unsigned ttl)
{
    struct dns_records *records = &entry->records[i];

    records->expires = clock_now() + kept_seconds(entry->config, ttl);
    records->count = count;
    memcpy(records->addresses, addresses, count * sizeof addresses[0]);
    if (!entry->found || records->expires < entry->due)
        entry->due = records->expires;
    entry->found = true;
    records->result = LOOKUP_OK;
}

/* The file gives no TTL. */
bool dns_entry_read_hosts(struct dns_entry *entry)
{
    struct address found[DNS_ADDRESSES];
    size_t count = hosts_find(entry->config->hosts, entry->host, found, DNS_ADDRESSES);

    for (size_t i = 0; i < DNS_FAMILIES; i++) {
        struct address some[DNS_ADDRESSES];
        size_t some_count = 0;
        for (size_t k = 0; k < count; k++) {
            if (dns_entry_wants(entry, family_of(i)) && found[k].any.sa_family == family_of(i))
                some[some_count++] = found[k];
        }
        if (some_count > 0)
            learn(entry, i, some, some_count, 0);
    }
    return entry->found;
}

/* For workers that start when nobody can be asked.  What the hosts file says they read themselves. */
static void tell_others(const struct dns_entry *entry, size_t i)
{
    const struct dns_records *records = &entry->records[i];
    struct shared_dns_answer answer = { .expires = records->expires };

    answer.count = records->count < SHARED_DNS_ADDRESSES ? records->count : SHARED_DNS_ADDRESSES;
    memcpy(answer.addresses, records->addresses, answer.count * sizeof answer.addresses[0]);
    shared_dns_store(entry->shared_dns, entry->host, family_of(i), &answer);
}

void dns_entry_hear(struct dns_entry *entry, int family, const struct lookup_answer *answer)
{
    size_t i = family == AF_INET ? IPV4 : IPV6;

    if (answer->result == LOOKUP_OK) {
        learn(entry, i, answer->addresses, answer->count, answer->ttl);
        tell_others(entry, i);
        return;
    }
    entry->records[i].result = answer->result;
    if (answer->result >= entry->failure) {
        entry->failure = answer->result;
        entry->why_not = answer->why_not;
    }
}

bool dns_entry_is_found(const struct dns_entry *entry)
{
    return entry->found;
}

bool dns_entry_is_absent(const struct dns_entry *entry)
{
    return !entry->found && entry->failure == LOOKUP_NOT_FOUND;
}

/* --- the end of a round ------------------------------------------------------------------ */

static double pause_seconds(unsigned failures, double max)
{
    double seconds = PAUSE_MIN_SECONDS;

    for (unsigned i = 1; i < failures && seconds < max; i++)
        seconds *= 2;
    return seconds < max ? seconds : max;
}

static void count_round(const struct dns_entry *entry)
{
    static const enum counter counters[] = {
        [LOOKUP_OK] = COUNT_DNS_OK,
        [LOOKUP_NOT_FOUND] = COUNT_DNS_NOT_FOUND,
        [LOOKUP_TIMEOUT] = COUNT_DNS_TIMEOUT,
        [LOOKUP_FAILED] = COUNT_DNS_FAILED,
    };

    cell_add(&entry->slot->counts[counters[entry->found ? LOOKUP_OK : entry->failure]], 1);
}

/* A family that failed is not left out for as long as the other's answer is good. */
static void settle_families(struct dns_entry *entry)
{
    bool is_half = false;

    for (size_t i = 0; i < DNS_FAMILIES; i++) {
        struct dns_records *records = &entry->records[i];
        if (records->result == LOOKUP_NOT_FOUND && records->count > 0) {
            records->count = 0;
            tell_others(entry, i);
        }
        if (records->result == LOOKUP_TIMEOUT || records->result == LOOKUP_FAILED)
            is_half = true;
    }
    entry->halves = is_half ? entry->halves + 1 : 0;
    double soon = clock_now() + pause_seconds(entry->halves, HALF_MAX_SECONDS);
    if (is_half && soon < entry->due)
        entry->due = soon;
}

static void round_succeeded(struct dns_entry *entry)
{
    settle_families(entry);
    if (entry->failures > 0)
        log_info("names", "name_resolves", "name=%s failures=%u", entry->host, entry->failures);
    entry->failures = 0;
    set_stale(entry, false);
}

static void round_failed(struct dns_entry *entry, bool searched)
{
    struct dns_answer answer;

    entry->due = clock_now() + pause_seconds(++entry->failures, PAUSE_MAX_SECONDS);
    if (entry->failure == LOOKUP_NOT_FOUND && searched)
        entry->why_not = "no such name, nor with the search list of resolv.conf";
    collect(entry, &answer);
    set_stale(entry, answer.count > 0);
    if (entry->failures == 1)
        log_warning("names", answer.count > 0 ? "name_stale" : "name_unresolved", "name=%s why=%s",
                    entry->host, entry->why_not);
}

void dns_entry_end(struct dns_entry *entry, bool searched)
{
    count_round(entry);
    if (entry->found)
        round_succeeded(entry);
    else
        round_failed(entry, searched);
}
