/*
 * dial.c — one dialling at a time goes through targets and addresses until one connects.
 *
 *     begin_target ──known──▶ try_address ──connect(2)──▶ on_connect ──▶ succeed
 *         │                     ▲   ▲                         │     └── tls:// ──▶ handshake.h
 *         │                     │   └─────── go_on ◀──────────┘ refused, timed out, ...
 *         └──wait──▶ on_name ───┘                 └── no target left ──▶ transport_fail
 *
 * A target that wants a PROXY header has it before the transport is open.
 * Addresses that failed lately come last.  When all have failed and the name was being asked for
 * again meanwhile, the newer answer is worth another try.
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

#include "base/clock.h"
#include "base/fault.h"
#include "config/config.h"
#include "flow/avoided.h"
#include "flow/names.h"
#include "flow/proxyproto.h"
#include "flow/reactor.h"

#define RETRY_SECONDS 0.01

struct dialer {
    struct reactor       *reactor;
    struct names         *names;
    struct dial_settings  settings;
    struct avoided        avoided;
};

struct dialling {
    struct dialer      *dialer;
    struct transport   *transport;
    struct dial_request request;
    size_t              target;        /* the next one */
    struct name_wait   *wait;          /* NULL: for no name */
    struct address     *addresses;     /* of the target under way */
    size_t              address_count;
    size_t              address;       /* the next one */
    bool                is_renewing;   /* they may be old: the name is being asked for */
    ev_io               connecting;    /* its fd is -1 while there is no socket */
    ev_timer            timer;         /* for one address, retries included */
    ev_timer            retry;         /* a full backlog, or no memory for the header */
    uint8_t            *header;        /* the PROXY header of this connection; NULL: not made */
    size_t              header_length;
    size_t              header_sent;
    bool                begun;         /* dial() has returned: the owner must be told */
    enum failure        failure;       /* of the latest attempt */
    char                why[200];
};

struct dialer *dialer_new(struct reactor *reactor, struct names *names,
                          const struct dial_settings *settings)
{
    struct dialer *dialer = xcalloc(1, sizeof *dialer);

    dialer->reactor = reactor;
    dialer->names = names;
    dialer->settings = *settings;
    return dialer;
}

void dialer_free(struct dialer *dialer)
{
    free(dialer);
}

/* --- known addresses and loops ----------------------------------------------------------- */

/* "localhost", and all names below it: they are this machine whatever a server says (RFC 6761, 6.3). */
static bool is_localhost(const char *host)
{
    static const char name[] = "localhost";
    size_t length = strlen(host);
    size_t ending = sizeof name - 1;

    length -= length > 0 && host[length - 1] == '.';
    return length >= ending && strncasecmp(host + length - ending, name, ending) == 0 &&
           (length == ending || host[length - ending - 1] == '.');
}

