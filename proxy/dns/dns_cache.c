/*
 * dns_cache.c — one entry for each name of the configuration, with its addresses, questions and waits.
 *
 *     dns_cache_find ──due──▶ ask ──▶ the hosts file ──else──▶ one question for each family
 *                                                                      │ on_lookup
 *          dns_cache_wait ──▶ waits ◀──tell── the last answer, or the first good one and GRACE ◀┘
 *
 * Each family has its own addresses: what went wrong with one does not touch the other.  A family
 * loses its addresses only when a server says that it has none, while the other has some; any other
 * bad news leaves what was known.  (That includes "no such name": during an outage name servers are
 * known to say so.)
 */
#include "dns/dns_cache.h"

#include <errno.h>
#include <ev.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/host.h"
#include "base/list.h"
#include "base/log.h"
#include "config/config.h"
#include "dns/hosts.h"
#include "dns/resolver.h"
#include "dns/search.h"
#include "shared/page.h"
#include "shared/shared_dns.h"

#define GRACE_SECONDS       0.05 /* for the other family, once one has answered (RFC 8305, 3) */
#define PAUSE_MIN_SECONDS 0.5  /* between failures: long enough not to be a storm, ... */
#define PAUSE_MAX_SECONDS  5.0  /* ... short enough to see a name that has just been made */
#define HALF_MAX_SECONDS   30.0 /* for a family that fails while the other answers */
#define RENEW_SECONDS       1.0  /* resolv.conf is looked at this often, while names are in use */

_Static_assert(RESOLVER_ADDRESSES <= DNS_ADDRESSES && SHARED_DNS_ADDRESSES <= DNS_ADDRESSES,
               "a branch holds whatever is learnt");

/* What is known of a name in one family, and the question under way. */
struct branch {
    struct name   *name;
    struct lookup *lookup;  /* NULL: none */
    enum lookup_result result; /* of the latest question */
    double         expires;
    size_t         count;
    struct address addresses[DNS_ADDRESSES];
};

enum { IPV4, IPV6, BRANCHES };

struct name {
    struct name   *next;
    struct dns_cache  *cache;
    struct branch  branches[BRANCHES];
    struct link    waits;
    ev_timer       grace;
    double         due;         /* not asked for before */
    bool           is_outdated; /* servers changed while they were asked */
    bool           found;       /* in this round of questions */
    enum lookup_result failure; /* the worst of this round */
    const char    *why_not;
    size_t         place;       /* in the search list */
    double         deadline;    /* after it, no further name of the list is asked for */
    char           asked[HOST_TEXT]; /* now, or last */
    char           complete[HOST_TEXT]; /* what the log has said it stands for; "": nothing yet */
    unsigned       failures;    /* rounds in a row */
    unsigned       halves;      /* likewise, in which only one family failed */
    bool           is_stale;    /* counted as such */
    char           host[];
};

struct dns_wait {
    struct link link; /* in its name's waits, or among those being told */
    dns_done  *done;
    void       *owner;
};

struct dns_cache {
    struct ev_loop      *loop;
    const struct config *config;
    struct slot         *slot;
    struct shared_dns     *shared_dns;   /* to the workers that come later */
    struct resolver     *resolver;
    struct name         *first;
    double               renewal; /* when resolv.conf is to be looked at */
};

static int family_of(const struct branch *branch)
{
    return branch == &branch->name->branches[IPV4] ? AF_INET : AF_INET6;
}

/* --- what is known ----------------------------------------------------------------------- */

static bool is_asking(const struct name *name)
{
    return name->branches[IPV4].lookup != NULL || name->branches[IPV6].lookup != NULL;
}

static bool holds(const struct dns_answer *answer, const struct address *address)
{
    for (size_t i = 0; i < answer->count; i++) {
        if (address_equal(&answer->addresses[i], address))
            return true;
    }
    return false;
}

static void add_branch(struct dns_answer *answer, const struct branch *branch, double stale_since)
{
    if (branch->expires <= stale_since)
        return;
    for (size_t i = 0; i < branch->count && answer->count < DNS_ADDRESSES; i++) {
        if (!holds(answer, &branch->addresses[i]))
            answer->addresses[answer->count++] = branch->addresses[i];
    }
}

/* IPv4 first, because it is what works nearly everywhere; within a family as the server said. */
static void answer_of(const struct name *name, struct dns_answer *answer)
{
    double stale_since = clock_now() - name->cache->config->dns_stale;

    answer->count = 0;
    answer->renewing = is_asking(name);
    for (size_t i = 0; i < BRANCHES; i++)
        add_branch(answer, &name->branches[i], stale_since);
    answer->why_not = answer->count > 0 ? "" : name->why_not;
}

