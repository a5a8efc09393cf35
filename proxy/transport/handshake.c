/*
 * handshake.c — one watcher and its timers around tls_handshake().
 *
 *     client ──▶ waits for its turn ──┐
 *                                     ▼
 *     begin ──▶ on_event ──IO_AGAIN──▶ wait for what TLS needs ──▶ on_event ...
 *                  ├──IO_OK──▶ transport_secured
 *                  └──IO_FAILED, on_timeout──▶ transport_fail; the alert still arrives
 */
#include "handshake.h"

#include <assert.h>
#include <ev.h>
#include <malloc.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/list.h"
#include "base/log.h"
#include "config/config.h"
#include "shared/page.h"
#include "tls/tls_contexts.h"
#include "transport/reactor.h"
#include "transport/turns.h"

#define AT_ONCE         0.0  /* after the other sockets have had their turn */
#define ENOBUFS_RETRY_SECONDS 0.01 /* between two tries when the kernel has no memory */
#define PATIENCE        1.0  /* seconds; of many handshakes one is over by then */
#define BURST           64   /* handshakes: what fewer leave behind is not worth the search */

struct handshakes {
    struct handshake_settings settings;
    struct turns             *turns;        /* of clients */
    size_t                    ended;        /* since memory was last given back */
    size_t                    ended_before; /* of those, at the last look */
};

enum result {
    RESULT_FULL,
    RESULT_WAS_RESUMED,
    RESULT_FAILED,
    RESULT_TIMEOUT,
};
#define RESULTS 4

struct handshake {
    struct handshakes *all;
    struct transport  *transport;
    struct tls        *tls;     /* NULL: it has not begun */
    struct turn        turn;    /* of a client */
    const struct target_config *target; /* NULL: a client */
    ev_io              io;
    ev_timer           timer;
    ev_timer           retry;   /* when no event will come: see go_on() */
    enum tls_side      side;
};

struct handshakes *handshakes_new(const struct handshake_settings *settings)
{
    struct handshakes *all = xcalloc(1, sizeof *all);

    all->settings = *settings;
    all->turns = turns_new(settings->max);
    tls_contexts_count_truncations(settings->contexts, &settings->slot->counts[COUNT_TLS_EOF]);
    return all;
}

void handshakes_free(struct handshakes *all)
{
    turns_free(all->turns);
    free(all);
}

/* A burst leaves holes of 17 KiB between the sessions that came of it.  While handshakes go on, the
 * next one fills them. */
