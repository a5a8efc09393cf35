/*
 * resolver.c — names to addresses on the loop, through c-ares.
 *
 *     resolver_lookup ──▶ c-ares ──▶ on_answer ──▶ (the loop) ──▶ on_wake ──▶ done
 *                           ▲  │         later or at once                 once
 *          sockets readable,│  │what it waits for
 *             time is up    └──┴── ev_io per socket, one ev_timer
 *
 * c-ares may call back before its own call returns, and cannot take back one question.  So its
 * callback only keeps the answer and wakes the lookup, whose owner hears of it from the loop; and
 * a lookup that nobody wants any more stays until c-ares has let go of it.  Because owners are
 * never called from inside c-ares, they may look up, cancel and free as they like.
 *
 * It hides c-ares and the differences of its versions from 1.18 on.
 */
#include "flow/resolver.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ares.h>
#include <ev.h>

#include "base/fault.h"

#define TRY_MILLISECONDS 1000 /* a server next door needs a few; the second try has twice as long */
#define TRIES            2
#define LOOKUP_SECONDS   5.0 /* whatever the number of servers; the same as --connect-timeout */
#define ROUNDING_SECONDS 0.001 /* ares_timeout() has cut off fractions: waking early would spin */

/* A socket of c-ares, between its first and its last word about it. */
struct dns_socket {
    struct dns_socket *next;
    struct resolver   *resolver;
    ev_io              io;
};

struct lookup {
    struct lookup        *next;
    struct lookup       **link;     /* what points at this lookup */
    struct resolver      *resolver;
    lookup_done          *done;     /* NULL: nobody wants the answer */
    void                 *owner;
    ev_timer              wake;     /* the deadline; fed when the answer is there */
    bool                  asking;   /* c-ares still owes us a call */
    int                   status;
    struct ares_addrinfo *answer;
    char                  host[];
};

struct resolver {
    struct ev_loop    *loop;
    ares_channel       channel;
    ev_timer           timeout;     /* c-ares's next one */
    struct dns_socket *sockets;
    struct lookup     *lookups;
    int                hosts_flag;  /* ARES_AI_ENVHOSTS: the hosts file was given */
};

/* c-ares tells what it waits for only when asked, so ask after every call into it. */
static void rearm_timeout(struct resolver *resolver)
{
    struct timeval left;

    ev_timer_stop(resolver->loop, &resolver->timeout);
    if (ares_timeout(resolver->channel, NULL, &left) == NULL)
        return;
    double seconds = (double)left.tv_sec + (double)left.tv_usec / 1e6 + ROUNDING_SECONDS;
    /* The loop's clock is as old as its turn; c-ares reads the real one. */
    ev_now_update(resolver->loop);
    ev_timer_set(&resolver->timeout, seconds, 0.0);
    ev_timer_start(resolver->loop, &resolver->timeout);
}

static void on_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct resolver *resolver = timer->data;

    (void)loop;
    (void)events;
    ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    rearm_timeout(resolver);
}

/* c-ares may close the socket in here, and the watcher is gone then. */
static void on_socket_ready(struct ev_loop *loop, ev_io *io, int events)
{
    struct resolver *resolver = ((struct dns_socket *)io->data)->resolver;
    ares_socket_t fd = io->fd;

    (void)loop;
    ares_process_fd(resolver->channel, events & EV_READ ? fd : ARES_SOCKET_BAD,
                    events & EV_WRITE ? fd : ARES_SOCKET_BAD);
    rearm_timeout(resolver);
}

static struct dns_socket **find_socket(struct resolver *resolver, ares_socket_t fd)
{
    struct dns_socket **link = &resolver->sockets;

    while (*link != NULL && (*link)->io.fd != fd)
        link = &(*link)->next;
    return link;
}

static struct dns_socket *add_socket(struct resolver *resolver, ares_socket_t fd)
{
    struct dns_socket *socket = calloc(1, sizeof *socket);

    if (socket == NULL)
        return NULL;
    *socket = (struct dns_socket){ .next = resolver->sockets, .resolver = resolver };
    ev_io_init(&socket->io, on_socket_ready, fd, 0);
    socket->io.data = socket;
    resolver->sockets = socket;
    return socket;
}

