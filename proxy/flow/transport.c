/*
 * transport.c — TCP and unix sockets as would-block bytes; wake-ups; quiet and loud endings.
 *
 *     socket ──event──▶ readable / writable ──ready()──▶ owner tries everything it wants
 *                            ▲       │
 *                            └───────┴── cleared by EAGAIN and by short reads and writes
 *
 * The two bits make trying free of needless system calls.  With TLS (flow/tls.h) over the socket, a read
 * may have to wait for the socket to be writable, and the other way round: which event means which bit
 * is asked for each time.  What other wake-ups there are, flow/reactor.h says.
 *
 * A failed write eats the socket's error, so that the next end-of-file looks like FIN; a transport
 * remembers that it is broken.
 */
#include "transport.h"

#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/list.h"
#include "flow/origin.h"
#include "flow/peer.h"
#include "flow/reactor.h"
#include "flow/tls.h"

#define SCRATCH_SIZE 65536

enum transport_state {
    TRANSPORT_OPENING,
    TRANSPORT_OPEN,
    TRANSPORT_CLOSED,
};

struct transport {
    struct reactor  *reactor;
    transport_ready *ready;
    void            *owner;
    ev_io            io;
    union {
        struct {
            opening_cancel *cancel; /* while opening */
            void           *opening;
        };
        struct link lasting; /* once open: in the reactor's list of those not old enough */
    };
    char            *why;     /* NULL: errno says it */
    struct tls      *tls;     /* NULL: plain */
    struct peer      peer;
    struct link      waking;  /* in a reactor's list: of the starved, or of those with more */
    int              error;   /* errno of the failure */
    enum failure     failure : 8;
    enum transport_state state : 4;
    bool readable : 1;        /* a read may find something */
    bool writable : 1;
    bool at_end : 1;          /* the peer's end has been read */
    bool ended : 1;           /* our end has been said, or will be */
    bool end_is_due : 1;      /* ... by the next transport_want(), or by closing */
    bool is_ending : 1;       /* close_notify waits for room */
    bool aborted : 1;
    bool broken : 1;          /* the peer reset */
    bool is_paused : 1;       /* nobody reads it */
    bool is_starved : 1;      /* asks for nothing until the reactor wakes it */
    bool in_resets : 1;       /* in the reset watch's set */
    bool needs_keepalive : 1; /* and does not have it yet */
    bool refuses_splice : 1;
};

void transport_peer(const struct transport *t, struct address *address)
{
    peer_get(&t->peer, address);
}

/* --- what the reactor wakes ---------------------------------------------------------------- */

static bool lacks_reset_watch(const struct transport *t)
{
    return t->is_paused && !t->in_resets && !t->broken;
}

/* Most connections, and most pauses, are over before it is worth a system call. */
static void await_age(struct transport *t)
{
    if (!list_holds(&t->lasting) && (t->needs_keepalive || lacks_reset_watch(t)))
        reactor_await(t->reactor, &t->lasting);
}

void transport_has_lasted(struct link *lasting)
{
    struct transport *t = LIST_MEMBER(lasting, struct transport, lasting);

    if (t->needs_keepalive)
        socket_keep_alive(t->io.fd, t->peer.family);
    t->needs_keepalive = false;
    if (lacks_reset_watch(t))
        t->in_resets = reactor_watch_for_reset(t->reactor, t->io.fd, t);
}

static enum io failed(struct transport *t, int error)
{
    t->failure = failure_of(error);
    t->error = error;
    t->broken = true;
    return IO_FAILED;
}

