/*
 * dial.c — one address after another, until one connects.
 *
 *     go_on ──addresses───▶ try_address ──connect(2)──▶ on_connect ──[PROXY header]──▶ succeed
 *       ▲ │                      │                          │                             │
 *       └─┼──────────────────────┴── refused, timed out ... ┘              tls:// ──▶ handshake.h
 *         └── none left ──▶ transport_fail
 *
 * The transport tells its owner only from loop callbacks: while dial() itself runs, a failure is
 * just recorded (begun is false).
 */
#include "dial.h"

#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "config/config.h"
#include "dial/address_iterator.h"
#include "dial/connecting.h"
#include "dial/own_listeners.h"
#include "proxyproto/header_writer.h"
#include "transport/reactor.h"

#define RETRY_SECONDS 0.01

struct dialer {
    struct reactor            *reactor;
    struct dial_settings       settings;
    struct address_iterator_settings iterator;
};

struct dialling {
    struct dialer      *dialer;
    struct transport   *transport;
    struct dial_request request;
    struct address_iterator   iterator;
    struct address      last;          /* that was tried; length 0: none yet */
    ev_io               connecting;    /* its fd is -1 while there is no socket */
    ev_timer            timer;         /* for one address, retries included */
    ev_timer            retry;         /* a full backlog, or no memory for the header */
    struct header_writer     header_writer;      /* of this connection */
    bool                begun;         /* dial() has returned: the owner must be told */
    enum failure        failure;       /* of the latest attempt */
    char                why[200];
};

struct dialer *dialer_new(struct reactor *reactor, struct dns_cache *dns_cache,
                          const struct dial_settings *settings)
{
    struct dialer *dialer = xcalloc(1, sizeof *dialer);

    dialer->reactor = reactor;
    dialer->settings = *settings;
    dialer->iterator.dns_cache = dns_cache;
    dialer->iterator.family = settings->family;
    return dialer;
}

void dialer_free(struct dialer *dialer)
{
    free(dialer);
}

/* --- one dialling ------------------------------------------------------------------------ */

static void on_connect(struct ev_loop *, ev_io *, int);
static void on_timeout(struct ev_loop *, ev_timer *, int);
static void on_retry(struct ev_loop *, ev_timer *, int);
static void go_on(struct dialling *);

static struct ev_loop *loop_of(const struct dialling *d)
{
    return reactor_loop(d->dialer->reactor);
}

static const struct target_config *target_of(const struct dialling *d)
{
    return address_iterator_target(&d->iterator);
}

static const struct endpoint *endpoint_of(const struct dialling *d)
{
    return &target_of(d)->endpoint;
}

/* The socket is the caller's again; -1: there was none. */
static int release_socket(struct dialling *d)
{
    int socket = d->connecting.fd;

    ev_io_stop(loop_of(d), &d->connecting);
    d->connecting.fd = -1;
    return socket;
}

/* The kernel may have connected it already: no FIN, which would look like a complete request. */
static void drop_socket(struct dialling *d)
{
    int socket = release_socket(d);

    if (socket >= 0)
        socket_reset(socket);
    header_writer_drop(&d->header_writer);
}

static void stop_timers(struct dialling *d)
{
    ev_timer_stop(loop_of(d), &d->timer);
    ev_timer_stop(loop_of(d), &d->retry);
}

static void dialling_free(struct dialling *d)
{
    drop_socket(d);
    stop_timers(d);
    address_iterator_end(&d->iterator);
    free(d);
}

static void on_cancel(void *opening)
{
    dialling_free(opening);
}

static void remember(struct dialling *d, enum failure failure, const char *why)
{
    d->failure = failure;
    snprintf(d->why, sizeof d->why, "%.*s", (int)sizeof d->why - 1, why);
}

static void on_failure(void *owner, enum failure failure, const char *why)
{
    remember(owner, failure, why);
}

static void remember_error(struct dialling *d, int error)
{
    remember(d, failure_of(error), strerrordesc_np(error));
}

/* What another address has said tells more than that this one is out of reach. */
static void remember_attempt(struct dialling *d, const struct connecting_failure *failure)
{
    if (!failure->is_out_of_reach || d->failure == FAILURE_NONE)
        remember(d, failure->failure, failure->why);
}

/* The failure was the address's own and not this machine's: others come first for a while. */
static void avoid(struct dialling *d)
{
    if (d->failure == FAILURE_REFUSED || d->failure == FAILURE_UNREACHABLE ||
        d->failure == FAILURE_CONNECT_TIMEOUT)
        address_iterator_back_off(&d->iterator);
}

/* The attempt under way has failed; d->failure says why. */
static void lose_attempt(struct dialling *d)
{
    avoid(d);
    drop_socket(d);
    go_on(d);
}

