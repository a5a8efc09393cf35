/*
 * resolver.c — one question about a name, asked on the loop through c-ares.
 *
 *     resolver_lookup ──▶ channel ──▶ on_answer ──▶ (the loop) ──▶ on_wake ──▶ done
 *                          ▲   │         later or at once                 once
 *          sockets readable,│   │what it waits for
 *              time is up   └───┴── watch per socket, one ev_timer
 *
 * c-ares may call back before its own call returns, and cannot take back one question.  So its
 * callback only keeps the answer and wakes the lookup, whose owner hears of it from the loop; and
 * a lookup that nobody wants any more stays until c-ares has let go of it.  Because owners are
 * never called from inside c-ares, they may look up, cancel and free as they like.
 *
 * When resolv.conf names other servers a new channel is made (c-ares could change the old one only
 * in later versions, from a thread of its own); the old one goes when its questions are answered.
 *
 * It hides c-ares and the differences of its versions from 1.18 on.
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
#include "base/files.h"
#include "base/log.h"
#include "config/config.h"
#include "dns/dns_datagrams.h"
#include "dns/servers.h"
#include "socket/watch.h"

#define SYSTEM_RESOLV_CONF "/etc/resolv.conf"
#define TRIES              2     /* of each server; c-ares gives the second twice the time */
#define SHARES             3     /* so both together take three times the first */
#define SOCKETS_MAX       32    /* that are looked at: UDP and TCP of each server, and some more */
#define KNOWS_ZONES        0x011600 /* the version that takes servers with interfaces */
#define ROUNDING_SECONDS   0.001 /* ares_timeout() has cut off fractions: waking early would spin */

/* A socket of c-ares, between its first and its last word about it. */
struct dns_socket {
    struct dns_socket *next;
    struct channel    *channel;
    struct watch       watch;
};

/* c-ares with one set of servers, and what it waits for. */
struct channel {
    struct channel    *next;      /* an older one */
    struct resolver   *resolver;
    ares_channel       ares;
    ev_timer           timeout;   /* c-ares's next one */
    struct dns_socket *sockets;
    struct dns_datagrams datagrams;
    size_t             questions; /* c-ares still owes us a call for each */
};

struct lookup {
    struct lookup        *next;
    struct lookup       **link;     /* what points at this lookup */
    struct resolver      *resolver;
    struct channel       *channel;  /* NULL once it has called */
    lookup_done          *done;     /* NULL: nobody wants the answer */
    void                 *owner;
    ev_timer              wake;     /* the deadline; fed when the answer is there */
    int                   status;
    struct ares_addrinfo *answer;
    char                  host[];
};

struct resolver {
    struct ev_loop      *loop;
    const struct config *config;
    struct servers       servers;
    struct channel      *channels; /* the first is asked, the others finish */
    struct lookup       *lookups;
};

/* --- channels ---------------------------------------------------------------------------- */

/* c-ares tells what it waits for only when asked, so ask after every call into it. */
static void rearm_timeout(struct channel *channel)
{
    struct ev_loop *loop = channel->resolver->loop;
    struct timeval left;

    ev_timer_stop(loop, &channel->timeout);
    if (ares_timeout(channel->ares, NULL, &left) == NULL)
        return;
    double seconds = (double)left.tv_sec + (double)left.tv_usec / 1e6 + ROUNDING_SECONDS;
    /* The loop's clock is as old as its turn; c-ares reads the real one. */
    ev_now_update(loop);
    ev_timer_set(&channel->timeout, seconds, 0.0);
    ev_timer_start(loop, &channel->timeout);
}

/* Answers every open question; the sockets go with it. */
static void channel_free(struct channel *channel)
{
    if (channel->ares != NULL)
        ares_destroy(channel->ares);
    assert(channel->sockets == NULL && channel->questions == 0);
    ev_timer_stop(channel->resolver->loop, &channel->timeout);
    free(channel);
}

static void remove_if_finished(struct channel *channel)
{
    struct channel **link = &channel->resolver->channels;

    if (channel == *link || channel->questions > 0)
        return;
    while (*link != channel)
        link = &(*link)->next;
    *link = channel->next;
    channel_free(channel);
}

static void process(struct channel *channel, ares_socket_t readable, ares_socket_t writable)
{
    dns_datagrams_begin(&channel->datagrams);
    ares_process_fd(channel->ares, readable, writable);
}