size_t endpoint_known_addresses(const struct endpoint *endpoint, struct address addresses[2])
{
    if (endpoint->kind == ENDPOINT_UNIX) {
        address_of_path(&addresses[0], endpoint->host);
        return 1;
    }
    if (endpoint->kind == ENDPOINT_ORIGINAL)
        return 0;
    if (is_localhost(endpoint->host)) {
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

/* EADDRNOTAVAIL says that no port is left, or that there is no address to connect from, as without
 * IPv6 (connect(2)).  In the latter case UDP cannot connect either; its ports are others. */
static bool is_out_of_reach(const struct address *address, int error)
{
    if (error != EADDRNOTAVAIL)
        return error == EAFNOSUPPORT;
    int  probe = socket(address->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool fails =
        probe >= 0 && connect(probe, &address->any, address->length) != 0 && errno == EADDRNOTAVAIL;

    if (probe >= 0)
        close(probe);
    return fails;
}

/* Connected, whatever SO_ERROR says. */
static bool has_peer(int socket)
{
    struct sockaddr_storage storage;
    socklen_t               length = sizeof storage;

    return getpeername(socket, (struct sockaddr *)&storage, &length) == 0;
}

/* TCP may connect a socket to itself when its own port was chosen as the target's. */
static bool is_connected_to_itself(int socket, const struct address *peer)
{
    struct address own;

    return peer->any.sa_family != AF_UNIX && socket_local(socket, &own) &&
           address_equal(&own, peer);
}

/* --- one dialling ------------------------------------------------------------------------ */

static void on_connect(struct ev_loop *, ev_io *, int);
static void on_timeout(struct ev_loop *, ev_timer *, int);
static void on_retry(struct ev_loop *, ev_timer *, int);
static void on_name(void *, const struct name_answer *);

static struct ev_loop *loop_of(const struct dialling *d)
{
    return reactor_loop(d->dialer->reactor);
}

static const struct endpoint *endpoint_of(const struct dialling *d)
{
    return &d->request.targets[d->target - 1].endpoint;
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
    free(d->header); /* the next connection begins with one of its own */
    d->header = NULL;
}

static void stop_timers(struct dialling *d)
{
    ev_timer_stop(loop_of(d), &d->timer);
    ev_timer_stop(loop_of(d), &d->retry);
}

static void dialling_free(struct dialling *d)
{
    drop_socket(d); /* with its header */
    stop_timers(d);
    name_wait_cancel(d->wait);
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
    snprintf(d->why, sizeof d->why, "%.*s", (int)sizeof d->why - 1, why);
}

static void remember_error(struct dialling *d, int error)
{
    remember(d, failure_of(error), strerrordesc_np(error));
}

/* What another address has said tells more than that this one is out of reach. */
static void remember_attempt(struct dialling *d, const struct address *address, int error)
{
    if (!is_out_of_reach(address, error))
        remember_error(d, error);
    else if (d->address == 1)
        remember(d, FAILURE_UNREACHABLE, "this machine has no address to reach it from");
}

/* The failure was the address's own and not this machine's: others come first for a while. */
static void avoid(struct dialling *d)
{
    if (d->failure == FAILURE_REFUSED || d->failure == FAILURE_UNREACHABLE ||
        d->failure == FAILURE_CONNECT_TIMEOUT)
        avoided_add(&d->dialer->avoided, &d->addresses[d->address - 1], clock_now());
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
        .target = &d->request.targets[d->target - 1],
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
    struct address peer = d->addresses[d->address - 1];
    int            socket = release_socket(d);

    if (is_connected_to_itself(socket, &peer)) {
        socket_reset(socket);
        remember(d, FAILURE_REFUSED, "the connection was to its own socket");
        transport_fail(d->transport, d->failure, d->why);
        conclude(d);
        return;
    }
    avoided_forget(&d->dialer->avoided, &peer);
    if (endpoint_of(d)->tls) {
        hand_over(d, socket, &peer);
        return;
    }
    transport_opened(d->transport, socket, &peer);
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

/* Either way it goes on by itself (connect(2)). */
static bool is_under_way(int error)
{
    return error == EINPROGRESS || error == EINTR;
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

/* False: d->failure says why the socket cannot have the address that it is to connect from. */
static bool bind_source(struct dialling *d, int socket, int family)
{
    const struct origin_sources sources = {
        .client = &d->request.origin.client,
        .target = &d->request.targets[d->target - 1].source,
        .all = &d->dialer->settings.source,
    };
    struct fault why;

    if (origin_bind(socket, family, &sources, &why))
        return true;
    remember(d, FAILURE_LOCAL, why.text);
    return false;
}

/* It has nothing to say before its owner does. */
static bool is_done_when_connected(const struct dialling *d)
{
    bool introduces =
        d->request.header != NULL && d->request.targets[d->target - 1].proxy != PROXY_OFF;

    return !introduces && !endpoint_of(d)->tls;
}

static void wait_until_connected(struct dialling *d)
{
    start_timeout(d);
    ev_io_start(loop_of(d), &d->connecting);
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
        remember_attempt(d, address, errno);
        return false;
    }
    tune_socket(d, fd, address->any.sa_family);
    if (!bind_source(d, fd, address->any.sa_family)) {
        close(fd);
        return false;
    }
    if (connect(fd, &address->any, address->length) != 0 && !is_under_way(errno)) {
        int error = errno;

        close(fd);
        if (error == EAGAIN && address->any.sa_family == AF_UNIX) {
            start_timeout(d);
            try_again_soon(d); /* its listener's backlog is full (unix(7)) */
            return true;
        }
        remember_attempt(d, address, error);
        avoid(d);
        return false;
    }
    ev_io_set(&d->connecting, fd, EV_WRITE);
    if (is_done_when_connected(d) && has_peer(fd))
        succeed(d); /* as on the loopback interface: no event is worth waiting for */
    else
        wait_until_connected(d);
    return true;
}

static bool was_tried(const struct dialling *d, const struct address *address)
{
    for (size_t i = 0; i < d->address_count; i++) {
        if (address_equal(&d->addresses[i], address))
            return true;
    }
    return false;
}

/* Puts the addresses behind those of the same target that have been tried; a new target has none. */
static void add_addresses(struct dialling *d, const struct address *addresses, size_t count)
{
    size_t room = d->address_count + count;
    struct address *wider = realloc(d->addresses, room * sizeof addresses[0]);
    size_t tried = d->address_count;

    if (wider == NULL) {
        remember(d, FAILURE_NO_MEMORY, "no memory");
        return;
    }
    d->addresses = wider;
    for (size_t i = 0; i < count; i++) {
        struct address address = addresses[i];
        if (endpoint_of(d)->kind == ENDPOINT_TCP)
            address_set_port(&address, endpoint_of(d)->port);
        if (!was_tried(d, &address))
            d->addresses[d->address_count++] = address;
    }
    avoided_put_last(&d->dialer->avoided, &d->addresses[tried], d->address_count - tried,
                     clock_now());
}

static void take_answer(struct dialling *d, const struct name_answer *answer)
{
    if (answer->count > 0)
        add_addresses(d, answer->addresses, answer->count);
    else
        remember(d, FAILURE_NAME, answer->why_not);
}

/* What is known of the name serves; otherwise there is a wait, or d->failure says why not. */
static void ask_name(struct dialling *d)
{
    const char *host = endpoint_of(d)->host;
    struct name_answer answer;

    if (names_know(d->dialer->names, host, &answer)) {
        d->is_renewing = answer.renewing;
        take_answer(d, &answer);
        return;
    }
    d->wait = names_wait(d->dialer->names, host, on_name, d);
    if (d->wait == NULL)
        remember(d, FAILURE_NO_MEMORY, "no memory");
}

/* All addresses have failed, but they were old: what is known now, or once the question is answered,
 * may be better. */
static void ask_again(struct dialling *d)
{
    const char *host = endpoint_of(d)->host;
    struct name_answer answer;

    d->is_renewing = false;
    if (names_know(d->dialer->names, host, &answer) && !answer.renewing) {
        if (answer.count > 0)
            add_addresses(d, answer.addresses, answer.count);
        return;
    }
    d->wait = names_wait(d->dialer->names, host, on_name, d);
}

/* "localhost" has both families, unless one of them is not wanted. */
static size_t known_addresses(const struct dialling *d, struct address known[2])
{
    size_t count = endpoint_known_addresses(endpoint_of(d), known);
    enum dns_family family = d->dialer->settings.family;

    if (count < 2 || family == DNS_ANY)
        return count;
    if (family == DNS_IPV6)
        known[0] = known[1];
    return 1;
}

/* The client came by a rule that we can look behind, or else by no address that we know. */
static void take_original(struct dialling *d)
{
    if (d->request.origin.destination.length > 0)
        add_addresses(d, &d->request.origin.destination, 1);
    else
        remember(d, FAILURE_LOCAL, "where the client was going is not known");
}

/* Numeric and local targets have their addresses at once, names are asked for. */
static void begin_target(struct dialling *d)
{
    struct address known[2];

    d->target++;
    d->address = d->address_count = 0;
    d->is_renewing = false;
    size_t count = known_addresses(d, known);
    if (endpoint_of(d)->kind == ENDPOINT_ORIGINAL)
        take_original(d);
    else if (count > 0)
        add_addresses(d, known, count);
    else
        ask_name(d);
}

/* Goes on until something is under way, or nothing is left to try. */
static void go_on(struct dialling *d)
{
    stop_timers(d);
    while (d->wait == NULL) {
        while (d->address < d->address_count) {
            if (try_address(d, &d->addresses[d->address++]))
                return;
            stop_timers(d);
        }
        if (d->is_renewing) {
            ask_again(d);
        } else if (d->target < d->request.target_count) {
            begin_target(d);
        } else {
            transport_fail(d->transport, d->failure, d->why);
            conclude(d);
            return;
        }
    }
}

/* A newer answer without addresses says nothing about those that have failed. */
static void on_name(void *owner, const struct name_answer *answer)
{
    struct dialling *d = owner;

    d->wait = NULL;
    if (answer->count > 0 || d->address_count == 0)
        take_answer(d, answer);
    go_on(d);
}

/* False: no memory. */
static bool make_header(struct dialling *d)
{
    enum proxy_version version = d->request.targets[d->target - 1].proxy;

    d->header_length = d->header_sent = 0;
    if (d->request.header == NULL || version == PROXY_OFF)
        return true;
    d->header = malloc(PROXY_HEADER_WRITTEN);
    if (d->header != NULL)
        d->header_length =
            proxy_header_write(d->header, version, d->request.header, d->request.marks);
    return d->header != NULL;
}

static enum io header_not_sent(struct dialling *d, int error)
{
    if (error == EAGAIN || error == EINTR)
        return IO_AGAIN;
    if (error == ENOBUFS || error == ENOMEM) { /* the socket is writable all the time */
        ev_io_stop(loop_of(d), &d->connecting);
        try_again_soon(d);
        return IO_AGAIN;
    }
    remember_error(d, error);
    return IO_FAILED;
}

/* Before anything else, in one piece or several.  IO_AGAIN: the rest when the socket is writable
 * again; IO_FAILED: d->failure says why. */
static enum io send_header(struct dialling *d)
{
    if (d->header == NULL && !make_header(d)) {
        remember_error(d, ENOMEM);
        return IO_FAILED;
    }
    size_t left = d->header_length - d->header_sent;
    if (left == 0)
        return IO_OK;
    ssize_t n = send(d->connecting.fd, d->header + d->header_sent, left, MSG_NOSIGNAL);
    if (n < 0)
        return header_not_sent(d, errno);
    d->header_sent += (size_t)n;
    return d->header_sent == d->header_length ? IO_OK : IO_AGAIN;
}

/* Connected: introduces the client, if the target wants that, and is done; or tries elsewhere. */
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
    } else if (!try_address(d, &d->addresses[d->address - 1])) {
        go_on(d);
    }
}

/* Writable, or failed: then SO_ERROR tells why, once (connect(2), EINPROGRESS). */
static void on_connect(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct dialling *d = watcher->data;
    int              error = 0;
    socklen_t        length = sizeof error;

    (void)loop;
    if (!(events & EV_ERROR) && has_peer(watcher->fd)) {
        go_through(d);
        return;
    }
    if (getsockopt(watcher->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
        error = errno;
    if (error == 0 && (events & EV_ERROR))
        error = ENOMEM; /* epoll_ctl(2) failed: libev has stopped the watcher */
    if (error == 0)
        error = ENOTCONN; /* nobody knows why */
    if (error == ETIMEDOUT)
        remember(d, FAILURE_CONNECT_TIMEOUT, strerrordesc_np(error));
    else
        remember_error(d, error);
    avoid(d);
    drop_socket(d);
    go_on(d);
}

static void on_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct dialling *d = timer->data;

    (void)loop;
    (void)events;
    if (d->connecting.fd >= 0 && has_peer(d->connecting.fd) && send_header(d) == IO_OK) {
        succeed(d); /* after a pause of the whole process timers ring first */
        return;
    }
    remember(d, FAILURE_CONNECT_TIMEOUT, "no answer in time");
    avoid(d);
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
    transport_keep_alive(transport);
    transport_aim(transport, &request->origin.destination);
    ev_io_init(&d->connecting, on_connect, -1, EV_WRITE);
    ev_timer_init(&d->timer, on_timeout, 0, request->timeout);
    ev_timer_init(&d->retry, on_retry, RETRY_SECONDS, 0);
    d->connecting.data = d->timer.data = d->retry.data = d;
    remember(d, FAILURE_LOCAL, "no target");
    go_on(d);
    if (transport_is_opening(transport))
        d->begun = true;
    return transport;
}