void handshakes_tidy(struct handshakes *all)
{
    bool is_quiet = all->ended == all->ended_before;

    all->ended_before = all->ended;
    if (!is_quiet || all->ended < BURST)
        return;
    all->ended = all->ended_before = 0;
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

/* The rows of stats.h stand in the order of sides and results. */
static void count(const struct handshake *h, enum result result)
{
    _Static_assert(COUNT_TLS_SHADOW_TIMEOUT == COUNT_TLS_CLIENT_OK + RESULTS * 3 - 1,
                   "their order");
    cell_add(&h->all->settings.slot->counts[COUNT_TLS_CLIENT_OK + RESULTS * h->side + result], 1);
}

static void count_kernel(const struct handshake *h)
{
    _Atomic uint64_t *counts = h->all->settings.slot->counts;

    switch (tls_facts(h->tls)->in_kernel) {
    case IN_KERNEL_UNASKED:
        break;
    case IN_KERNEL_OFF:
        cell_add(&counts[COUNT_KTLS_OFF], 1);
        break;
    case IN_KERNEL_ON:
        cell_add(&counts[COUNT_KTLS_ON], 1);
        break;
    }
}

/* --- one handshake ----------------------------------------------------------------------- */

static struct ev_loop *loop_of(const struct handshake *h)
{
    return reactor_loop(h->all->settings.reactor);
}

static void begin(struct handshake *h)
{
    h->tls = tls_accept(h->all->settings.contexts, h->io.fd);
    ev_timer_again(loop_of(h), &h->timer); /* its time begins now */
    if (h->tls != NULL)
        ev_io_start(loop_of(h), &h->io);
    else
        ev_feed_event(loop_of(h), &h->io, EV_ERROR); /* fails in a turn of its own */
}

static void begin_next(struct handshakes *all)
{
    double       now = clock_now();
    struct turn *next = turns_next(all->turns, now);

    for (; next != NULL; next = turns_next(all->turns, now))
        begin(LIST_MEMBER(next, struct handshake, turn));
}

/* Neither the socket nor the TLS over it. */
static void handshake_free(struct handshake *h)
{
    struct handshakes *all = h->all;

    ev_io_stop(loop_of(h), &h->io);
    ev_timer_stop(loop_of(h), &h->timer);
    ev_timer_stop(loop_of(h), &h->retry);
    turns_leave(all->turns, &h->turn);
    free(h);
    all->ended++;
    begin_next(all);
}

static void on_cancel(void *opening)
{
    struct handshake *h = opening;
    int               socket = h->io.fd;

    count(h, RESULT_FAILED);
    tls_free(h->tls);
    handshake_free(h);
    socket_reset(socket);
}

/* The client's bytes go to the target all the same: it may understand them. */
static void warn_of_protocol(const struct handshake *h)
{
    const char *promised = h->target != NULL ? tls_broken_promise(h->tls) : NULL;
    const char *agreed = tls_facts(h->tls)->protocol;

    if (promised != NULL)
        log_warning("tls", "protocol_not_agreed", "target=%s promised=%s agreed=%s why=%s",
                    h->target->name, promised, agreed != NULL ? agreed : "none",
                    "by ALPN the client was promised a protocol to which this target has not "
                    "agreed; promise only what all targets speak (--tls-alpn), or correct its "
                    "alpn=");
}

static void succeed(struct handshake *h)
{
    struct transport *transport = h->transport;
    int               socket = h->io.fd;

    count(h, tls_facts(h->tls)->was_resumed ? RESULT_WAS_RESUMED : RESULT_FULL);
    count_kernel(h);
    warn_of_protocol(h);
    ev_io_stop(loop_of(h), &h->io); /* before the transport watches the same socket */
    transport_secured(transport, socket, h->tls);
    handshake_free(h);
    transport_tell(transport);
}

static void fail(struct handshake *h, enum result result, const char *why)
{
    struct transport *transport = h->transport;
    struct reactor   *reactor = h->all->settings.reactor;
    int               socket = h->io.fd;

    count(h, result);
    transport_fail(transport, FAILURE_TLS, why);
    tls_free(h->tls);
    handshake_free(h);
    reactor_let_go(reactor, socket);
    transport_tell(transport);
}

static void give_up(struct handshake *h, enum failure failure, const char *why)
{
    struct transport *transport = h->transport;

    transport_fail(transport, failure, why);
    on_cancel(h);
    transport_tell(transport);
}

bool handshakes_shed(struct handshakes *all)
{
    struct turn *stuck = turns_stuck(all->turns, clock_now() - PATIENCE);

    if (stuck == NULL)
        return false;
    give_up(LIST_MEMBER(stuck, struct handshake, turn), FAILURE_TLS,
            "too many of its address wait for a handshake");
    return true;
}

static void wait_for(struct handshake *h, int events)
{
    if (events == (h->io.events & (EV_READ | EV_WRITE)))
        return;
    ev_io_stop(loop_of(h), &h->io);
    ev_io_modify(&h->io, events);
    ev_io_start(loop_of(h), &h->io);
}

static void retry_in(struct handshake *h, double seconds)
{
    ev_timer_stop(loop_of(h), &h->retry);
    ev_timer_set(&h->retry, seconds, 0);
    ev_timer_start(loop_of(h), &h->retry);
}

/* It is not over.  No event says when the kernel has memory again, for the socket is ready all the
 * time; nor does one tell of bytes that were received and are left for the next turn. */
static void go_on(struct handshake *h)
{
    if (tls_waits_for_kernel_memory(h->tls)) {
        ev_io_stop(loop_of(h), &h->io);
        retry_in(h, ENOBUFS_RETRY_SECONDS);
        return;
    }
    wait_for(h, tls_read_waits_for_room(h->tls) ? EV_WRITE : EV_READ);
    if (tls_has_pending(h->tls))
        retry_in(h, AT_ONCE);
}

/* True: it goes on; false: it is over, and gone. */
static bool shake(struct handshake *h)
{
    switch (tls_handshake(h->tls)) {
    case IO_OK:
        succeed(h);
        return false;
    case IO_AGAIN:
        go_on(h);
        return true;
    case IO_END:
    case IO_FAILED:
        break;
    }
    fail(h, RESULT_FAILED, tls_why(h->tls));
    return false;
}

static void on_event(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct handshake *h = watcher->data;

    (void)loop;
    if (events & EV_ERROR) /* epoll_ctl(2) failed: libev has stopped the watcher */
        give_up(h, FAILURE_NO_MEMORY, "no memory");
    else
        shake(h);
}

static void on_retry(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct handshake *h = timer->data;

    (void)events;
    ev_io_start(loop, &h->io);
    shake(h);
}

/* After a pause of the whole process timers ring first: what has come meanwhile counts. */
static void on_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct handshake *h = timer->data;

    (void)loop;
    (void)events;
    if (h->tls == NULL)
        fail(h, RESULT_TIMEOUT, "others took too long with their handshakes");
    else if (shake(h))
        fail(h, RESULT_TIMEOUT, "the handshake took too long");
}

