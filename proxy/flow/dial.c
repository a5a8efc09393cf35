/*
 * dial.c — one dialling at a time goes through targets and addresses until one connects.
 *
 *     begin_target ──known──▶ try_address ──connect(2)──▶ on_connect ──▶ succeed
 *         │   ▲ name            ▲   ▲                         │
 *         │   └── no address    │   └─────── go_on ◀──────────┘ refused, timed out, ...
 *         └──lookup──▶ on_lookup                  └── no target left ──▶ transport_fail
 *
 * The transport tells its owner only from loop callbacks: while dial() itself runs, a failure is
 * just recorded (begun is false).
 */
#include "dial.h"

#include <errno.h>
#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/page.h"
#include "config/config.h"
#include "flow/resolver.h"

struct dialer {
    struct reactor       *reactor;
    struct resolver      *resolver;
    struct dial_settings  settings;
};

struct dialling {
    struct dialer      *dialer;
    struct transport   *transport;
    struct dial_request request;
    size_t              target;        /* the next one */
    struct lookup      *lookup;        /* NULL: none under way */
    struct address     *addresses;     /* of the target under way */
    size_t              address_count;
    size_t              address;       /* the next one */
    ev_io               connecting;    /* its fd is -1 while there is no socket */
    ev_timer            timer;
    bool                begun;         /* dial() has returned: the owner must be told */
    enum failure        failure;       /* of the latest attempt */
    char                why[200];
};

struct dialer *dialer_new(struct reactor *reactor, struct resolver *resolver,
                          const struct dial_settings *settings)
{
    struct dialer *dialer = xcalloc(1, sizeof *dialer);

    dialer->reactor = reactor;
    dialer->resolver = resolver;
    dialer->settings = *settings;
    return dialer;
}

void dialer_free(struct dialer *dialer)
{
    free(dialer);
}

/* --- known addresses and loops ----------------------------------------------------------- */

size_t endpoint_known_addresses(const struct endpoint *endpoint, struct address addresses[2])
{
    if (endpoint->kind == ENDPOINT_UNIX) {
        address_of_path(&addresses[0], endpoint->host);
        return 1;
    }
    if (strcasecmp(endpoint->host, "localhost") == 0) {
        address_parse(&addresses[0], "127.0.0.1", endpoint->port);
        address_parse(&addresses[1], "::1", endpoint->port);
        return 2;
    }
    return address_parse(&addresses[0], endpoint->host, endpoint->port) ? 1 : 0;
}

/* An address is this machine's when a socket can be bound to it. */
static bool is_local(const struct address *address)
{
    struct address any_port = *address;
    int            probe = socket(address->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    address_set_port(&any_port, 0);
    if (probe < 0)
        return false;
    bool local = bind(probe, &any_port.any, any_port.length) == 0;
    close(probe);
    return local;
}

bool address_is_ours(const struct address *address, const struct address *listeners, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (address_equal(address, &listeners[i]))
            return true;
        if (address->any.sa_family == AF_UNIX || listeners[i].any.sa_family == AF_UNIX ||
            address_port(address) != address_port(&listeners[i]))
            continue;
        bool reaches = listeners[i].any.sa_family == AF_INET6 || address->any.sa_family == AF_INET;
        if (reaches && address_is_wildcard(&listeners[i]) &&
            (address_is_wildcard(address) || is_local(address)))
            return true;
        /* Connecting to the unspecified address reaches the loopback listener. */
        if (address_is_wildcard(address) && address_is_loopback(&listeners[i]))
            return true;
    }
    return false;
}

/* TCP may connect a socket to itself when its own port was chosen as the target's. */
static bool is_connected_to_itself(int socket, const struct address *peer)
{
    struct sockaddr_storage storage;
    struct address          own;
    socklen_t               length = sizeof storage;

    if (peer->any.sa_family == AF_UNIX ||
        getsockname(socket, (struct sockaddr *)&storage, &length) != 0)
        return false;
    address_set(&own, (struct sockaddr *)&storage, length);
    return address_equal(&own, peer);
}

/* --- one dialling ------------------------------------------------------------------------ */

static void on_connect(struct ev_loop *, ev_io *, int);
static void on_timeout(struct ev_loop *, ev_timer *, int);
static void on_lookup(void *, const struct address *, size_t, const char *);

static struct ev_loop *loop_of(const struct dialling *d)
{
    return reactor_loop(d->dialer->reactor);
}

/* The socket is the caller's again; -1: there was none. */
static int release_socket(struct dialling *d)
{
    int socket = d->connecting.fd;

    ev_io_stop(loop_of(d), &d->connecting);
    d->connecting.fd = -1;
    return socket;
}

static void drop_socket(struct dialling *d)
{
    int socket = release_socket(d);

    if (socket >= 0)
        close(socket);
}

static void dialling_free(struct dialling *d)
{
    drop_socket(d);
    ev_timer_stop(loop_of(d), &d->timer);
    if (d->lookup != NULL)
        lookup_cancel(d->lookup);
    free(d->addresses);
    free(d);
}

static void on_cancel(void *opening)
{
    dialling_free(opening);
}

static void remember(struct dialling *d, enum failure failure, const char *why)
{
    d->failure = failure;
    snprintf(d->why, sizeof d->why, "%s", why);
}

