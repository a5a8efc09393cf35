/*
 * channel.c — c-ares with one set of name servers: its sockets and its timeout on the loop.
 *
 *     newest ──older──▶ channel ──older──▶ channel      only the newest is asked;
 *            ◀──newer──         ◀──newer──              each other one goes when it is answered
 *
 * c-ares opens and closes its sockets as it likes, and says so in on_socket_change().  What else it
 * waits for it tells only when asked, so it is asked after every call into it.
 *
 * It hides the differences of c-ares's versions from 1.18 on, but for the meaning of its answers.
 */
#include "dns/channel.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <ares.h>
#include <ev.h>

#include "base/fault.h"
#include "base/files.h"
#include "config/config.h"
#include "dns/dns_datagrams.h"
#include "dns/servers.h"
#include "socket/watch.h"

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
    struct channel    *newer;     /* what has replaced it; NULL: it is the newest */
    struct channel    *older;     /* what it has replaced */
    struct ev_loop    *loop;
    ares_channel       ares;
    ev_timer           timeout;   /* c-ares's next one */
    struct dns_socket *sockets;
    struct dns_datagrams datagrams;
    size_t             questions; /* c-ares still owes us a call for each */
};

/* Call it after every call into c-ares. */
static void rearm_timeout(struct channel *channel)
{
    struct ev_loop *loop = channel->loop;
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
static void destroy(struct channel *channel)
{
    if (channel->ares != NULL)
        ares_destroy(channel->ares);
    assert(channel->sockets == NULL && channel->questions == 0);
    ev_timer_stop(channel->loop, &channel->timeout);
    free(channel);
}

static void end_if_finished(struct channel *channel)
{
    if (channel->newer == NULL || channel->questions > 0)
        return;
    channel->newer->older = channel->older;
    if (channel->older != NULL)
        channel->older->newer = channel->newer;
    destroy(channel);
}

static void process(struct channel *channel, ares_socket_t readable, ares_socket_t writable)
{
    dns_datagrams_begin(&channel->datagrams);
    ares_process_fd(channel->ares, readable, writable);
}

/* Gives c-ares a turn; afterwards the channel may be gone. */
static void give_turn(struct channel *channel, ares_socket_t readable, ares_socket_t writable)
{
    process(channel, readable, writable);
    rearm_timeout(channel);
    end_if_finished(channel);
}

/* After a pause of the whole process timers ring first: what has come meanwhile counts.  c-ares may
 * close sockets in here, and takes no notice of one that is not its own.  Afterwards the channel may
 * be gone. */
static void catch_up(struct channel *channel)
{
    ares_socket_t sockets[SOCKETS_MAX];
    size_t        count = 0;

    for (struct dns_socket *s = channel->sockets; s != NULL && count < SOCKETS_MAX; s = s->next)
        sockets[count++] = s->watch.io.fd;
    for (size_t i = 0; i < count; i++)
        process(channel, sockets[i], ARES_SOCKET_BAD);
    give_turn(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

static void on_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    catch_up(timer->data);
}

/* c-ares may close the socket in here, and the watcher is gone then. */
static void on_socket_ready(void *owner, int events)
{
    struct dns_socket *socket = owner;
    struct channel    *channel = socket->channel;
    ares_socket_t      fd = socket->watch.io.fd;

    give_turn(channel, events & EV_READ ? fd : ARES_SOCKET_BAD,
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
    watch_init(&socket->watch, channel->loop, fd, on_socket_ready, socket,
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
static int try_milliseconds(const struct config *config, const struct servers *servers)
{
    size_t count = servers->count > 0 ? servers->count : 1;
    double seconds = config->dns_timeout / (double)(SHARES * count);

    return seconds > 0.001 ? (int)(seconds * 1000) : 1;
}

/* c-ares reads it, too, and would wait for a pipe. */
static char *resolv_conf_for_ares(const struct config *config)
{
    static char system[] = SERVERS_SYSTEM_FILE;
    static char nothing[] = "/dev/null";
    char *path = config->resolv_conf != NULL ? config->resolv_conf : system;
    FILE *file = files_open_now(path);

    if (file == NULL)
        return nothing;
    fclose(file);
    return path;
}

/* Answers c-ares's status. */
static int open_ares(struct channel *channel, const struct config *config,
                     const struct servers *servers)
{
    char lookups[] = "b"; /* only the servers, whatever nsswitch.conf says */
    struct ares_options options = {
        .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
        .timeout = try_milliseconds(config, servers),
        .tries = TRIES,
        .ndomains = 0, /* dns/search.h: c-ares would search for each family by itself */
        .lookups = lookups,
        .sock_state_cb = on_socket_change,
        .sock_state_cb_data = channel,
        .resolvconf_path = resolv_conf_for_ares(config),
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_DOMAINS |
               ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB | ARES_OPT_RESOLVCONF;

#ifdef ARES_OPT_QUERY_CACHE
    options.qcache_max_ttl = 0; /* an answer is as old as its lookup */
    mask |= ARES_OPT_QUERY_CACHE;
#endif
    return ares_init_options(&channel->ares, &options, mask);
}

static bool were_named(const struct config *config)
{
    return config->resolvers.count > 0 || config->resolv_conf != NULL;
}

/* c-ares reads resolv.conf too, but up to 1.18 skips a server that is given with a port, and one with
 * an interface.  dns_datagrams.c adds what an older one is not told.  What it cannot take from the
 * system's file it may still have read there. */
static int use_servers(const struct channel *channel, const struct config *config,
                       const struct servers *servers)
{
    char text[SERVERS_TEXT];

    if (servers->count == 0)
        return ARES_SUCCESS;
    servers_write(servers, ARES_VERSION >= KNOWS_ZONES || servers->zoned_count == 0, text);
    int status = ares_set_servers_ports_csv(channel->ares, text);
    return were_named(config) ? status : ARES_SUCCESS;
}

struct channel *channel_new(struct ev_loop *loop, const struct config *config,
                            const struct servers *servers, struct fault *fault)
{
    struct channel *channel = calloc(1, sizeof *channel);

    if (channel == NULL) {
        fault_set(fault, "no memory");
        return NULL;
    }
    channel->loop = loop;
    ev_init(&channel->timeout, on_timeout);
    channel->timeout.data = channel;
    int status = open_ares(channel, config, servers);
    if (status == ARES_SUCCESS)
        status = use_servers(channel, config, servers);
    if (status == ARES_SUCCESS) {
        dns_datagrams_filter(channel->ares, &channel->datagrams, servers);
        return channel;
    }
    fault_set(fault, "cannot use the name servers \"%s\": %s", servers->text,
              ares_strerror(status));
    destroy(channel);
    return NULL;
}

void channel_replace(struct channel *channel, struct channel *old)
{
    channel->older = old;
    old->newer = channel;
    end_if_finished(old);
}

void channel_free(struct channel *channel)
{
    for (struct channel *older; channel != NULL; channel = older) {
        older = channel->older;
        destroy(channel);
    }
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *answer)
{
    struct channel_question *question = arg;

    (void)timeouts;
    question->channel->questions--;
    question->channel = NULL;
    question->answered(question->owner, status, answer);
}

void channel_ask(struct channel *channel, struct channel_question *question, const char *host,
                 int family)
{
    const struct ares_addrinfo_hints hints = {
        .ai_flags = ARES_AI_NOSORT, /* sorting would connect sockets */
        .ai_family = family,
        .ai_socktype = SOCK_STREAM,
    };

    question->channel = channel;
    channel->questions++;
    ares_getaddrinfo(channel->ares, host, NULL, &hints, on_answer, question);
    rearm_timeout(channel);
}

bool channel_is_asked(const struct channel_question *question)
{
    return question->channel != NULL;
}

void channel_catch_up(const struct channel_question *question)
{
    if (question->channel != NULL)
        catch_up(question->channel);
}
