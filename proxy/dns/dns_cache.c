/*
 * dns_cache.c — one entry for each name of the configuration, with its questions and waits.
 *
 *     dns_cache_find ──due──▶ ask ──▶ the hosts file ──else──▶ one question for each family
 *                                                                      │ on_lookup
 *          dns_cache_wait ──▶ waits ◀──tell── the last answer, or the first good one and GRACE ◀┘
 *
 * dns/dns_entry.c keeps what is known of a name and decides when it is due.  This file asks: it holds
 * the questions of a round, the place in the search list and those who wait.
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
#include "dns/dns_entry.h"
#include "dns/resolver.h"
#include "dns/search.h"

#define GRACE_SECONDS       0.05 /* for the other family, once one has answered (RFC 8305, 3) */
#define RENEW_SECONDS       1.0  /* resolv.conf is looked at this often, while names are in use */

/* About a name in one family. */
struct question {
    struct name   *name;
    int            family;
    struct lookup *lookup; /* NULL: it is answered, or was never asked */
};

struct name {
    struct name      *next;
    struct dns_cache *cache;
    struct dns_entry  entry;
    struct question   questions[DNS_FAMILIES];
    struct link       waits;
    ev_timer          grace;
    bool              is_outdated; /* servers changed while they were asked */
    size_t            place;       /* in the search list */
    double            deadline;    /* after it, no further name of the list is asked for */
    char              asked[HOST_TEXT]; /* now, or last */
    char              complete[HOST_TEXT]; /* what the log has said it stands for; "": nothing */
    char              host[];
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

static bool is_asking(const struct name *name)
{
    return name->questions[0].lookup != NULL || name->questions[1].lookup != NULL;
}

static void answer_of(struct name *name, struct dns_answer *answer)
{
    dns_entry_answer(&name->entry, answer);
    answer->renewing = is_asking(name);
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

static void end_round(struct name *name)
{
    ev_timer_stop(name->cache->loop, &name->grace);
    if (dns_entry_is_found(&name->entry))
        say_complete(name);
    dns_entry_end(&name->entry, name->place > 1);
    if (name->is_outdated)
        dns_entry_make_due(&name->entry);
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
    struct question *question = owner;
    struct name     *name = question->name;

    question->lookup = NULL;
    dns_entry_hear(&name->entry, question->family, answer);
    if (is_asking(name)) {
        if (dns_entry_is_found(&name->entry))
            ev_timer_start(name->cache->loop, &name->grace);
        return;
    }
    if (dns_entry_is_absent(&name->entry) && ask_next(name))
        return;
    end_round(name);
    tell(name);
}

static void ask_servers(struct name *name)
{
    static const struct lookup_answer no_memory = { .result = LOOKUP_FAILED,
                                                    .why_not = "no memory" };

    for (size_t i = 0; i < DNS_FAMILIES; i++) {
        struct question *question = &name->questions[i];
        if (!dns_entry_wants(&name->entry, question->family))
            continue;
        question->lookup = resolver_lookup(name->cache->resolver, name->asked, question->family,
                                           on_lookup, question);
        if (question->lookup == NULL)
            dns_entry_hear(&name->entry, question->family, &no_memory);
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
    dns_entry_begin(&name->entry);
    ask_servers(name);
    return is_asking(name);
}

static void ask(struct name *name)
{
    dns_entry_begin(&name->entry);
    name->place = 0;
    name->deadline = clock_now() + name->cache->config->dns_timeout;
    memcpy(name->asked, name->host, strlen(name->host) + 1);
    ev_timer_set(&name->grace, GRACE_SECONDS, 0.0);
    if (dns_entry_read_hosts(&name->entry) || !ask_next(name))
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

/* The configuration bounds how many there are.  NULL: no memory. */
static struct name *add(struct dns_cache *cache, const char *host)
{
    size_t size = strlen(host) + 1;
    struct name *name = calloc(1, sizeof *name + size);

    if (name == NULL)
        return NULL;
    name->next = cache->first;
    name->cache = cache;
    name->questions[0] = (struct question){ .name = name, .family = AF_INET };
    name->questions[1] = (struct question){ .name = name, .family = AF_INET6 };
    list_start(&name->waits);
    ev_init(&name->grace, on_grace);
    name->grace.data = name;
    memcpy(name->host, host, size);
    dns_entry_init(&name->entry, name->host, cache->config, cache->slot, cache->shared_dns);
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
    for (size_t i = 0; i < DNS_FAMILIES; i++)
        lookup_cancel(name->questions[i].lookup);
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
        dns_entry_make_due(&name->entry);
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
    if (!is_asking(name) && dns_entry_is_due(&name->entry))
        ask(name);
    answer_of(name, answer);
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