/* Gives c-ares a turn; afterwards the channel may be gone. */
static void channel_turn(struct channel *channel, ares_socket_t readable, ares_socket_t writable)
{
    process(channel, readable, writable);
    rearm_timeout(channel);
    remove_if_finished(channel);
}

/* After a pause of the whole process timers ring first: what has come meanwhile counts.  c-ares may
 * close sockets in here, and takes no notice of one that is not its own.  Afterwards the channel may
 * be gone. */
static void channel_time_passed(struct channel *channel)
{
    ares_socket_t sockets[SOCKETS_MAX];
    size_t        count = 0;

    for (struct dns_socket *s = channel->sockets; s != NULL && count < SOCKETS_MAX; s = s->next)
        sockets[count++] = s->watch.io.fd;
    for (size_t i = 0; i < count; i++)
        process(channel, sockets[i], ARES_SOCKET_BAD);
    channel_turn(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

static void on_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    channel_time_passed(timer->data);
}

/* c-ares may close the socket in here, and the watcher is gone then. */
static void on_socket_ready(void *owner, int events)
{
    struct dns_socket *socket = owner;
    struct channel    *channel = socket->channel;
    ares_socket_t      fd = socket->watch.io.fd;

    channel_turn(channel, events & EV_READ ? fd : ARES_SOCKET_BAD,
                 events & EV_WRITE ? fd : ARES_SOCKET_BAD);
}

static struct dns_socket **find_socket(struct channel *channel, ares_socket_t fd)
{
    struct dns_socket **link = &channel->sockets;

    while (*link != NULL && (*link)->watch.io.fd != fd)
        link = &(*link)->next;
    return link;
}

static struct dns_socket *add_socket(struct channel *channel, ares_socket_t fd)
{
    struct dns_socket *socket = calloc(1, sizeof *socket);

    if (socket == NULL)
        return NULL;
    *socket = (struct dns_socket){ .next = channel->sockets, .channel = channel };
    watch_init(&socket->watch, channel->resolver->loop, fd, on_socket_ready, socket,
               "a name server's socket");
    channel->sockets = socket;
    return socket;
}

static void remove_socket(struct dns_socket **link)
{
    struct dns_socket *socket = *link;

    watch_stop(&socket->watch);
    *link = socket->next;
    free(socket);
}

/* c-ares says what it now waits for on one of its sockets; nothing: it is about to close it, and
 * the number may come back at once for another socket.  Without memory to watch it, the lookup
 * ends by its deadline. */
static void on_socket_change(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct channel *channel = arg;
    struct dns_socket **link = find_socket(channel, fd);

    if (!readable && !writable) {
        if (*link != NULL)
            remove_socket(link);
        return;
    }
    struct dns_socket *socket = *link != NULL ? *link : add_socket(channel, fd);
    if (socket == NULL)
        return;
    watch_change(&socket->watch, fd, (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));
}

/* The time of a first try, so that all tries of all servers end within --dns-timeout. */
static int try_milliseconds(const struct resolver *resolver)
{
    size_t servers = resolver->servers.count > 0 ? resolver->servers.count : 1;
    double seconds = resolver->config->dns_timeout / (double)(SHARES * servers);

    return seconds > 0.001 ? (int)(seconds * 1000) : 1;
}

/* c-ares reads it, too, and would wait for a pipe. */
static char *resolv_conf_for_ares(const struct config *config)
{
    static char system[] = SYSTEM_RESOLV_CONF;
    static char nothing[] = "/dev/null";
    char *path = config->resolv_conf != NULL ? config->resolv_conf : system;
    FILE *file = files_open_now(path);

    if (file == NULL)
        return nothing;
    fclose(file);
    return path;
}

/* Answers c-ares's status. */
static int open_ares(struct channel *channel)
{
    const struct resolver *resolver = channel->resolver;
    char lookups[] = "b"; /* only the servers, whatever nsswitch.conf says */
    struct ares_options options = {
        .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
        .timeout = try_milliseconds(resolver),
        .tries = TRIES,
        .ndomains = 0, /* dns/search.h: c-ares would search for each family by itself */
        .lookups = lookups,
        .sock_state_cb = on_socket_change,
        .sock_state_cb_data = channel,
        .resolvconf_path = resolv_conf_for_ares(resolver->config),
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_DOMAINS |
               ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB | ARES_OPT_RESOLVCONF;

#ifdef ARES_OPT_QUERY_CACHE
    options.qcache_max_ttl = 0; /* an answer is as old as its lookup */
    mask |= ARES_OPT_QUERY_CACHE;
#endif
    return ares_init_options(&channel->ares, &options, mask);
}

static bool were_named(const struct resolver *resolver)
{
    return resolver->config->resolvers.count > 0 || resolver->config->resolv_conf != NULL;
}

/* c-ares reads resolv.conf too, but up to 1.18 skips a server that is given with a port, and one with
 * an interface.  dns_datagrams.c adds what an older
 * one is not told.  What it cannot take from the system's file it may still have read there. */
static int use_servers(const struct resolver *resolver, ares_channel ares)
{
    const struct servers *servers = &resolver->servers;
    char text[SERVERS_TEXT];

    if (servers->count == 0)
        return ARES_SUCCESS;
    snprintf(text, sizeof text, "%s", servers->text);
    if (servers->zoned_count > 0 && ARES_VERSION < KNOWS_ZONES)
        servers_without_zones(servers, text);
    int status = ares_set_servers_ports_csv(ares, text);
    return were_named(resolver) ? status : ARES_SUCCESS;
}

/* Asks the resolver's servers.  NULL: the fault says why. */
static struct channel *channel_new(struct resolver *resolver, struct fault *fault)
{
    struct channel *channel = calloc(1, sizeof *channel);

    if (channel == NULL) {
        fault_set(fault, "no memory");
        return NULL;
    }
    channel->resolver = resolver;
    ev_init(&channel->timeout, on_timeout);
    channel->timeout.data = channel;
    int status = open_ares(channel);
    if (status == ARES_SUCCESS)
        status = use_servers(resolver, channel->ares);
    if (status == ARES_SUCCESS) {
        dns_datagrams_filter(channel->ares, &channel->datagrams, &resolver->servers);
        return channel;
    }
    fault_set(fault, "cannot use the name servers \"%s\": %s", resolver->servers.text,
              ares_strerror(status));
    channel_free(channel);
    return NULL;
}

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
    if (lookup->channel == NULL)
        lookup_free(lookup);
}

/* Runs inside c-ares, perhaps inside ares_getaddrinfo(). */
static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *answer)
{
    struct lookup *lookup = arg;

    (void)timeouts;
    lookup->channel->questions--;
    lookup->channel = NULL;
    lookup->status = status;
    lookup->answer = answer;
    if (lookup->done == NULL)
        lookup_free(lookup);
    else
        ev_feed_event(lookup->resolver->loop, &lookup->wake, EV_TIMER);
}

