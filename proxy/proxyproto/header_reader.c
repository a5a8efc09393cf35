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

struct welcome {
    struct transport    *transport;
    struct header_reader_terms terms;
    struct address       peer;
    ev_io                io;
    ev_timer             timer;
    size_t               length; /* bytes taken so far */
    uint8_t              bytes[PROXY_HEADER_MAX];
};

static struct ev_loop *loop_of(const struct welcome *w)
{
    return reactor_loop(w->terms.reactor);
}

static void stop_watching(struct welcome *w)
{
    ev_io_stop(loop_of(w), &w->io);
    ev_timer_stop(loop_of(w), &w->timer);
}

static void on_cancel(void *opening)
{
    struct welcome *w = opening;

    stop_watching(w);
    socket_reset(w->io.fd);
    free(w);
}

static void give_up(struct welcome *w, enum failure failure, const char *why)
{
    struct transport *transport = w->transport;

    on_cancel(w);
    transport_fail(transport, failure, why);
    transport_tell(transport);
}

/* The opening goes on with TLS. */
static void pass_on(struct welcome *w, const struct address *peer)
{
    stop_watching(w);
    if (handshake_receive(w->terms.tls, w->transport, w->io.fd, peer))
        free(w);
    else
        give_up(w, FAILURE_NO_MEMORY, "no memory");
}

static void let_in(struct welcome *w)
{
    struct transport     *transport = w->transport;
    const struct address *source = &w->terms.header->source;
    const struct address *peer = source->length > 0 ? source : &w->peer;

    if (w->terms.tls != NULL) {
        pass_on(w, peer);
        return;
    }
    stop_watching(w);
    transport_opened(transport, w->io.fd, peer);
    transport_look_again(transport); /* what follows the header may be there already */
    free(w);
    transport_tell(transport);
}

/* What the reader says of the bytes taken and those that wait behind them. */
static enum proxy_reading look(struct welcome *w, size_t waiting, size_t *ours, const char **why)
{
    size_t             used;
    enum proxy_reading reading =
        proxy_header_read(w->bytes, w->length + waiting, w->terms.header, &used, why);

    *ours = reading == PROXY_COMPLETE ? used - w->length : waiting;
    return reading;
}

/* The end, or an error, instead of a header. */
static void lose(struct welcome *w, ssize_t n, int error)
{
    if (n == 0)
        give_up(w, FAILURE_PROXY_HEADER, "the connection ended within the header");
    else
        give_up(w, failure_of(error), strerrordesc_np(error));
}

static bool is_passing(int error)
{
    return error == EAGAIN || error == EINTR;
}

/* True: it waits for more; false: it is over, and gone. */
static bool read_header(struct welcome *w)
{
    const char *why;
    size_t      ours;
    ssize_t     n = recv(w->io.fd, w->bytes + w->length, sizeof w->bytes - w->length, MSG_PEEK);

    if (n < 0 && is_passing(errno))
        return true;
    if (n <= 0) {
        lose(w, n, errno);
        return false;
    }
    enum proxy_reading reading = look(w, (size_t)n, &ours, &why);
    if (reading == PROXY_REFUSED) {
        give_up(w, FAILURE_PROXY_HEADER, why);
        return false;
    }
    n = recv(w->io.fd, w->bytes + w->length, ours, 0);
    if (n < 0 && is_passing(errno))
        return true;
    if (n <= 0) {
        lose(w, n, errno);
        return false;
    }
    w->length += (size_t)n;
    if (reading == PROXY_INCOMPLETE || (size_t)n < ours)
        return true;
    let_in(w);
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
    struct welcome *w = timer->data;

    (void)loop;
    (void)events;
    if (read_header(w))
        give_up(w, FAILURE_PROXY_HEADER, "no whole header in time");
}

struct transport *header_reader_accept(const struct header_reader_terms *terms, int socket,
                                       const struct address *peer, transport_ready *ready,
                                       void *owner)
{
    struct transport *transport = transport_opening(terms->reactor, ready, owner);
    struct welcome   *w = calloc(1, sizeof *w);

    if (transport == NULL || w == NULL) {
        transport_free(transport);
        free(w);
        socket_reset(socket);
        return NULL;
    }
    transport_hand_over(transport, on_cancel, w, peer);
    w->transport = transport;
    w->terms = *terms;
    w->peer = *peer;
    ev_io_init(&w->io, on_bytes, socket, EV_READ);
    ev_timer_init(&w->timer, on_timeout, terms->timeout, 0);
    w->io.data = w->timer.data = w;
    ev_io_start(loop_of(w), &w->io);
    ev_timer_start(loop_of(w), &w->timer);
    return transport;
}