static void set_stale(struct name *name, bool is_stale)
{
    if (name->is_stale != is_stale)
        cell_add(&name->cache->slot->counts[COUNT_DNS_STALE], is_stale ? 1 : (uint64_t)-1);
    name->is_stale = is_stale;
}

/* --- a round of questions ---------------------------------------------------------------- */

static double kept_seconds(const struct dns_cache *cache, unsigned ttl)
{
    double seconds = ttl < cache->config->dns_ttl_max ? ttl : cache->config->dns_ttl_max;

    return seconds > cache->config->dns_ttl_min ? seconds : cache->config->dns_ttl_min;
}

static double pause_seconds(unsigned failures, double max)
{
    double seconds = PAUSE_MIN_SECONDS;

    for (unsigned i = 1; i < failures && seconds < max; i++)
        seconds *= 2;
    return seconds < max ? seconds : max;
}

static void learn(struct branch *branch, const struct address *addresses, size_t count,
                  unsigned ttl)
{
    struct name *name = branch->name;

    branch->expires = clock_now() + kept_seconds(name->cache, ttl);
    branch->count = count;
    memcpy(branch->addresses, addresses, count * sizeof addresses[0]);
    if (!name->found || branch->expires < name->due)
        name->due = branch->expires;
    name->found = true;
    branch->result = LOOKUP_OK;
}

/* For workers that start when nobody can be asked.  What the hosts file says they read themselves. */
static void tell_others(const struct branch *branch)
{
    struct shared_dns_answer answer = { .expires = branch->expires };

    answer.count = branch->count < SHARED_DNS_ADDRESSES ? branch->count : SHARED_DNS_ADDRESSES;
    memcpy(answer.addresses, branch->addresses, answer.count * sizeof answer.addresses[0]);
    shared_dns_store(branch->name->cache->shared_dns, branch->name->host, family_of(branch),
                     &answer);
}

static void note_failure(struct branch *branch, enum lookup_result result, const char *why_not)
{
    struct name *name = branch->name;

    branch->result = result;
    if (result >= name->failure) {
        name->failure = result;
        name->why_not = why_not;
    }
}

static void count_round(const struct name *name)
{
    static const enum counter counters[] = {
        [LOOKUP_OK] = COUNT_DNS_OK,
        [LOOKUP_NOT_FOUND] = COUNT_DNS_NOT_FOUND,
        [LOOKUP_TIMEOUT] = COUNT_DNS_TIMEOUT,
        [LOOKUP_FAILED] = COUNT_DNS_FAILED,
    };

    cell_add(&name->cache->slot->counts[counters[name->found ? LOOKUP_OK : name->failure]], 1);
}

/* A family that failed is not left out for as long as the other's answer is good. */
static void settle_branches(struct name *name)
{
    bool is_half = false;

    for (size_t i = 0; i < BRANCHES; i++) {
        struct branch *branch = &name->branches[i];
        if (branch->result == LOOKUP_NOT_FOUND && branch->count > 0) {
            branch->count = 0;
            tell_others(branch);
        }
        if (branch->result == LOOKUP_TIMEOUT || branch->result == LOOKUP_FAILED)
            is_half = true;
    }
    name->halves = is_half ? name->halves + 1 : 0;
    double soon = clock_now() + pause_seconds(name->halves, HALF_MAX_SECONDS);
    if (is_half && soon < name->due)
        name->due = soon;
}

/* What a short name stands for is worth a line, whenever it is another one. */
static void say_complete(struct name *name)
{
    if (strcmp(name->asked, name->complete) == 0)
        return;
    if (!host_equal(name->asked, name->host) || name->complete[0] != '\0')
        log_info("names", "name_completed", "name=%s complete=%s", name->host, name->asked);
    memcpy(name->complete, name->asked, sizeof name->complete);
}

static void round_succeeded(struct name *name)
{
    settle_branches(name);
    say_complete(name);
    if (name->failures > 0)
        log_info("names", "name_resolves", "name=%s failures=%u", name->host, name->failures);
    name->failures = 0;
    set_stale(name, false);
}

static void round_failed(struct name *name)
{
    struct dns_answer answer;

    name->due = clock_now() + pause_seconds(++name->failures, PAUSE_MAX_SECONDS);
    if (name->failure == LOOKUP_NOT_FOUND && name->place > 1)
        name->why_not = "no such name, nor with the search list of resolv.conf";
    answer_of(name, &answer);
    set_stale(name, answer.count > 0);
    if (name->failures == 1)
        log_warning("names", answer.count > 0 ? "name_stale" : "name_unresolved", "name=%s why=%s",
                    name->host, name->why_not);
}