static void remove_socket(struct dns_socket **link)
{
    struct dns_socket *socket = *link;

    ev_io_stop(socket->resolver->loop, &socket->io);
    *link = socket->next;
    free(socket);
}

/* c-ares says what it now waits for on one of its sockets; nothing: it is about to close it, and
 * the number may come back at once for another socket.  Without memory to watch it, the lookup
 * ends by its deadline. */
static void on_socket_change(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct resolver *resolver = arg;
    struct dns_socket **link = find_socket(resolver, fd);

    if (!readable && !writable) {
        if (*link != NULL)
            remove_socket(link);
        return;
    }
    struct dns_socket *socket = *link != NULL ? *link : add_socket(resolver, fd);
    if (socket == NULL)
        return;
    ev_io_stop(resolver->loop, &socket->io);
    ev_io_set(&socket->io, fd, (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));
    ev_io_start(resolver->loop, &socket->io);
}

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
    if (!lookup->asking)
        lookup_free(lookup);
}

/* Runs inside c-ares, perhaps inside ares_getaddrinfo(). */
static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *answer)
{
    struct lookup *lookup = arg;

    (void)timeouts;
    lookup->asking = false;
    lookup->status = status;
    lookup->answer = answer;
    if (lookup->done == NULL)
        lookup_free(lookup);
    else
        ev_feed_event(lookup->resolver->loop, &lookup->wake, EV_TIMER);
}

static void lookup_ask(struct lookup *lookup)
{
    struct resolver *resolver = lookup->resolver;
    const struct ares_addrinfo_hints hints = {
        .ai_flags = ARES_AI_NOSORT | resolver->hosts_flag, /* sorting would connect sockets */
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
    };

    lookup->asking = true;
    ares_getaddrinfo(resolver->channel, lookup->host, NULL, &hints, on_answer, lookup);
    rearm_timeout(resolver);
}

static bool has_address(const struct address *addresses, size_t count, const struct address *wanted)
{
    for (size_t i = 0; i < count; i++) {
        if (address_equal(&addresses[i], wanted))
            return true;
    }
    return false;
}

static size_t add_family(struct address *addresses, size_t count,
                         const struct ares_addrinfo *answer, int family)
{
    for (const struct ares_addrinfo_node *node = answer->nodes; node != NULL;
         node = node->ai_next) {
        struct address address;

        if (node->ai_family != AF_INET && node->ai_family != AF_INET6)
            continue;
        address_set(&address, node->ai_addr, node->ai_addrlen);
        address_set_port(&address, 0);
        if (address.any.sa_family != family || count == RESOLVER_ADDRESSES)
            continue;
        if (!has_address(addresses, count, &address))
            addresses[count++] = address;
    }
    return count;
}

/* IPv4 first, because it is what works nearly everywhere; within a family as the server said. */
static size_t collect(struct address addresses[RESOLVER_ADDRESSES],
                      const struct ares_addrinfo *answer)
{
    if (answer == NULL)
        return 0;
    return add_family(addresses, add_family(addresses, 0, answer, AF_INET), answer, AF_INET6);
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
    size_t count = collect(addresses, lookup->answer);
    const char *why_not = status_text(lookup->asking ? ARES_ETIMEOUT : lookup->status);

    lookup_abandon(lookup);
    done(owner, addresses, count, count > 0 ? NULL : why_not);
}

/* The answer is there, or the deadline has passed. */
static void on_wake(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    lookup_finish(timer->data);
}

/* The hosts file can be named to every version of c-ares only through the environment. */
static bool set_hosts(struct resolver *resolver, const char *hosts, struct fault *fault)
{
    if (hosts == NULL)
        return true;
    if (access(hosts, R_OK) != 0)
        return fault_set(fault, "cannot read the hosts file %s: %s", hosts, strerror(errno));
    if (setenv("CARES_HOSTS", hosts, 1) != 0)
        return fault_set(fault, "cannot name the hosts file %s: %s", hosts, strerror(errno));
    resolver->hosts_flag = ARES_AI_ENVHOSTS;
    return true;
}

