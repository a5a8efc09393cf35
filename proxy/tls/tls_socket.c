/*
 * tls_socket.c — a BIO that receives more than it is asked for, and knows when there is no more, or when
 * it is enough for one turn.
 *
 *     asked for:  header │ body      │ header │ ...           OpenSSL's own would make a call of each,
 *     received:   ────── recv ────── │ (empty: not asked)     and one more to hear EAGAIN
 *
 * A small record comes whole into the scratch; of a long one all but its beginning goes straight to
 * where OpenSSL wants it, and the beginning of the next comes along.  A short receive has emptied the
 * socket: that is believed once, and within one operation only, since more may come at any time.
 *
 * OpenSSL takes ENOBUFS and ENOMEM for the end of the connection; whether a call is to be tried again is
 * said by the flags of the BIO (BIO_should_retry(3)).
 */
#include "tls_socket.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "socket/socket.h"

#define AHEAD      4096 /* copying more costs what the call saves */
#define READS_MAX 256  /* in one operation: OpenSSL needs two for a record */

static char scratch[AHEAD];

/* --- the BIO ------------------------------------------------------------------------------- */

/* The operation may go on reading. */
static bool may_read(struct tls_socket *socket)
{
    if (socket->reads_left == 0 || socket->bytes_left == 0) {
        socket->is_cut = true;
        return false;
    }
    socket->reads_left--;
    return true;
}

static void note_bytes(struct tls_socket *socket, size_t moved)
{
    socket->bytes_left -= moved < socket->bytes_left ? moved : socket->bytes_left;
}

static int delay_reading(struct tls_socket *socket, BIO *bio)
{
    socket->is_delayed = true;
    BIO_set_retry_read(bio);
    return -1;
}

/* A call has failed; true: it is worth trying again. */
static bool may_pass(struct tls_socket *socket, int error)
{
    if (error_is_shortage(error))
        socket->waits_for_kernel_memory = true;
    if (error == EAGAIN || error == EINTR || error_is_shortage(error))
        return true;
    if (socket->error == 0)
        socket->error = error;
    return false;
}

/* The end of the bytes.  An error that only a send has heard of must not look like it. */
static int end_reading(struct tls_socket *socket)
{
    socket->is_at_end = socket->error == 0;
    errno = socket->error;
    return socket->is_at_end ? 0 : -1;
}

static size_t take(struct tls_socket *socket, char *bytes, size_t max)
{
    size_t length = max < socket->ahead_length ? max : socket->ahead_length;

    memcpy(bytes, socket->ahead, length);
    socket->ahead += length;
    socket->ahead_length -= length;
    if (socket->ahead_length == 0) {
        free(socket->kept);
        socket->kept = NULL;
    }
    return length;
}

/* Moves up to this many bytes, and puts what came with them ahead.  As recv(2). */
static ssize_t receive(struct tls_socket *socket, char *bytes, size_t max)
{
    struct iovec space[] = { { bytes, max }, { scratch, AHEAD } };
    size_t       direct = max < AHEAD ? 0 : max;
    ssize_t n = direct == 0 ? recv(socket->fd, scratch, AHEAD, 0) : readv(socket->fd, space, 2);

    if (n <= 0)
        return n;
    size_t length = (size_t)n;
    socket->is_empty = direct == 0 && length < AHEAD;
    if (length <= direct)
        return n;
    socket->ahead = scratch;
    socket->ahead_length = length - direct;
    return (ssize_t)(direct == 0 ? take(socket, bytes, max) : direct);
}

/* BIO_meth_set_read_ex(3) */
static int on_read(BIO *bio, char *bytes, size_t max, size_t *moved)
{
    struct tls_socket *socket = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (!may_read(socket))
        return delay_reading(socket, bio);
    if (socket->ahead_length > 0) {
        *moved = take(socket, bytes, max);
        note_bytes(socket, *moved);
        return 1;
    }
    if (socket->is_lost) {
        errno = ENOMEM;
        return -1;
    }
    if (socket->is_empty) {
        socket->is_empty = false;
        return delay_reading(socket, bio);
    }
    ssize_t n = receive(socket, bytes, max);
    if (n < 0)
        return may_pass(socket, errno) ? delay_reading(socket, bio) : -1;
    if (n == 0)
        return end_reading(socket);
    *moved = (size_t)n;
    note_bytes(socket, *moved);
    return 1;
}

/* BIO_meth_set_write_ex(3) */
static int on_write(BIO *bio, const char *bytes, size_t length, size_t *moved)
{
    struct tls_socket *socket = BIO_get_data(bio);
    ssize_t            n = send(socket->fd, bytes, length, MSG_NOSIGNAL);

    BIO_clear_retry_flags(bio);
    if (n < 0) {
        if (may_pass(socket, errno))
            BIO_set_retry_write(bio);
        return -1;
    }
    *moved = (size_t)n;
    return 1;
}