static void end_round(struct name *name)
{
    ev_timer_stop(name->cache->loop, &name->grace);
    count_round(name);
    if (name->found)
        round_succeeded(name);
    else
        round_failed(name);
    if (name->is_outdated)
        name->due = 0;
    name->is_outdated = false;
}

/* Each wait is gone before its owner hears of it; owners may wait again or cancel others. */
static void tell(struct name *name)
{
    struct dns_answer answer;
    struct link told;

    if (list_is_empty(&name->waits))
        return;
    answer_of(name, &answer);
    told = name->waits;
    told.next->previous = told.previous->next = &told;
    list_start(&name->waits);
    while (!list_is_empty(&told)) {
        struct dns_wait *wait = LIST_MEMBER(told.next, struct dns_wait, link);
        dns_done *done = wait->done;
        void *owner = wait->owner;
        dns_wait_cancel(wait);
        done(owner, &answer);
    }
}

/* The other family has had its time; when it answers later that is for later sessions. */
static void on_grace(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    tell(timer->data);
}

static bool ask_next(struct name *);

static void on_lookup(void *owner, const struct lookup_answer *answer)
{
    struct branch *branch = owner;
    struct name *name = branch->name;

    branch->lookup = NULL;
    if (answer->result == LOOKUP_OK) {
        learn(branch, answer->addresses, answer->count, answer->ttl);
        tell_others(branch);
    } else {
        note_failure(branch, answer->result, answer->why_not);
    }
    if (is_asking(name)) {
        if (name->found)
            ev_timer_start(name->cache->loop, &name->grace);
        return;
    }
    if (!name->found && name->failure == LOOKUP_NOT_FOUND && ask_next(name))
        return;
    end_round(name);
    tell(name);
}

static bool uses(const struct dns_cache *cache, size_t branch)
{
    enum dns_family family = cache->config->dns_family;

    return family == DNS_ANY || (family == DNS_IPV4) == (branch == IPV4);
}

/* The file is the whole truth about a name that is in it, and has no TTL. */
static void ask_hosts(struct name *name)
{
    const struct dns_cache *cache = name->cache;
    struct address found[DNS_ADDRESSES];
    size_t count = hosts_find(cache->config->hosts, name->host, found, DNS_ADDRESSES);

    for (size_t i = 0; i < BRANCHES; i++) {
        struct address some[DNS_ADDRESSES];
        size_t some_count = 0;
        for (size_t k = 0; k < count; k++) {
            if (uses(cache, i) && (found[k].any.sa_family == AF_INET) == (i == IPV4))
                some[some_count++] = found[k];
        }
        if (some_count > 0)
            learn(&name->branches[i], some, some_count, 0);
        else
            name->branches[i].result = LOOKUP_NOT_FOUND;
    }
}

static void ask_servers(struct name *name)
{
    for (size_t i = 0; i < BRANCHES; i++) {
        struct branch *branch = &name->branches[i];
        if (!uses(name->cache, i))
            continue;
        branch->lookup = resolver_lookup(name->cache->resolver, name->asked, family_of(branch),
                                         on_lookup, branch);
        if (branch->lookup == NULL)
            note_failure(branch, LOOKUP_FAILED, "no memory");
    }
}

/* Both families of one name after the other: a host that has only one of them is not mixed up with
 * another host of the list.  False: no name is left, or no time. */
static bool ask_next(struct name *name)
{
    const struct search *search = resolver_search(name->cache->resolver);

    if ((name->place > 0 && clock_now() >= name->deadline) ||
        !search_next(search, name->host, &name->place, name->asked))
        return false;
    name->failure = LOOKUP_OK;
    ask_servers(name);
    return is_asking(name);
}

static void ask(struct name *name)
{
    name->found = false;
    name->failure = LOOKUP_OK;
    name->place = 0;
    name->deadline = clock_now() + name->cache->config->dns_timeout;
    memcpy(name->asked, name->host, strlen(name->host) + 1);
    ev_timer_set(&name->grace, GRACE_SECONDS, 0.0);
    ask_hosts(name);
    if (name->found || !ask_next(name))
        end_round(name);
}

/* --- names ------------------------------------------------------------------------------- */

static struct name *find(const struct dns_cache *cache, const char *host)
{
    struct name *name = cache->first;

    while (name != NULL && strcasecmp(name->host, host) != 0)
        name = name->next;
    return name;
}