/* events: what the first step waits for. */
static void prepare(struct handshake *h, int socket, int events, double timeout)
{
    ev_io_init(&h->io, on_event, socket, events);
    ev_timer_init(&h->timer, on_timeout, 0, timeout);
    ev_timer_init(&h->retry, on_retry, ENOBUFS_RETRY_SECONDS, 0);
    h->io.data = h->timer.data = h->retry.data = h;
    ev_timer_again(loop_of(h), &h->timer);
}

bool handshake_receive(struct handshakes *all, struct transport *transport, int socket,
                       const struct address *peer)
{
    struct handshake *h = calloc(1, sizeof *h);

    if (h == NULL || !turns_enter(all->turns, &h->turn, peer, clock_now())) {
        free(h);
        return false;
    }
    h->all = all;
    h->transport = transport;
    h->side = TLS_CLIENT;
    transport_hand_over(transport, on_cancel, h, peer);
    prepare(h, socket, EV_READ, all->settings.timeout);
    begin_next(all);
    return true;
}

struct transport *handshake_accept(struct handshakes *all, int socket, const struct address *peer,
                                   transport_ready *ready, void *owner)
{
    struct transport *transport = transport_opening(all->settings.reactor, ready, owner);

    if (transport != NULL && handshake_receive(all, transport, socket, peer))
        return transport;
    transport_free(transport);
    socket_reset(socket);
    return NULL;
}

bool handshake_connect(struct handshakes *all, const struct handshake_request *request,
                       struct transport *transport, int socket, const struct address *peer)
{
    struct handshake *h = calloc(1, sizeof *h);
    struct tls *tls = tls_connect(all->settings.contexts, request->target, &request->hints, socket);

    assert(request->side != TLS_CLIENT);
    if (h == NULL || tls == NULL) {
        tls_free(tls);
        free(h);
        return false;
    }
    *h = (struct handshake){ .all = all,
                             .transport = transport,
                             .tls = tls,
                             .target = request->target,
                             .side = request->side };
    transport_hand_over(transport, on_cancel, h, peer);
    prepare(h, socket, EV_WRITE, request->timeout);
    ev_io_start(loop_of(h), &h->io);
    return true;
}
