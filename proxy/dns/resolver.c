/*
 * resolver.c — one question about a name, asked on the loop through c-ares.
 *
 *     resolver_lookup ──▶ channel_ask ──▶ on_answer ──▶ (the loop) ──▶ on_wake ──▶ done
 *                                          later or at once                        once
 *
 * c-ares may call back before its own call returns, and cannot take back one question.  So the
 * callback only keeps the answer and wakes the lookup, whose owner hears of it from the loop; and
 * a lookup that nobody wants any more stays until c-ares has let go of it.  Because owners are
 * never called from inside c-ares, they may look up, cancel and free as they like.
 *
 * When resolv.conf names other servers a new channel is made (c-ares could change the old one only
 * in later versions, from a thread of its own); the old one goes when its questions are answered.
 *
 * It hides c-ares's answers and the differences of its versions from 1.18 on; how c-ares waits on
 * the loop is for dns/channel.c.
 */
#include "dns/resolver.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ares.h>
#include <ev.h>

#include "base/fault.h"
#include "base/log.h"
#include "config/config.h"
#include "dns/channel.h"
#include "dns/servers.h"

struct lookup {
    struct lookup          *next;
    struct lookup         **link;     /* what points at this lookup */
    struct resolver        *resolver;
    struct channel_question question;
    lookup_done            *done;     /* NULL: nobody wants the answer */
    void                   *owner;
    ev_timer                wake;     /* the deadline; fed when the answer is there */
    int                     status;
    struct ares_addrinfo   *answer;
    char                    host[];
};

struct resolver {
    struct ev_loop      *loop;
    const struct config *config;
    struct servers       servers;
    struct servers       unusable; /* the last ones that no channel could be made for */
    struct channel      *channel;  /* asks the servers */
    struct lookup       *lookups;
};

/* --- lookups ----------------------------------------------------------------------------- */

static void lookup_free(struct lookup *lookup)
{
    ev_timer_stop(lookup->resolver->loop, &lookup->wake);
    *lookup->link = lookup->next;
    if (lookup->next != NULL)
        lookup->next->link = lookup->link;
    if (lookup->answer != NULL)
        ares_freeaddrinfo(lookup->answer);
    free(lookup);
}

/* From now on silent; it goes when c-ares has let go of it. */
static void lookup_abandon(struct lookup *lookup)
{
    lookup->done = NULL;
    ev_timer_stop(lookup->resolver->loop, &lookup->wake);
    if (!channel_is_asked(&lookup->question))
        lookup_free(lookup);
}

/* Runs inside c-ares, perhaps inside channel_ask(). */
static void on_answer(void *owner, int status, struct ares_addrinfo *answer)
{
    struct lookup *lookup = owner;

    lookup->status = status;
    lookup->answer = answer;
    if (lookup->done == NULL)
        lookup_free(lookup);
    else
        ev_feed_event(lookup->resolver->loop, &lookup->wake, EV_TIMER);
}

static unsigned smaller(unsigned known, int ttl)
{
    return ttl >= 0 && (unsigned)ttl < known ? (unsigned)ttl : known;
}

/* Fills the addresses, and the least TTL where one is wanted; answers how many. */
static size_t collect(struct address addresses[RESOLVER_ADDRESSES],
                      const struct ares_addrinfo *answer, unsigned *ttl)
{
    size_t count = 0;

    *ttl = UINT_MAX;
    if (answer == NULL)
        return 0;
    for (const struct ares_addrinfo_cname *alias = answer->cnames; alias != NULL;
         alias = alias->next)
        *ttl = smaller(*ttl, alias->ttl);
    for (const struct ares_addrinfo_node *node = answer->nodes; node != NULL;
         node = node->ai_next) {
        if (node->ai_family != AF_INET && node->ai_family != AF_INET6)
            continue;
        *ttl = smaller(*ttl, node->ai_ttl);
        if (count == RESOLVER_ADDRESSES)
            continue;
        address_set(&addresses[count], node->ai_addr, node->ai_addrlen);
        address_set_port(&addresses[count++], 0);
    }
    return count;
}

static enum lookup_result result_of(int status)
{
    switch (status) {
    case ARES_SUCCESS: /* and yet without an address */
    case ARES_ENODATA:
    case ARES_ENOTFOUND:
    case ARES_EBADNAME:
        return LOOKUP_NOT_FOUND;
    case ARES_ETIMEOUT:
        return LOOKUP_TIMEOUT;
    default:
        return LOOKUP_FAILED;
    }
}

/* The words for a failed lookup.  Before 1.20 c-ares calls a server that failed "refused". */
static const char *status_text(int status)
{
    switch (status) {
    case ARES_SUCCESS:
    case ARES_ENODATA:
        return "the name has no address";
    case ARES_ENOTFOUND:
        return "no such name";
    case ARES_EBADNAME:
        return "not a valid name";
    case ARES_ETIMEOUT:
        return "no name server answered in time";
    case ARES_ESERVFAIL:
    case ARES_EREFUSED:
    case ARES_ECONNREFUSED:
        return "no name server could answer";
    case ARES_ENOMEM:
        return "no memory";
    default:
        return ares_strerror(status);
    }
}

