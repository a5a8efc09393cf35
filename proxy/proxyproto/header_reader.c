/*
 * header_reader.c — reads a PROXY header and not one byte more.
 *
 *     socket ──MSG_PEEK──▶ what has come ──reader──▶ how much of it is header ──recv──▶ header
 *                                                     the rest stays for the stream
 *
 * What belongs to the header is taken at once, so that a header that comes in pieces does not keep
 * the socket readable.
 */
#include "header_reader.h"

#include <errno.h>
#include <ev.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "proxyproto/proxyproto.h"
#include "transport/handshake.h"
#include "transport/reactor.h"

struct header_reader {
    struct transport    *transport;
    struct header_reader_terms terms;
    struct address       peer;
    ev_io                io;
    ev_timer             timer;
    size_t               length; /* bytes taken so far */
    uint8_t              bytes[PROXY_HEADER_MAX];
};

static struct ev_loop *loop_of(const struct header_reader *r)
{
    return reactor_loop(r->terms.reactor);
}

static void stop_watching(struct header_reader *r)
{
    ev_io_stop(loop_of(r), &r->io);
    ev_timer_stop(loop_of(r), &r->timer);
}

static void on_cancel(void *opening)
{
    struct header_reader *r = opening;

    stop_watching(r);
    socket_reset(r->io.fd);
    free(r);
}

static void give_up(struct header_reader *r, enum failure failure, const char *why)
{
    struct transport *transport = r->transport;

    on_cancel(r);
    transport_fail(transport, failure, why);
    transport_tell(transport);
}

/* The opening goes on with TLS. */
static void pass_on(struct header_reader *r, const struct address *peer)
{
    stop_watching(r);
    if (handshake_receive(r->terms.tls, r->transport, r->io.fd, peer))
        free(r);
    else
        give_up(r, FAILURE_NO_MEMORY, "no memory");
}

static void let_in(struct header_reader *r)
{
    struct transport     *transport = r->transport;
    const struct address *source = &r->terms.header->source;
    const struct address *peer = source->length > 0 ? source : &r->peer;

    if (r->terms.tls != NULL) {
        pass_on(r, peer);
        return;
    }
    stop_watching(r);
    transport_opened(transport, r->io.fd, peer);
    transport_look_again(transport); /* what follows the header may be there already */
    free(r);
    transport_tell(transport);
}

/* What the reader says of the bytes taken and those that wait behind them. */
static enum proxy_reading look(struct header_reader *r, size_t waiting, size_t *ours,
                               const char **why)
{
    size_t             used;
    enum proxy_reading reading =
        proxy_header_read(r->bytes, r->length + waiting, r->terms.header, &used, why);

    *ours = reading == PROXY_COMPLETE ? used - r->length : waiting;
    return reading;
}

/* The end, or an error, instead of a header. */
static void lose(struct header_reader *r, ssize_t n, int error)
{
    if (n == 0)
        give_up(r, FAILURE_PROXY_HEADER, "the connection ended within the header");
    else
        give_up(r, failure_of(error), strerrordesc_np(error));
}

static bool is_passing(int error)
{
    return error == EAGAIN || error == EINTR;
}

/* True: it waits for more; false: it is over, and gone. */
static bool read_header(struct header_reader *r)
{
    const char *why;
    size_t      ours;
    ssize_t     n = recv(r->io.fd, r->bytes + r->length, sizeof r->bytes - r->length, MSG_PEEK);

    if (n < 0 && is_passing(errno))
        return true;
    if (n <= 0) {
        lose(r, n, errno);
        return false;
    }
    enum proxy_reading reading = look(r, (size_t)n, &ours, &why);
    if (reading == PROXY_REFUSED) {
        give_up(r, FAILURE_PROXY_HEADER, why);
        return false;
    }
    n = recv(r->io.fd, r->bytes + r->length, ours, 0);
    if (n < 0 && is_passing(errno))
        return true;
    if (n <= 0) {
        lose(r, n, errno);
        return false;
    }
    r->length += (size_t)n;
    if (reading == PROXY_INCOMPLETE || (size_t)n < ours)
        return true;
    let_in(r);
    return false;
}

static void on_bytes(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    if (events & EV_ERROR) /* epoll_ctl(2) failed: libev has stopped the watcher */
        give_up(watcher->data, FAILURE_NO_MEMORY, "no memory");
    else
        read_header(watcher->data);
}

/* After a pause of the whole process timers ring first: what has come meanwhile counts. */
static void on_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct header_reader *r = timer->data;

    (void)loop;
    (void)events;
    if (read_header(r))
        give_up(r, FAILURE_PROXY_HEADER, "no whole header in time");
}

struct transport *header_reader_accept(const struct header_reader_terms *terms, int socket,
                                       const struct address *peer, transport_ready *ready,
                                       void *owner)
{
    struct transport *transport = transport_opening(terms->reactor, ready, owner);
    struct header_reader *r = calloc(1, sizeof *r);

    if (transport == NULL || r == NULL) {
        transport_free(transport);
        free(r);
        socket_reset(socket);
        return NULL;
    }
    transport_hand_over(transport, on_cancel, r, peer);
    r->transport = transport;
    r->terms = *terms;
    r->peer = *peer;
    ev_io_init(&r->io, on_bytes, socket, EV_READ);
    ev_timer_init(&r->timer, on_timeout, terms->timeout, 0);
    r->io.data = r->timer.data = r;
    ev_io_start(loop_of(r), &r->io);
    ev_timer_start(loop_of(r), &r->timer);
    return transport;
}