/* BIO_meth_set_ctrl(3) */
static long on_control(BIO *bio, int what, long number, void *other)
{
    const struct tls_socket *socket = BIO_get_data(bio);

    (void)number, (void)other;
    switch (what) {
    case BIO_CTRL_EOF:
        return socket->is_at_end;
    case BIO_CTRL_PENDING:
        return (long)socket->ahead_length;
    case BIO_CTRL_FLUSH:
        return 1;
    default:
        return 0;
    }
}

/* One for all connections, and as long as the process lives. */
static const BIO_METHOD *method(void)
{
    static BIO_METHOD *made;

    if (made != NULL)
        return made;
    made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket that reads ahead");
    if (made == NULL)
        return NULL;
    BIO_meth_set_read_ex(made, on_read);
    BIO_meth_set_write_ex(made, on_write);
    BIO_meth_set_ctrl(made, on_control);
    return made;
}

static bool attach_ours(struct tls_socket *socket, SSL *ssl)
{
    BIO *bio = method() != NULL ? BIO_new(method()) : NULL;

    if (bio == NULL)
        return false;
    BIO_set_data(bio, socket);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    return true;
}

/* --- for kernel TLS: OpenSSL's own ------------------------------------------------------------ */

#ifdef SSL_OP_ENABLE_KTLS
#define HAS_READ    (BIO_CB_READ | BIO_CB_RETURN)
#define HAS_WRITTEN (BIO_CB_WRITE | BIO_CB_RETURN)

/* What the socket answered to a read. */
static long has_read(struct tls_socket *socket, BIO *bio, int result, size_t moved)
{
    if (result > 0) {
        note_bytes(socket, moved);
        return result;
    }
    if (result < 0 && may_pass(socket, errno))
        return delay_reading(socket, bio);
    if (result < 0 || end_reading(socket) == 0)
        return result;
    BIO_clear_flags(bio, BIO_FLAGS_IN_EOF);
    return -1;
}

/* BIO_callback_fn_ex(3): is asked before each call of the socket, and looks at each result. */
static long on_call(BIO *bio, int call, const char *bytes, size_t length, int number, long other,
                    int result, size_t *moved)
{
    struct tls_socket *socket = (void *)BIO_get_callback_arg(bio);

    (void)bytes, (void)length, (void)number, (void)other;
    if (call == BIO_CB_READ && !may_read(socket))
        return delay_reading(socket, bio);
    if (call == HAS_READ)
        return has_read(socket, bio, result, *moved);
    if (call == HAS_WRITTEN && result < 0 && may_pass(socket, errno))
        BIO_set_retry_write(bio);
    return result;
}

static bool attach_theirs(struct tls_socket *socket, SSL *ssl)
{
    if (SSL_set_fd(ssl, socket->fd) != 1)
        return false;
    BIO *bio = SSL_get_wbio(ssl); /* which is the one to read, too */
    BIO_set_callback_arg(bio, (char *)socket);
    BIO_set_callback_ex(bio, on_call);
    return true;
}
#endif

/* --- for tls.c --------------------------------------------------------------------------------- */

bool tls_socket_attach(struct tls_socket *socket, SSL *ssl, int fd)
{
    *socket = (struct tls_socket){ .fd = fd };
#ifdef SSL_OP_ENABLE_KTLS
    if (SSL_get_options(ssl) & SSL_OP_ENABLE_KTLS)
        return attach_theirs(socket, ssl);
#endif
    return attach_ours(socket, ssl);
}

void tls_socket_release(struct tls_socket *socket)
{
    free(socket->kept);
    socket->kept = NULL;
    socket->ahead_length = 0;
}

void tls_socket_begin(struct tls_socket *socket, size_t bytes)
{
    socket->reads_left = READS_MAX;
    socket->bytes_left = bytes;
    socket->is_cut = false;
}

void tls_socket_settle(struct tls_socket *socket)
{
    socket->is_empty = false;
    if (socket->ahead_length == 0 || socket->kept != NULL)
        return;
    socket->kept = malloc(socket->ahead_length);
    if (socket->kept == NULL) {
        socket->is_lost = true;
        socket->ahead_length = 0;
        return;
    }
    memcpy(socket->kept, socket->ahead, socket->ahead_length);
    socket->ahead = socket->kept;
}

bool tls_socket_has_pending(const struct tls_socket *socket)
{
    return socket->ahead_length > 0 || socket->is_lost;
}
