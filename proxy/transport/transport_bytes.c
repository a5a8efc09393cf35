/*
 * transport_bytes.c — bytes into and out of an open transport: plain, through TLS, or spliced.
 *
 *     read, discard, splice_in ──▶ read_result ──▶ IO_OK, IO_AGAIN (not readable), IO_END, IO_FAILED
 *     write, splice_out ─────────▶ write_result ─▶ IO_OK, IO_AGAIN (not writable), IO_FAILED
 *
 * A failed write eats the socket's error, so that the next end-of-file looks like FIN; a transport
 * remembers that it is broken.
 */
#include "transport_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tls/tls.h"

#define SCRATCH_SIZE 65536

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

/* End-of-file: of a peer that reset it is the end of what had arrived before. */
static enum io read_end(struct transport *t)
{
    t->at_end = true;
    return t->broken ? IO_FAILED : IO_END;
}

/* n is what the system call answered, most what it could have moved at best. */
static enum io read_result(struct transport *t, ssize_t n, size_t max, size_t *moved)
{
    if (n > 0) {
        *moved = (size_t)n;
        t->readable = *moved == max || t->broken;
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
    if (error_is_shortage(errno)) {
        t->readable = false;
        transport_wait_for_kernel_memory(t);
        return IO_AGAIN;
    }
    t->at_end = true;
    return transport_failed(t, errno);
}

static enum io tls_read_result(struct transport *t, enum io io)
{
    transport_note_tls(t);
    switch (io) {
    case IO_OK:
        t->readable = !tls_is_drained(t->tls) || t->broken;
        return IO_OK;
    case IO_AGAIN:
        t->readable = false;
        return t->broken && tls_is_drained(t->tls) ? read_end(t) : IO_AGAIN;
    case IO_END:
        return read_end(t);
    case IO_FAILED:
        break;
    }
    t->at_end = true;
    return IO_FAILED;
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

/* IO_OK: the socket is to be asked; else what the call answers without it. */
static enum io may_take(const struct transport *t)
{
    if (t->at_end)
        return t->broken ? IO_FAILED : IO_END;
    return may_try(t, t->readable);
}

bool transport_may_read(const struct transport *t)
{
    return may_take(t) != IO_AGAIN;
}

enum io transport_read(struct transport *t, const struct iovec *space, int count, size_t *moved)
{
    *moved = 0;
    enum io io = may_take(t);
    if (io != IO_OK)
        return io;
    if (t->tls != NULL)
        return tls_read_result(t, tls_read(t->tls, space, count, moved));
    return read_result(t, receive(t->io.fd, space, count), total(space, count), moved);
}

enum io transport_discard(struct transport *t, size_t max, size_t *moved)
{
    static char scratch[SCRATCH_SIZE];
    ssize_t     n;

    *moved = 0;
    enum io io = may_take(t);
    if (io != IO_OK)
        return io;
    if (t->tls != NULL)
        return tls_read_result(t, tls_discard(t->tls, max, moved));
    if (t->peer.family == AF_UNIX) { /* MSG_TRUNC without a buffer is EFAULT there */
        max = max < sizeof scratch ? max : sizeof scratch;
        n = recv(t->io.fd, scratch, max, 0);
    } else {
        n = recv(t->io.fd, NULL, max, MSG_TRUNC);
    }
    return read_result(t, n, max, moved);
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
    if (errno == EAGAIN || error_is_shortage(errno)) {
        t->writable = false;
        if (errno != EAGAIN)
            transport_wait_for_kernel_memory(t);
        return IO_AGAIN;
    }
    int error = errno;
    t->readable = true; /* what the peer sent before is still there */
    return transport_failed(t, error);
}

static enum io write_securely(struct transport *t, const struct iovec *bytes, int count,
                              size_t *moved)
{
    enum io io = tls_write(t->tls, bytes, count, moved);

    t->writable = *moved == total(bytes, count);
    transport_note_tls(t);
    if (io == IO_FAILED)
        t->readable = true;
    return io;
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

enum io transport_splice_in(struct transport *t, int pipe, size_t max, size_t *moved)
{
    *moved = 0;
    enum io io = may_take(t);
    if (io != IO_OK)
        return io;
    ssize_t n = splice(t->io.fd, NULL, pipe, NULL, max, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (is_refused(t, n) || is_at_urgent_byte(t, n))
        return IO_AGAIN;
    return read_result(t, n, max, moved);
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
