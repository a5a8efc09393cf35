/*
 * wire.c — connect, shake hands, send, receive and end without waiting.
 *
 *     wire_open ──▶ wire_go_on_opening ... ──▶ send and receive ──▶ wire_end ──▶ receive the end
 *
 * What is received is forgotten in the kernel where it can be: the load's own cost must not decide
 * how fast a proxy looks.
 */
#include "tools/benchmark/wire.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/benchmark/ends.h"

#define PIECE_MAX ((size_t)256 * 1024)
#define TLS_SUITE  "TLS_AES_128_GCM_SHA256"

static const char out[PIECE_MAX];
static char in[PIECE_MAX];
static SSL_CTX *tls_context; /* NULL: plain */

void wire_use_tls(void)
{
    tls_context = SSL_CTX_new(TLS_client_method());
    if (tls_context == NULL || SSL_CTX_set_min_proto_version(tls_context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(tls_context, TLS_SUITE) != 1)
        give_up("OpenSSL: no TLS 1.3 with " TLS_SUITE);
    SSL_CTX_set_verify(tls_context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(tls_context, SSL_SESS_CACHE_OFF);
    /* Not every proxy says close_notify. */
    SSL_CTX_set_options(tls_context, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
}

static enum moved failed(struct wire *wire, const char *why)
{
    wire->why = why;
    return MOVED_FAILED;
}

/* After a system call that answered -1. */
static enum moved not_moved(struct wire *wire)
{
    return errno == EAGAIN || errno == EINTR ? MOVED_NOTHING : failed(wire, strerror(errno));
}

/* After a call of OpenSSL that did not succeed. */
static enum moved tls_not_moved(struct wire *wire, int answer)
{
    switch (SSL_get_error(wire->tls, answer)) {
    case SSL_ERROR_WANT_READ:
        wire->needs_write = false;
        return MOVED_NOTHING;
    case SSL_ERROR_WANT_WRITE:
        wire->needs_write = true;
        return MOVED_NOTHING;
    case SSL_ERROR_ZERO_RETURN:
        return MOVED_END;
    case SSL_ERROR_SYSCALL:
        return failed(wire, errno == 0 ? "TLS broke off" : strerror(errno));
    default:
        return failed(wire, "TLS failed");
    }
}

bool wire_open(struct wire *wire, const struct sockaddr_in *address)
{
    const int on = 1;

    *wire = (struct wire){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) };
    wire->needs_write = true;
    if (wire->fd < 0) {
        wire->why = strerror(errno);
        return false;
    }
    setsockopt(wire->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (tls_context != NULL) {
        wire->tls = SSL_new(tls_context);
        if (wire->tls == NULL || SSL_set_fd(wire->tls, wire->fd) != 1)
            give_up("no memory");
        SSL_set_connect_state(wire->tls);
    }
    if (connect(wire->fd, (const struct sockaddr *)address, sizeof *address) == 0 ||
        errno == EINPROGRESS)
        return true;
    wire->why = strerror(errno);
    wire_close(wire);
    return false;
}

enum moved wire_go_on_opening(struct wire *wire)
{
    int error = 0;
    socklen_t size = sizeof error;

    if (getsockopt(wire->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0)
        return failed(wire, strerror(error));
    if (wire->tls != NULL) {
        ERR_clear_error();
        int answer = SSL_do_handshake(wire->tls);
        if (answer != 1)
            return tls_not_moved(wire, answer);
    }
    return MOVED_SOME;
}

/* A record that has begun must be offered again, whole. */
static enum moved tls_send(struct wire *wire, size_t size, size_t *moved)
{
    ERR_clear_error();
    size_t max = wire->midway > 0 ? wire->midway : size;
    int answer = SSL_write_ex(wire->tls, out, max, moved);

    wire->midway = answer == 1 ? 0 : max;
    return answer == 1 ? MOVED_SOME : tls_not_moved(wire, answer);
}

enum moved wire_send(struct wire *wire, size_t size, size_t *moved)
{
    size_t max = size < PIECE_MAX ? size : PIECE_MAX;

    *moved = 0;
    wire->needs_write = true;
    if (wire->tls != NULL)
        return tls_send(wire, max, moved);
    ssize_t n = send(wire->fd, out, max, MSG_NOSIGNAL);
    if (n < 0)
        return not_moved(wire);
    *moved = (size_t)n;
    return MOVED_SOME;
}

enum moved wire_receive(struct wire *wire, size_t max, size_t *moved)
{
    *moved = 0;
    wire->needs_write = false;
    if (wire->tls != NULL) {
        ERR_clear_error();
        int answer = SSL_read_ex(wire->tls, in, max < PIECE_MAX ? max : PIECE_MAX, moved);
        return answer == 1 ? MOVED_SOME : tls_not_moved(wire, answer);
    }
    ssize_t n = recv(wire->fd, NULL, max, MSG_TRUNC);
    if (n < 0)
        return not_moved(wire);
    *moved = (size_t)n;
    return n > 0 ? MOVED_SOME : MOVED_END;
}

enum moved wire_end(struct wire *wire)
{
    if (wire->has_ended)
        return MOVED_SOME;
    if (wire->tls != NULL) {
        ERR_clear_error();
        int answer = SSL_shutdown(wire->tls);
        if (answer < 0 && tls_not_moved(wire, answer) == MOVED_NOTHING && wire->needs_write)
            return MOVED_NOTHING;
    }
    shutdown(wire->fd, SHUT_WR);
    wire->has_ended = true;
    wire->needs_write = false;
    return MOVED_SOME;
}

void wire_close(struct wire *wire)
{
    SSL_free(wire->tls);
    if (wire->fd >= 0)
        close(wire->fd);
    wire->tls = NULL;
    wire->fd = -1;
}