/* The last step, either way: the transport belongs to its owner alone from here on. */
static void conclude(struct dialling *d)
{
    struct transport *transport = d->transport;
    bool              tell = d->begun;

    dialling_free(d);
    if (tell)
        transport_tell(transport);
}

/* The transport goes on opening, without us. */
static void hand_over(struct dialling *d, int socket, const struct address *peer)
{
    struct handshake_request request = {
        .target = target_of(d),
        .hints = d->request.hints,
        .side = d->request.side,
        .timeout = d->request.timeout,
    };

    if (handshake_connect(d->dialer->settings.handshakes, &request, d->transport, socket, peer)) {
        dialling_free(d);
        return;
    }
    socket_reset(socket);
    transport_fail(d->transport, FAILURE_NO_MEMORY, "no memory");
    conclude(d);
}

static void succeed(struct dialling *d)
{
    struct address peer = *address_iterator_address(&d->iterator);

    if (socket_is_its_own_peer(d->connecting.fd, &peer)) {
        remember(d, FAILURE_REFUSED, "the connection was to its own socket");
        lose_attempt(d);
        return;
    }
    int socket = release_socket(d);
    address_iterator_mark_reachable(&d->iterator);
    if (endpoint_of(d)->tls) {
        hand_over(d, socket, &peer);
        return;
    }
    transport_opened(d->transport, socket, &peer);
    conclude(d);
}

static void start_timeout(struct dialling *d)
{
    if (!ev_is_active(&d->timer))
        ev_timer_again(loop_of(d), &d->timer);
}

/* No event will say when. */
static void try_again_soon(struct dialling *d)
{
    ev_timer_stop(loop_of(d), &d->retry);
    ev_timer_set(&d->retry, RETRY_SECONDS, 0);
    ev_timer_start(loop_of(d), &d->retry);
}

/* It has nothing to say before its owner does. */
static bool is_done_when_connected(const struct dialling *d)
{
    bool sends_header = d->request.header != NULL && target_of(d)->proxy != PROXY_OFF;

    return !sends_header && !endpoint_of(d)->tls;
}

static void wait_until_connected(struct dialling *d)
{
    start_timeout(d);
    ev_io_start(loop_of(d), &d->connecting);
}

static bool leads_back(const struct dialling *d, const struct address *address)
{
    const struct dial_settings *settings = &d->dialer->settings;

    return !settings->allow_loop &&
           address_is_own_listener(address, settings->listeners, settings->listener_count);
}

static struct connecting_terms terms_of(const struct dialling *d)
{
    const struct dial_request *request = &d->request;
    struct connecting_terms terms = {
        .from = {
            .client = &request->origin.client,
            .target = &target_of(d)->source,
            .all = &d->dialer->settings.source,
        },
        .settings = d->dialer->settings.sockets,
    };

    if (request->user_timeout > 0)
        terms.settings.user_timeout = request->user_timeout;
    if (request->send_buffer > 0)
        terms.settings.send_buffer = (int)request->send_buffer;
    return terms;
}

/* It is connected already, as on the loopback interface, or it is under way. */
static void take_socket(struct dialling *d, int socket)
{
    ev_io_set(&d->connecting, socket, EV_WRITE);
    if (is_done_when_connected(d) && socket_is_connected(socket))
        succeed(d); /* no event is worth waiting for */
    else
        wait_until_connected(d);
}

/* True: it is connected or may yet be; false: d->failure says why not. */
static bool try_address(struct dialling *d)
{
    const struct address *address = address_iterator_address(&d->iterator);
    struct connecting_failure failure;
    int socket;

    d->last = *address;
    if (leads_back(d, address)) {
        remember(d, FAILURE_LOOP, "the address is one of our own listeners");
        return false;
    }
    const struct connecting_terms terms = terms_of(d);
    enum connecting result = connecting_start(&socket, address, &terms, &failure);
    if (result == CONNECTING_STARTED) {
        take_socket(d, socket);
        return true;
    }
    if (result == CONNECTING_BACKLOG_FULL) {
        start_timeout(d);
        try_again_soon(d);
        return true;
    }
    remember_attempt(d, &failure);
    if (result == CONNECTING_FAILED)
        avoid(d);
    return false;
}

/* Goes on until something is under way, or nothing is left to try. */
static void go_on(struct dialling *d)
{
    stop_timers(d);
    for (;;) {
        switch (address_iterator_next(&d->iterator)) {
        case NEXT_ADDRESS_FOUND:
            if (try_address(d))
                return;
            break;
        case NEXT_ADDRESS_AWAITED:
            return;
        case NEXT_ADDRESS_NONE: /* and each has said why, of one target at least */
            assert(d->failure != FAILURE_NONE);
            transport_aim(d->transport, &d->last);
            transport_fail(d->transport, d->failure, d->why);
            conclude(d);
            return;
        }
    }
}