/* Writes the file's name servers as "SERVER,SERVER".  False: errno says why. */
static bool read_servers(const char *resolv_conf, char *servers, size_t size)
{
    char line[256];
    char server[100];
    size_t length = 0;
    FILE *file = fopen(resolv_conf, "re");

    servers[0] = '\0';
    if (file == NULL)
        return false;
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, " nameserver %99s", server) == 1 && length + strlen(server) + 2 < size)
            length += (size_t)snprintf(servers + length, size - length, "%s%s",
                                       length > 0 ? "," : "", server);
    }
    fclose(file);
    return true;
}

/* c-ares reads that file too, but up to 1.18 skips a server that is given with a port. */
static bool use_servers(struct resolver *resolver, const char *resolv_conf, struct fault *fault)
{
    char servers[1024];

    if (!read_servers(resolv_conf, servers, sizeof servers))
        return fault_set(fault, "cannot read the resolver file %s: %s", resolv_conf,
                         strerror(errno));
    int status = ares_set_servers_ports_csv(resolver->channel, servers);
    if (status != ARES_SUCCESS)
        return fault_set(fault, "cannot use the name servers of %s (%s): %s", resolv_conf, servers,
                         ares_strerror(status));
    return true;
}

static bool open_channel(struct resolver *resolver, const char *resolv_conf, struct fault *fault)
{
    char lookups[] = "fb"; /* the hosts file, then the servers, whatever nsswitch.conf says */
    struct ares_options options = {
        .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
        .timeout = TRY_MILLISECONDS,
        .tries = TRIES,
        .ndomains = 0, /* no search list: a name is what it says */
        .lookups = lookups,
        .sock_state_cb = on_socket_change,
        .sock_state_cb_data = resolver,
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_DOMAINS |
               ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB;

#ifdef ARES_OPT_QUERY_CACHE
    options.qcache_max_ttl = 0; /* an answer is as old as its lookup */
    mask |= ARES_OPT_QUERY_CACHE;
#endif
    if (resolv_conf != NULL) {
        options.resolvconf_path = (char *)resolv_conf; /* c-ares only reads it */
        mask |= ARES_OPT_RESOLVCONF;
    }
    int status = ares_init_options(&resolver->channel, &options, mask);
    if (status != ARES_SUCCESS)
        return fault_set(fault, "cannot set up name lookups: %s", ares_strerror(status));
    return resolv_conf == NULL || use_servers(resolver, resolv_conf, fault);
}

struct resolver *resolver_new(struct ev_loop *loop, const char *resolv_conf, const char *hosts,
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
    ev_init(&resolver->timeout, on_timeout);
    resolver->timeout.data = resolver;
    if (!set_hosts(resolver, hosts, fault) || !open_channel(resolver, resolv_conf, fault)) {
        resolver_free(resolver);
        return NULL;
    }
    return resolver;
}

void resolver_free(struct resolver *resolver)
{
    if (resolver == NULL)
        return;
    for (struct lookup *lookup = resolver->lookups, *next; lookup != NULL; lookup = next) {
        next = lookup->next;
        lookup_abandon(lookup);
    }
    if (resolver->channel != NULL)
        ares_destroy(resolver->channel); /* answers every open question */
    ares_library_cleanup();
    ev_timer_stop(resolver->loop, &resolver->timeout);
    assert(resolver->lookups == NULL && resolver->sockets == NULL);
    free(resolver);
}

struct lookup *resolver_lookup(struct resolver *resolver, const char *host, lookup_done *done,
                               void *owner)
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

    ev_timer_init(&lookup->wake, on_wake, LOOKUP_SECONDS, 0.0);
    lookup->wake.data = lookup;
    ev_timer_start(resolver->loop, &lookup->wake);
    if (host[0] != '\0')
        lookup_ask(lookup);
    else
        ev_feed_event(resolver->loop, &lookup->wake, EV_TIMER); /* the root has no address */
    return lookup;
}

void lookup_cancel(struct lookup *lookup)
{
    if (lookup != NULL)
        lookup_abandon(lookup);
}

const char *resolver_version(void)
{
    static char text[64];

    snprintf(text, sizeof text, "c-ares %s, compiled with %s", ares_version(NULL),
             ARES_VERSION_STR);
    return text;
}