static void lookup_ask(struct lookup *lookup, int family)
{
    struct channel *channel = lookup->resolver->channels;
    const struct ares_addrinfo_hints hints = {
        .ai_flags = ARES_AI_NOSORT, /* sorting would connect sockets */
        .ai_family = family,
        .ai_socktype = SOCK_STREAM,
    };

    lookup->channel = channel;
    channel->questions++;
    ares_getaddrinfo(channel->ares, lookup->host, NULL, &hints, on_answer, lookup);
    rearm_timeout(channel);
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
    int status = lookup->channel != NULL ? ARES_ETIMEOUT : lookup->status;

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
    if (lookup->channel != NULL)
        channel_time_passed(lookup->channel);
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
        lookup_ask(lookup, family);
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
        servers_read(&resolver->servers, SYSTEM_RESOLV_CONF);
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
        resolver->channels = channel_new(resolver, fault);
    if (resolver->channels != NULL)
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
    for (struct channel *channel = resolver->channels, *next; channel != NULL; channel = next) {
        next = channel->next;
        channel_free(channel);
    }
    ares_library_cleanup();
    assert(resolver->lookups == NULL);
    free(resolver);
}

/* A file that cannot be read, or names nobody, is being edited: the old servers stay. */
static bool has_changed(const struct resolver *resolver, struct servers *now)
{
    const char *file = resolver->config->resolv_conf;

    return resolver->config->resolvers.count == 0 &&
           servers_read(now, file != NULL ? file : SYSTEM_RESOLV_CONF) && now->count > 0 &&
           !servers_are_equal(now, &resolver->servers);
}

bool resolver_renew(struct resolver *resolver)
{
    struct servers now;
    struct fault why;

    if (!has_changed(resolver, &now))
        return false;
    resolver->servers = now;
    struct channel *fresh = channel_new(resolver, &why);
    if (fresh == NULL) {
        log_warning("names", "servers_unusable", "why=%s", why.text);
        return false;
    }
    struct channel *old = resolver->channels;
    fresh->next = old;
    resolver->channels = fresh;
    remove_if_finished(old);
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
