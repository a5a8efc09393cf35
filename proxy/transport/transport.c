/*
 * transport.c — a transport's life: opening, wake-ups, quiet and loud endings.
 *
 *     socket ──event──▶ readable / writable ──ready()──▶ owner tries everything it wants
 *                            ▲       │                   (transport_bytes.c)
 *                            └───────┴── cleared by EAGAIN and by short reads and writes
 *
 * The two bits make trying free of needless system calls.  With TLS (tls/tls.h) over the socket, a
 * read may have to wait for the socket to be writable, and the other way round: which event means
 * which bit is asked for each time.  What other wake-ups there are, transport/reactor.h says.
 */
#include "transport_inside.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "socket/origin.h"
#include "tls/tls.h"
#include "transport/reactor.h"

/* --- events and ends, which TLS turns round ---------------------------------------------- */

static int event_for_reading(const struct transport *t)
{
    return t->tls != NULL && tls_read_waits_for_room(t->tls) ? EV_WRITE : EV_READ;
}

static int event_for_writing(const struct transport *t)
{
    return t->tls != NULL && tls_write_waits_for_bytes(t->tls) ? EV_READ : EV_WRITE;
}

static enum io say_close_notify(struct transport *t)
{
    enum io io = tls_end(t->tls);

    transport_note_tls(t);
    return io;
}

/* FIN comes after close_notify; where that can never be said, closing resets.  A shutdown(2) that fails
 * leaves the error to the next call. */
static void say_end(struct transport *t)
{
    enum io io = t->tls != NULL ? say_close_notify(t) : IO_OK;

    t->end_is_due = false;
    t->is_ending = io == IO_AGAIN;
    if (io == IO_OK)
        t->fin_is_out = shutdown(t->io.fd, SHUT_WR) == 0;
    else if (io == IO_AGAIN)
        t->writable = false;
    else
        t->readable = true; /* what the peer sent before is still there */
}

static void tell_ready(struct transport *t)
{
    if (t->is_ending && t->writable)
        say_end(t);
    t->ready(t->owner);
}

/* --- what the reactor wakes -------------------------------------------------------------- */

static bool lacks_reset_watch(const struct transport *t)
{
    return t->is_paused && !t->in_resets && !t->broken;
}

/* Most connections, and most pauses, are over before it is worth a system call. */
static void await_age(struct transport *t)
{
    if (!list_holds(&t->deferred_setup) && (t->needs_keepalive || lacks_reset_watch(t)))
        reactor_await(t->reactor, &t->deferred_setup);
}

void transport_do_deferred_setup(struct link *deferred_setup)
{
    struct transport *t = LIST_MEMBER(deferred_setup, struct transport, deferred_setup);

    if (t->needs_keepalive)
        socket_keep_alive(t->io.fd, t->peer.family);
    t->needs_keepalive = false;
    if (lacks_reset_watch(t))
        t->in_resets = reactor_watch_for_reset(t->reactor, t->io.fd, t);
}

enum io transport_failed(struct transport *t, int error)
{
    t->failure = failure_of(error);
    t->error = error;
    t->broken = true;
    return IO_FAILED;
}

void transport_note_tls(struct transport *t)
{
    if (tls_waits_for_kernel_memory(t->tls))
        transport_wait_for_kernel_memory(t);
    if (!tls_has_failed(t->tls) || t->broken)
        return;
    if (tls_error(t->tls) != 0) {
        transport_failed(t, tls_error(t->tls));
        return;
    }
    t->failure = tls_is_truncated(t->tls) ? FAILURE_TLS_EOF : FAILURE_TLS;
    t->broken = true;
    free(t->why);
    t->why = strdup(tls_why(t->tls));
}