/* The error is taken here; what the peer sent before it can still be read, and ends like a FIN. */
static bool take_error(struct transport *t)
{
    int       error = 0;
    socklen_t length = sizeof error;

    if (getsockopt(t->io.fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error == 0)
        return false;
    failed(t, error);
    t->readable = true;
    return true;
}

void transport_was_reset(struct transport *t)
{
    if (take_error(t))
        t->ready(t->owner);
}

static void tell_ready(struct transport *t);

/* No event says that ENOBUFS is over (the socket is writable all the time): try again soon. */
static void starve(struct transport *t)
{
    t->is_starved = true;
    reactor_starve(t->reactor, &t->waking);
}

void transport_was_fed(struct link *starved)
{
    struct transport *t = LIST_MEMBER(starved, struct transport, waking);

    t->is_starved = false;
    t->readable = true;
    t->writable = true;
    tell_ready(t);
}

void transport_has_more(struct link *more)
{
    struct transport *t = LIST_MEMBER(more, struct transport, waking);

    t->readable = true;
    tell_ready(t);
}

/* --- TLS --------------------------------------------------------------------------------- */

static int event_for_reading(const struct transport *t)
{
    return t->tls != NULL && tls_read_waits_for_room(t->tls) ? EV_WRITE : EV_READ;
}

static int event_for_writing(const struct transport *t)
{
    return t->tls != NULL && tls_write_waits_for_bytes(t->tls) ? EV_READ : EV_WRITE;
}

/* Not the socket's failure, but TLS's own. */
static enum io tls_failed(struct transport *t)
{
    if (tls_error(t->tls) != 0)
        return failed(t, tls_error(t->tls));
    t->failure = tls_is_truncated(t->tls) ? FAILURE_TLS_EOF : FAILURE_TLS;
    t->broken = true;
    free(t->why);
    t->why = strdup(tls_why(t->tls));
    return IO_FAILED;
}

static void starve_with_tls(struct transport *t)
{
    if (tls_is_starved(t->tls))
        starve(t);
}

/* FIN comes after close_notify; where that can never be said, FIN alone has to do. */
static void say_end(struct transport *t)
{
    t->end_is_due = false;
    t->is_ending = t->tls != NULL && tls_end(t->tls) == IO_AGAIN;
    if (!t->is_ending) {
        shutdown(t->io.fd, SHUT_WR);
        return;
    }
    t->writable = false;
    starve_with_tls(t);
}

/* --- transports -------------------------------------------------------------------------- */

static void tell_ready(struct transport *t)
{
    if (t->is_ending && t->writable)
        say_end(t);
    t->ready(t->owner);
}

static void on_event(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct transport *t = watcher->data;

    (void)loop;
    if (events & EV_ERROR) { /* epoll_ctl(2) failed: libev has stopped the watcher */
        failed(t, ENOMEM);
        t->at_end = true;
    }
    t->readable |= (events & event_for_reading(t)) != 0;
    t->writable |= (events & event_for_writing(t)) != 0;
    tell_ready(t);
}

static struct transport *transport_new(struct reactor *reactor, transport_ready *ready, void *owner)
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

struct transport *transport_opening(struct reactor *reactor, opening_cancel *cancel, void *opening,
                                    transport_ready *ready, void *owner)
{
    struct transport *t = transport_new(reactor, ready, owner);

    if (t != NULL) {
        t->cancel = cancel;
        t->opening = opening;
    }
    return t;
}

struct transport *transport_accepted(struct reactor *reactor, int socket,
                                     const struct address *peer, transport_ready *ready,
                                     void *owner)
{
    struct transport *t = transport_new(reactor, ready, owner);

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

void transport_aim(struct transport *t, const struct address *peer)
{
    peer_set(&t->peer, peer);
}

static void open_with(struct transport *t, int socket)
{
    assert(t->state == TRANSPORT_OPENING);
    t->state = TRANSPORT_OPEN;
    t->lasting = (struct link){ 0 };
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

/* What a call answers that cannot touch the socket now; IO_OK: it can. */
static enum io may_try(const struct transport *t, bool ready)
{
    switch (t->state) {
    case TRANSPORT_OPENING:
        return IO_AGAIN;
    case TRANSPORT_CLOSED:
        return IO_FAILED;
    case TRANSPORT_OPEN:
        break;
    }
    return ready ? IO_OK : IO_AGAIN;
}

static bool is_shortage(int error)
{
    return error == ENOBUFS || error == ENOMEM;
}

/* End-of-file: of a peer that reset it is the end of what had arrived before. */
static enum io read_end(struct transport *t)
{
    t->at_end = true;
    return t->broken ? IO_FAILED : IO_END;
}

/* n is what the system call answered, most what it could have moved at best. */
static enum io read_result(struct transport *t, ssize_t n, size_t most, size_t *moved)
{
    if (n > 0) {
        *moved = (size_t)n;
        t->readable = *moved == most || t->broken;
        return IO_OK;
    }
    if (n == 0)
        return read_end(t);
    if (errno == EAGAIN && t->broken)
        return read_end(t);
    if (errno == EAGAIN || errno == EINTR) {
        t->readable = errno == EINTR;
        return IO_AGAIN;
    }
    if (is_shortage(errno)) {
        t->readable = false;
        starve(t);
        return IO_AGAIN;
    }
    t->at_end = true;
    return failed(t, errno);
}

static enum io tls_read_result(struct transport *t, enum io io)
{
    starve_with_tls(t);
    if (io == IO_AGAIN) {
        t->readable = false;
        return t->broken ? read_end(t) : IO_AGAIN;
    }
    if (io == IO_END)
        return read_end(t);
    if (io == IO_OK) {
        t->readable = !tls_is_drained(t->tls) || t->broken;
        return IO_OK;
    }
    t->at_end = true;
    return tls_failed(t);
}

static size_t total(const struct iovec *pieces, int count)
{
    size_t sum = 0;

    for (int i = 0; i < count; i++)
        sum += pieces[i].iov_len;
    return sum;
}

/* One piece is the usual case, and cheaper without a list of pieces for the kernel to copy. */
static ssize_t receive(int socket, const struct iovec *space, int count)
{
    return count == 1 ? recv(socket, space->iov_base, space->iov_len, 0)
                      : readv(socket, space, count);
}

static ssize_t send_pieces(int socket, const struct iovec *bytes, int count)
{
    return count == 1 ? send(socket, bytes->iov_base, bytes->iov_len, MSG_NOSIGNAL)
                      : writev(socket, bytes, count);
}

bool transport_may_read(const struct transport *t)
{
    return t->at_end || may_try(t, t->readable) != IO_AGAIN;
}

enum io transport_read(struct transport *t, const struct iovec *space, int count, size_t *moved)
{
    *moved = 0;
    if (t->at_end)
        return t->broken ? IO_FAILED : IO_END;
    enum io io = may_try(t, t->readable);
    if (io != IO_OK)
        return io;
    if (t->tls != NULL)
        return tls_read_result(t, tls_read(t->tls, space, count, moved));
    return read_result(t, receive(t->io.fd, space, count), total(space, count), moved);
}

enum io transport_discard(struct transport *t, size_t most, size_t *moved)
{
    static char scratch[SCRATCH_SIZE];
    ssize_t     n;

    *moved = 0;
    if (t->at_end)
        return t->broken ? IO_FAILED : IO_END;
    enum io io = may_try(t, t->readable);
    if (io != IO_OK)
        return io;
    if (t->tls != NULL)
        return tls_read_result(t, tls_discard(t->tls, most, moved));
    if (t->peer.family == AF_UNIX) { /* MSG_TRUNC without a buffer is EFAULT there */
        most = most < sizeof scratch ? most : sizeof scratch;
        n = recv(t->io.fd, scratch, most, 0);
    } else {
        n = recv(t->io.fd, NULL, most, MSG_TRUNC);
    }
    return read_result(t, n, most, moved);
}

/* n is what the system call answered, all what it was given. */
static enum io write_result(struct transport *t, ssize_t n, size_t all, size_t *moved)
{
    if (n >= 0) {
        *moved = (size_t)n;
        t->writable = *moved == all;
        return IO_OK;
    }
    if (errno == EINTR)
        return IO_AGAIN;
    if (errno == EAGAIN || is_shortage(errno)) {
        t->writable = false;
        if (errno != EAGAIN)
            starve(t);
        return IO_AGAIN;
    }
    int error = errno;
    t->readable = true; /* what the peer sent before is still there */
    return failed(t, error);
}

static enum io write_securely(struct transport *t, const struct iovec *bytes, int count,
                              size_t *moved)
{
    enum io io = tls_write(t->tls, bytes, count, moved);

    t->writable = *moved == total(bytes, count);
    starve_with_tls(t);
    if (io != IO_FAILED)
        return io;
    t->readable = true;
    return tls_failed(t);
}

enum io transport_write(struct transport *t, const struct iovec *bytes, int count, size_t *moved)
{
    *moved = 0;
    enum io io = may_try(t, t->writable);
    if (io != IO_OK)
        return io;
    if (t->tls != NULL)
        return write_securely(t, bytes, count, moved);
    return write_result(t, send_pieces(t->io.fd, bytes, count), total(bytes, count), moved);
}

/* --- splice(2) --------------------------------------------------------------------------- */

/* No such call, or a filter forbids it: that holds for every socket of this process. */
static bool splice_is_forbidden;

bool transport_can_splice(const struct transport *t)
{
    return t->tls == NULL && !t->refuses_splice && !splice_is_forbidden;
}

/* Another way has to be found, and nothing has moved. */
static bool is_refused(struct transport *t, ssize_t n)
{
    if (n >= 0 || (errno != EINVAL && errno != ENOSYS && errno != EPERM))
        return false;
    t->refuses_splice = true;
    splice_is_forbidden |= errno != EINVAL;
    return true;
}

/* splice(2) stops before an urgent byte for ever, and calls that EAGAIN or, with FIN somewhere behind
 * it, the end; read(2) steps over it. */
static bool is_at_urgent_byte(struct transport *t, ssize_t n)
{
    const int error = errno;
    int       is_there = 0;

    if (n > 0 || (n < 0 && error != EAGAIN))
        return false;
    if (ioctl(t->io.fd, SIOCATMARK, &is_there) == 0 && is_there)
        t->refuses_splice = true;
    errno = error;
    return t->refuses_splice;
}

enum io transport_splice_in(struct transport *t, int pipe, size_t most, size_t *moved)
{
    *moved = 0;
    if (t->at_end)
        return t->broken ? IO_FAILED : IO_END;
    enum io io = may_try(t, t->readable);
    if (io != IO_OK)
        return io;
    ssize_t n = splice(t->io.fd, NULL, pipe, NULL, most, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (is_refused(t, n) || is_at_urgent_byte(t, n))
        return IO_AGAIN;
    return read_result(t, n, most, moved);
}

/* Without SPLICE_F_MORE, which would hold the last bytes back for a while. */
enum io transport_splice_out(struct transport *t, int pipe, size_t bytes, size_t *moved)
{
    *moved = 0;
    enum io io = may_try(t, t->writable);
    if (io != IO_OK)
        return io;
    ssize_t n = splice(pipe, NULL, t->io.fd, NULL, bytes, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    return is_refused(t, n) ? IO_AGAIN : write_result(t, n, bytes, moved);
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
    else if (t->aborted || has_unread(t, socket))
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
        t->cancel(t->opening);
        t->opening = NULL;
        break;
    case TRANSPORT_OPEN:
        list_remove(&t->waking);
        list_remove(&t->lasting);
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

static void watch_for(struct transport *t, int events)
{
    if (events == (t->io.events & (EV_READ | EV_WRITE)) && ev_is_active(&t->io) == (events != 0))
        return;
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
    read = read && !t->at_end && !t->is_starved;
    write = (write || t->is_ending) && !t->broken && !t->is_starved;

    t->is_paused = !read;
    await_age(t);
    watch_for(t, (read ? event_for_reading(t) : 0) | (write ? event_for_writing(t) : 0));
    if (read && t->tls != NULL && tls_has_pending(t->tls) && !list_holds(&t->waking))
        reactor_turn(t->reactor, &t->waking);
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

size_t transport_unacknowledged(const struct transport *t)
{
    return t->state == TRANSPORT_OPEN ? socket_unacknowledged(t->io.fd) : 0;
}