/* What other workers have learnt serves until we have asked ourselves, which is due at once. */
static void hear_from_others(struct name *name)
{
    struct shared_dns_answer answer;

    for (size_t i = 0; i < BRANCHES; i++) {
        struct branch *branch = &name->branches[i];

        if (!uses(name->cache, i) ||
            !shared_dns_find(name->cache->shared_dns, name->host, family_of(branch), &answer))
            continue;
        branch->expires = answer.expires;
        branch->count = answer.count;
        memcpy(branch->addresses, answer.addresses, answer.count * sizeof answer.addresses[0]);
    }
}

/* The configuration bounds how many there are.  NULL: no memory. */
static struct name *add(struct dns_cache *cache, const char *host)
{
    size_t size = strlen(host) + 1;
    struct name *name = calloc(1, sizeof *name + size);

    if (name == NULL)
        return NULL;
    name->next = cache->first;
    name->cache = cache;
    name->why_not = "";
    for (size_t i = 0; i < BRANCHES; i++)
        name->branches[i].name = name;
    list_start(&name->waits);
    ev_init(&name->grace, on_grace);
    name->grace.data = name;
    memcpy(name->host, host, size);
    hear_from_others(name);
    cache->first = name;
    return name;
}

static void end_waits(struct name *name)
{
    while (!list_is_empty(&name->waits))
        dns_wait_cancel(LIST_MEMBER(name->waits.next, struct dns_wait, link));
}

static void name_free(struct name *name)
{
    end_waits(name);
    ev_timer_stop(name->cache->loop, &name->grace);
    for (size_t i = 0; i < BRANCHES; i++)
        lookup_cancel(name->branches[i].lookup);
    free(name);
}

/* Other servers may know other names and addresses: all are asked for again. */
static void follow_resolv_conf(struct dns_cache *cache)
{
    double now = clock_now();

    if (now < cache->renewal)
        return;
    cache->renewal = now + RENEW_SECONDS;
    if (!resolver_renew(cache->resolver))
        return;
    for (struct name *name = cache->first; name != NULL; name = name->next) {
        name->due = 0;
        name->is_outdated = is_asking(name);
    }
}

bool dns_cache_find(struct dns_cache *cache, const char *host, struct dns_answer *answer)
{
    struct name *name = find(cache, host);

    follow_resolv_conf(cache);
    if (name == NULL)
        name = add(cache, host);
    if (name == NULL) {
        answer->count = 0;
        answer->renewing = false;
        answer->why_not = "no memory";
        return true;
    }
    if (!is_asking(name) && clock_now() >= name->due)
        ask(name);
    answer_of(name, answer);
    if (answer->count == 0 && name->is_stale) {
        set_stale(name, false);
        log_warning("names", "name_unresolved", "name=%s why=%s", name->host, name->why_not);
    }
    return answer->count > 0 || !is_asking(name);
}

struct dns_wait *dns_cache_wait(struct dns_cache *cache, const char *host, dns_done *done,
                                void *owner)
{
    struct name *name = find(cache, host);
    struct dns_wait *wait = calloc(1, sizeof *wait);

    if (wait == NULL)
        return NULL;
    wait->done = done;
    wait->owner = owner;
    list_add(name->waits.previous, &wait->link);
    return wait;
}

void dns_wait_cancel(struct dns_wait *wait)
{
    if (wait == NULL)
        return;
    list_remove(&wait->link);
    free(wait);
}

struct dns_cache *dns_cache_new(struct ev_loop *loop, const struct config *config,
                                struct slot *slot, struct shared_dns *shared_dns,
                                struct fault *fault)
{
    if (config->hosts != NULL && access(config->hosts, R_OK) != 0) {
        fault_set(fault, "cannot read the hosts file %s: %s", config->hosts, strerror(errno));
        return NULL;
    }
    struct resolver *resolver = resolver_new(loop, config, fault);
    if (resolver == NULL)
        return NULL;
    struct dns_cache *cache = xcalloc(1, sizeof *cache);
    cache->loop = loop;
    cache->config = config;
    cache->slot = slot;
    cache->shared_dns = shared_dns;
    cache->resolver = resolver;
    cache->renewal = clock_now() + RENEW_SECONDS;
    return cache;
}

void dns_cache_free(struct dns_cache *cache)
{
    if (cache == NULL)
        return;
    for (struct name *name = cache->first, *next; name != NULL; name = next) {
        next = name->next;
        name_free(name);
    }
    resolver_free(cache->resolver);
    free(cache);
}