static void remember_error(struct dialling *d, int error)
{
    remember(d, failure_of(error), strerrordesc_np(error));
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

static void succeed(struct dialling *d)
{
    struct address peer = d->addresses[d->address - 1];
    int            socket = release_socket(d);

    if (is_connected_to_itself(socket, &peer)) {
        socket_reset(socket);
        remember(d, FAILURE_REFUSED, "the connection was to its own socket");
        transport_fail(d->transport, d->failure, d->why);
    } else {
        transport_opened(d->transport, socket, &peer);
    }
    conclude(d);
}

static void tune_socket(const struct dialling *d, int socket, int family)
{
    struct socket_settings settings = d->dialer->settings.sockets;

    if (d->request.user_timeout > 0)
        settings.user_timeout = d->request.user_timeout;
    if (d->request.send_buffer > 0)
        settings.send_buffer = (int)d->request.send_buffer;
    socket_tune(socket, family, &settings);
}

/* True: it is connected or may yet be; false: d->failure says why not. */
static bool try_address(struct dialling *d, const struct address *address)
{
    const struct dial_settings *settings = &d->dialer->settings;

    if (!settings->allow_loop &&
        address_is_ours(address, settings->listeners, settings->listener_count)) {
        remember(d, FAILURE_LOOP, "the address is one of our own listeners");
        return false;
    }
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        remember_error(d, errno);
        return false;
    }
    tune_socket(d, fd, address->any.sa_family);
    if (connect(fd, &address->any, address->length) != 0 && errno != EINPROGRESS &&
        errno != EINTR) { /* either way it goes on by itself (connect(2)) */
        remember_error(d, errno);
        close(fd);
        return false;
    }
    ev_io_set(&d->connecting, fd, EV_WRITE);
    ev_io_start(loop_of(d), &d->connecting);
    ev_timer_again(loop_of(d), &d->timer);
    return true;
}

/* Numeric and local targets have their addresses at once, names are asked for. */
static void begin_target(struct dialling *d)
{
    const struct endpoint *endpoint = &d->request.targets[d->target++].endpoint;
    struct address         known[2];

    free(d->addresses);
    d->addresses = NULL;
    d->address = 0;
    d->address_count = endpoint_known_addresses(endpoint, known);
    if (d->address_count == 0) {
        d->lookup = resolver_lookup(d->dialer->resolver, endpoint->host, on_lookup, d);
        if (d->lookup == NULL)
            remember(d, FAILURE_NO_MEMORY, "no memory");
        ev_timer_again(loop_of(d), &d->timer);
        return;
    }
    d->addresses = malloc(d->address_count * sizeof known[0]);
    if (d->addresses == NULL) {
        d->address_count = 0;
        remember(d, FAILURE_NO_MEMORY, "no memory");
        return;
    }
    memcpy(d->addresses, known, d->address_count * sizeof known[0]);
}

/* Goes on until something is under way, or nothing is left to try. */
static void go_on(struct dialling *d)
{
    for (;;) {
        while (d->address < d->address_count) {
            if (try_address(d, &d->addresses[d->address++]))
                return;
        }
        if (d->target == d->request.target_count)
            break;
        begin_target(d);
        if (d->lookup != NULL)
            return;
    }
    transport_fail(d->transport, d->failure, d->why);
    conclude(d);
}

static void on_lookup(void *owner, const struct address *addresses, size_t count,
                      const char *why_not)
{
    struct dialling *d = owner;
    enum counter     counter = count > 0 ? COUNT_DNS_OK : COUNT_DNS_FAILED;
    uint16_t         port = d->request.targets[d->target - 1].endpoint.port;

    cell_add(&d->dialer->settings.slot->counts[counter], 1);
    d->lookup = NULL;
    if (count == 0)
        remember(d, FAILURE_NAME, why_not);
    d->addresses = count > 0 ? malloc(count * sizeof addresses[0]) : NULL;
    for (size_t i = 0; d->addresses != NULL && i < count; i++) {
        d->addresses[i] = addresses[i];
        address_set_port(&d->addresses[i], port);
        d->address_count = i + 1;
    }
    go_on(d);
}

/* Writable, or failed: SO_ERROR tells which, once (connect(2), EINPROGRESS). */
static void on_connect(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct dialling *d = watcher->data;
    int              error = 0;
    socklen_t        length = sizeof error;

    (void)loop;
    (void)events;
    if (getsockopt(watcher->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
        error = errno;
    if (error == 0) {
        succeed(d);
        return;
    }
    if (error == ETIMEDOUT)
        remember(d, FAILURE_CONNECT_TIMEOUT, strerrordesc_np(error));
    else
        remember_error(d, error);
    drop_socket(d);
    go_on(d);
}

static void on_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct dialling *d = timer->data;

    (void)loop;
    (void)events;
    if (d->lookup != NULL) {
        lookup_cancel(d->lookup);
        d->lookup = NULL;
        cell_add(&d->dialer->settings.slot->counts[COUNT_DNS_FAILED], 1);
        remember(d, FAILURE_NAME, "the name was not resolved in time");
    } else {
        remember(d, FAILURE_CONNECT_TIMEOUT, "no answer in time");
    }
    drop_socket(d);
    go_on(d);
}

struct transport *dial(struct dialer *dialer, const struct dial_request *request,
                       transport_ready *ready, void *owner)
{
    struct dialling  *d = calloc(1, sizeof *d);
    struct transport *transport =
        d != NULL ? transport_opening(dialer->reactor, on_cancel, d, ready, owner) : NULL;

    if (transport == NULL) {
        free(d);
        return NULL;
    }
    d->dialer = dialer;
    d->transport = transport;
    d->request = *request;
    ev_io_init(&d->connecting, on_connect, -1, EV_WRITE);
    ev_timer_init(&d->timer, on_timeout, 0, request->timeout);
    d->connecting.data = d->timer.data = d;
    remember(d, FAILURE_LOCAL, "no target");
    go_on(d);
    if (transport_is_opening(transport))
        d->begun = true;
    return transport;
}