/* Gives the answer, or says that time is up; the lookup is gone before the owner hears of it. */
static void lookup_finish(struct lookup *lookup)
{
    lookup_done *done = lookup->done;
    void *owner = lookup->owner;
    struct address addresses[RESOLVER_ADDRESSES];
    struct lookup_answer answer = { .addresses = addresses };
    int status = channel_is_asked(&lookup->question) ? ARES_ETIMEOUT : lookup->status;

    answer.count = collect(addresses, lookup->answer, &answer.ttl);
    if (answer.count == 0) {
        answer.result = result_of(status);
        answer.why_not = status_text(status);
    }
    lookup_abandon(lookup);
    done(owner, &answer);
}

/* The answer is there, or the deadline has passed. */
static void on_wake(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct lookup *lookup = timer->data;

    (void)loop;
    (void)events;
    channel_catch_up(&lookup->question);
    lookup_finish(lookup);
}

struct lookup *resolver_lookup(struct resolver *resolver, const char *host, int family,
                               lookup_done *done, void *owner)
{
    size_t size = strlen(host) + 1;
    struct lookup *lookup = calloc(1, sizeof *lookup + size);

    if (lookup == NULL)
        return NULL;
    *lookup = (struct lookup){
        .next = resolver->lookups,
        .link = &resolver->lookups,
        .resolver = resolver,
        .question = { .answered = on_answer, .owner = lookup },
        .done = done,
        .owner = owner,
        .status = ARES_EBADNAME,
    };
    memcpy(lookup->host, host, size);
    if (lookup->next != NULL)
        lookup->next->link = &lookup->next;
    resolver->lookups = lookup;

    ev_timer_init(&lookup->wake, on_wake, resolver->config->dns_timeout, 0.0);
    lookup->wake.data = lookup;
    ev_now_update(resolver->loop);
    ev_timer_start(resolver->loop, &lookup->wake);
    if (host[0] != '\0')
        channel_ask(resolver->channel, &lookup->question, lookup->host, family);
    else
        ev_feed_event(resolver->loop, &lookup->wake, EV_TIMER); /* the root has no address */
    return lookup;
}

void lookup_cancel(struct lookup *lookup)
{
    if (lookup != NULL)
        lookup_abandon(lookup);
}

/* --- the whole --------------------------------------------------------------------------- */

/* A system without resolv.conf is fine: c-ares asks 127.0.0.1, as resolv.conf(5) says. */
static bool find_servers(struct resolver *resolver, struct fault *fault)
{
    const struct config *config = resolver->config;

    if (config->resolvers.count > 0)
        servers_set(&resolver->servers, &config->resolvers);
    else if (config->resolv_conf == NULL)
        servers_read(&resolver->servers, SERVERS_SYSTEM_FILE);
    else if (!servers_read(&resolver->servers, config->resolv_conf))
        return fault_set(fault, "cannot read the resolver file %s: %s", config->resolv_conf,
                         strerror(errno));
    return true;
}

struct resolver *resolver_new(struct ev_loop *loop, const struct config *config,
                              struct fault *fault)
{
    struct resolver *resolver = xcalloc(1, sizeof *resolver);
    int status = ares_library_init(ARES_LIB_INIT_ALL);

    if (status != ARES_SUCCESS) {
        fault_set(fault, "cannot set up name lookups: %s", ares_strerror(status));
        free(resolver);
        return NULL;
    }
    resolver->loop = loop;
    resolver->config = config;
    if (find_servers(resolver, fault))
        resolver->channel = channel_new(loop, config, &resolver->servers, fault);
    if (resolver->channel != NULL)
        return resolver;
    resolver_free(resolver);
    return NULL;
}

void resolver_free(struct resolver *resolver)
{
    if (resolver == NULL)
        return;
    for (struct lookup *lookup = resolver->lookups, *next; lookup != NULL; lookup = next) {
        next = lookup->next;
        lookup_abandon(lookup);
    }
    channel_free(resolver->channel);
    ares_library_cleanup();
    assert(resolver->lookups == NULL);
    free(resolver);
}

/* A file that cannot be read, or names nobody, is being edited: the old servers stay. */
static bool has_changed(const struct resolver *resolver, struct servers *now)
{
    const char *file = resolver->config->resolv_conf;

    return resolver->config->resolvers.count == 0 &&
           servers_read(now, file != NULL ? file : SERVERS_SYSTEM_FILE) && now->count > 0 &&
           !servers_are_equal(now, &resolver->servers);
}

bool resolver_renew(struct resolver *resolver)
{
    struct servers now;
    struct fault why;

    if (!has_changed(resolver, &now))
        return false;
    const struct servers before = resolver->servers;
    resolver->servers = now;
    struct channel *fresh = channel_new(resolver->loop, resolver->config, &resolver->servers, &why);
    if (fresh == NULL) { /* there may be memory the next time */
        resolver->servers = before;
        if (!servers_are_equal(&now, &resolver->unusable))
            log_warning("names", "servers_unusable", "why=%s", why.text);
        resolver->unusable = now;
        return false;
    }
    resolver->unusable = (struct servers){ 0 };
    channel_replace(fresh, resolver->channel);
    resolver->channel = fresh;
    log_info("names", "servers_changed", "servers=%s search=%zu", now.text, now.search.count);
    return true;
}

const struct search *resolver_search(const struct resolver *resolver)
{
    return &resolver->servers.search;
}

const char *resolver_version(void)
{
    static char text[64];

    snprintf(text, sizeof text, "c-ares %s, compiled with %s", ares_version(NULL),
             ARES_VERSION_STR);
    return text;
}