/* The error is taken here; what the peer sent before it can still be read, and ends like a FIN. */
static bool take_error(struct transport *t)
{
    int       error = 0;
    socklen_t length = sizeof error;

    if (getsockopt(t->io.fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error == 0)
        return false;
    transport_failed(t, error);
    t->readable = true;
    return true;
}

void transport_was_reset(struct transport *t)
{
    if (take_error(t))
        t->ready(t->owner);
}

void transport_wait_for_kernel_memory(struct transport *t)
{
    t->waits_for_kernel_memory = true;
    reactor_retry_enobufs(t->reactor, &t->waking);
}

void transport_retry_enobufs(struct link *waiter)
{
    struct transport *t = LIST_MEMBER(waiter, struct transport, waking);

    t->waits_for_kernel_memory = false;
    t->readable = true;
    t->writable = true;
    tell_ready(t);
}

void transport_has_more(struct link *more)
{
    struct transport *t = LIST_MEMBER(more, struct transport, waking);

    t->readable = true;
    if (event_for_writing(t) == EV_READ)
        t->writable = true;
    tell_ready(t);
}

/* --- transports -------------------------------------------------------------------------- */

/* epoll_ctl(2) failed: libev has stopped the watcher, and nothing will ever be heard of the socket. */
static void lose_watcher(struct transport *t)
{
    transport_failed(t, ENOMEM);
    t->at_end = true;
}

static void on_event(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct transport *t = watcher->data;

    (void)loop;
    if (events & EV_ERROR)
        lose_watcher(t);
    t->readable |= (events & event_for_reading(t)) != 0;
    t->writable |= (events & event_for_writing(t)) != 0;
    tell_ready(t);
}

struct transport *transport_opening(struct reactor *reactor, transport_ready *ready, void *owner)
{
    struct transport *t = calloc(1, sizeof *t);

    if (t == NULL)
        return NULL;
    t->reactor = reactor;
    t->ready = ready;
    t->owner = owner;
    ev_io_init(&t->io, on_event, -1, 0);
    t->io.data = t;
    return t;
}

struct transport *transport_accepted(struct reactor *reactor, int socket,
                                     const struct address *peer, transport_ready *ready,
                                     void *owner)
{
    struct transport *t = transport_opening(reactor, ready, owner);

    if (t == NULL) {
        socket_reset(socket);
        return NULL;
    }
    transport_opened(t, socket, peer);
    t->readable = true; /* a client that speaks first has often done so by now */
    return t;
}

void transport_keep_alive(struct transport *t)
{
    t->needs_keepalive = true;
}

static void open_with(struct transport *t, int socket)
{
    assert(t->state == TRANSPORT_OPENING);
    t->state = TRANSPORT_OPEN;
    t->deferred_setup = (struct link){ 0 };
    t->writable = true;
    ev_io_set(&t->io, socket, 0);
    if (t->ended)
        say_end(t);
}

void transport_opened(struct transport *t, int socket, const struct address *peer)
{
    peer_set(&t->peer, peer);
    open_with(t, socket);
}

void transport_hand_over(struct transport *t, opening_cancel *cancel, void *opening,
                         const struct address *peer)
{
    assert(t->state == TRANSPORT_OPENING);
    t->cancel = cancel;
    t->opening = opening;
    peer_set(&t->peer, peer);
}

void transport_aim(struct transport *t, const struct address *peer)
{
    assert(t->state == TRANSPORT_OPENING);
    peer_set(&t->peer, peer);
}

void transport_secured(struct transport *t, int socket, struct tls *tls)
{
    t->tls = tls;
    t->readable = true; /* bytes may have come along with the end of the handshake */
    open_with(t, socket);
}

void transport_fail(struct transport *t, enum failure failure, const char *why)
{
    assert(t->state == TRANSPORT_OPENING);
    t->state = TRANSPORT_CLOSED;
    t->opening = NULL;
    t->failure = failure;
    t->why = strdup(why);
}

void transport_tell(struct transport *t)
{
    t->ready(t->owner);
}

/* --- endings ----------------------------------------------------------------------------- */

void transport_end(struct transport *t)
{
    if (t->ended || t->aborted)
        return;
    t->ended = true;
    /* A plain peer that has ended too is usually closed in this turn, which says the same. */
    t->end_is_due = t->at_end && t->tls == NULL;
    if (t->state == TRANSPORT_OPEN && !t->end_is_due)
        say_end(t);
}

bool transport_is_ending(const struct transport *t)
{
    return t->is_ending && t->state == TRANSPORT_OPEN && !t->broken;
}

void transport_abort(struct transport *t)
{
    if (t->state == TRANSPORT_OPENING)
        transport_close(t);
    t->aborted = true;
}

/* Unread bytes would make the kernel reset the peer at once, and cost it what is in flight. */
static bool has_unread(const struct transport *t, int socket)
{
    int bytes = 0;

    return !t->at_end && ioctl(socket, FIONREAD, &bytes) == 0 && bytes > 0;
}

/* Takes the socket, which outlives us: the reset watch must forget us. */
static void close_later(struct transport *t, int socket)
{
    if (t->in_resets)
        reactor_forget_reset(t->reactor, socket);
    reactor_close(t->reactor, socket);
}

static void close_as_told(struct transport *t, int socket)
{
    if (t->broken || (!t->ended && !t->aborted))
        socket_reset(socket);
    else if (t->aborted || t->is_ending || has_unread(t, socket))
        close_later(t, socket);
    else
        close(socket);
}

void transport_close(struct transport *t)
{
    enum transport_state before = t->state;
    int                  socket = t->io.fd;

    t->state = TRANSPORT_CLOSED;
    switch (before) {
    case TRANSPORT_OPENING:
        if (t->cancel != NULL)
            t->cancel(t->opening);
        t->opening = NULL;
        break;
    case TRANSPORT_OPEN:
        list_remove(&t->waking);
        list_remove(&t->deferred_setup);
        ev_io_stop(reactor_loop(t->reactor), &t->io);
        t->io.fd = -1;
        tls_close(t->tls);
        close_as_told(t, socket);
        break;
    case TRANSPORT_CLOSED:
        break;
    }
}

void transport_reset(struct transport *t)
{
    t->ended = t->aborted = false;
    transport_close(t);
}

void transport_free(struct transport *t)
{
    if (t == NULL)
        return;
    transport_close(t);
    peer_forget(&t->peer);
    tls_free(t->tls);
    free(t->why);
    free(t);
}

/* Wakes the owner in a turn of its own. */
static void wake_soon(struct transport *t)
{
    if (!list_holds(&t->waking))
        reactor_turn(t->reactor, &t->waking);
}

/* Stopping a watcher takes the event back that it waits to be told, so that a lost one would be started
 * anew; but libev, which takes the socket for watched, would not even try. */
static void watch_for(struct transport *t, int events)
{
    if (events == (t->io.events & (EV_READ | EV_WRITE)) && ev_is_active(&t->io) == (events != 0))
        return;
    if (ev_clear_pending(reactor_loop(t->reactor), &t->io) & EV_ERROR) {
        lose_watcher(t);
        wake_soon(t);
        return;
    }
    ev_io_stop(reactor_loop(t->reactor), &t->io);
    ev_io_modify(&t->io, events);
    if (events != 0)
        ev_io_start(reactor_loop(t->reactor), &t->io);
}

void transport_want(struct transport *t, bool read, bool write)
{
    if (t->state != TRANSPORT_OPEN)
        return;
    if (t->end_is_due)
        say_end(t);
    read = read && !t->at_end && !t->waits_for_kernel_memory;
    write = (write || t->is_ending) && !t->broken && !t->waits_for_kernel_memory;

    t->is_paused = !read;
    await_age(t);
    watch_for(t, (read ? event_for_reading(t) : 0) | (write ? event_for_writing(t) : 0));
    if (t->tls == NULL || t->waits_for_kernel_memory || !tls_has_pending(t->tls))
        return;
    if (read || (write && tls_write_waits_for_bytes(t->tls)))
        wake_soon(t);
}

void transport_wake_at(struct transport *t, int bytes)
{
    if (t->state == TRANSPORT_OPEN && t->tls == NULL && t->peer.family != AF_UNIX)
        socket_wake_at(t->io.fd, bytes);
}

void transport_look_again(struct transport *t)
{
    t->readable = true;
    t->writable = true;
}

bool transport_is_opening(const struct transport *t)
{
    return t->state == TRANSPORT_OPENING;
}

bool transport_is_open(const struct transport *t)
{
    return t->state == TRANSPORT_OPEN;
}

bool transport_is_broken(const struct transport *t)
{
    return t->broken;
}

const struct tls *transport_tls(const struct transport *t)
{
    return t->tls;
}

enum failure transport_failure(const struct transport *t)
{
    return t->failure;
}

const char *transport_why(const struct transport *t)
{
    if (t->why != NULL)
        return t->why;
    return t->error != 0 ? strerrordesc_np(t->error) : "";
}

void transport_peer(const struct transport *t, struct address *address)
{
    peer_get(&t->peer, address);
}

void transport_destination(const struct transport *t, struct address *address)
{
    if (t->state != TRANSPORT_OPEN || !origin_destination(t->io.fd, address))
        *address = (struct address){ 0 };
}

void transport_local(const struct transport *t, struct address *address)
{
    if (t->state != TRANSPORT_OPEN || !socket_local(t->io.fd, address))
        *address = (struct address){ 0 };
}

/* With the end, which TCP counts like a byte. */
static size_t unacknowledged(const struct transport *t)
{
    return t->state == TRANSPORT_OPEN ? socket_unacknowledged(t->io.fd) : 0;
}

size_t transport_unacknowledged(const struct transport *t)
{
    size_t count = unacknowledged(t);

    return count > 0 && t->fin_is_out && t->peer.family != AF_UNIX ? count - 1 : count;
}

bool transport_is_acknowledged(const struct transport *t)
{
    return unacknowledged(t) == 0;
}

bool transport_was_reset_at_rest(const struct transport *t)
{
    return t->failure == FAILURE_RESET && t->peer.family != AF_UNIX &&
           transport_unacknowledged(t) == 0;
}