static void on_more(void *owner)
{
    go_on(owner);
}

/* Before anything else.  IO_AGAIN: the rest when the socket is writable again; IO_FAILED: d->failure
 * says why. */
static enum io send_header(struct dialling *d)
{
    enum io io = header_writer_send(&d->header_writer, d->connecting.fd, target_of(d)->proxy,
                                    d->request.header, d->request.marks);

    if (io == IO_FAILED)
        remember_error(d, d->header_writer.error);
    if (io == IO_AGAIN &&
        d->header_writer.waits_for_kernel_memory) { /* the socket is writable all the time */
        ev_io_stop(loop_of(d), &d->connecting);
        try_again_soon(d);
    }
    return io;
}

/* Connected: sends the PROXY header, if the target wants one, and is done; or tries elsewhere. */
static void go_through(struct dialling *d)
{
    switch (send_header(d)) {
    case IO_OK:
        succeed(d);
        return;
    case IO_AGAIN:
        return;
    case IO_END:
    case IO_FAILED:
        drop_socket(d);
        go_on(d);
        return;
    }
}

static void on_retry(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct dialling *d = timer->data;

    (void)events;
    if (d->connecting.fd >= 0) {
        ev_io_start(loop, &d->connecting);
        go_through(d);
    } else if (!try_address(d)) {
        go_on(d);
    }
}

/* Why it is not connected, if the kernel knows: d->failure says it.  False: it does not know (yet). */
static bool remember_connect_failure(struct dialling *d)
{
    struct connecting_failure failure;

    if (!connecting_failed(d->connecting.fd, &failure))
        return false;
    remember(d, failure.failure, failure.why);
    return true;
}

/* The socket is writable, or it has failed. */
static void on_connect(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct dialling *d = watcher->data;

    (void)loop;
    if (!(events & EV_ERROR) && socket_is_connected(watcher->fd)) {
        go_through(d);
        return;
    }
    /* Without a reason: epoll_ctl(2) failed and libev has stopped the watcher, or nobody knows. */
    if (!remember_connect_failure(d))
        remember_error(d, events & EV_ERROR ? ENOMEM : ENOTCONN);
    lose_attempt(d);
}

/* What the socket has come to by now, as send_header() says it; IO_AGAIN while it connects, too. */
static enum io proceed(struct dialling *d)
{
    if (d->connecting.fd < 0)
        return IO_AGAIN;
    if (socket_is_connected(d->connecting.fd))
        return send_header(d);
    return remember_connect_failure(d) ? IO_FAILED : IO_AGAIN;
}

/* After a pause of the whole process timers ring first: what has happened meanwhile counts. */
static void on_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct dialling *d = timer->data;
    enum io          io = proceed(d);

    (void)loop;
    (void)events;
    if (io == IO_OK) {
        succeed(d);
        return;
    }
    if (io == IO_AGAIN)
        remember(d, FAILURE_CONNECT_TIMEOUT, "no answer in time");
    lose_attempt(d);
}

static void start_address_iterator(struct dialling *d)
{
    const struct address_iterator_terms terms = {
        .settings = &d->dialer->iterator,
        .targets = d->request.targets,
        .target_count = d->request.target_count,
        .original = &d->request.origin.destination,
        .on_failure = on_failure,
        .on_more = on_more,
        .owner = d,
    };

    address_iterator_start(&d->iterator, &terms);
}

struct transport *dial(struct dialer *dialer, const struct dial_request *request,
                       transport_ready *ready, void *owner)
{
    /* First what lasts: of what does not, no hole stays between the sessions. */
    struct transport *transport = transport_opening(dialer->reactor, ready, owner);
    struct dialling  *d = calloc(1, sizeof *d);

    if (transport == NULL || d == NULL) {
        transport_free(transport);
        free(d);
        return NULL;
    }
    d->dialer = dialer;
    d->transport = transport;
    d->request = *request;
    start_address_iterator(d);
    transport_keep_alive(transport);
    transport_hand_over(transport, on_cancel, d, &request->origin.destination);
    ev_io_init(&d->connecting, on_connect, -1, EV_WRITE);
    ev_timer_init(&d->timer, on_timeout, 0, request->timeout);
    ev_timer_init(&d->retry, on_retry, RETRY_SECONDS, 0);
    d->connecting.data = d->timer.data = d->retry.data = d;
    go_on(d);
    if (transport_is_opening(transport))
        d->begun = true;
    return transport;
}
