/*
 * tls.c — SSL_read(3) and SSL_write(3) with their rules, as would-block bytes.
 *
 * The rules (SSL_get_error(3), SSL_write(3)):
 *  - the error queue must be empty before each call, or an old error is taken for a new one;
 *  - a write that could not be finished is tried again with the same length: `unfinished`;
 *  - nothing more is said after a failure, close_notify included.
 *  - without SSL_MODE_AUTO_RETRY (SSL_CTX_set_mode(3)) a read ends after each message that holds no
 *    data: a ticket, new keys, or a wish to negotiate again, which SSL_OP_NO_RENEGOTIATION refuses.
 * Reading goes on while a write is unfinished; otherwise two peers that both send would wait for
 * each other for ever.
 *
 * One call reads or writes as many records as there is room for; what the last of them answered is
 * kept for the next call when others had moved bytes.  Only a write says at once that it failed: there
 * may never be a next one.
 *
 * What a peer may cost in one call is bounded in bytes and records by the socket, in messages here.
 */
#include "tls.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/page.h"
#include "tls/tls_contexts.h"
#include "tls/tls_inside.h"
#include "tls/tls_socket.h"

#define RECORD_MAX     16384         /* bytes in one record (RFC 8446, 5.1) */
#define TURN_BYTES      (288 << 10) /* taken from the socket: 256 KiB of data, and what records add */
#define TURN_MESSAGES   16          /* each costs as much as some records, and perhaps an answer */
#define MESSAGES_MAX   512         /* more than bytes of data; honest peers need two or three */
#define HANDSHAKE_BYTES (64 << 10)    /* in one turn: messages of 4 bytes are the worst of them */
#define HANDSHAKE_MAX  (256 << 10)   /* altogether: certificates have 100 KiB at most */

/* --- failures ---------------------------------------------------------------------------- */

/* What is wrong with the peer's certificate, and when it is too weak for us, by which measure. */
static void tell_verification(struct tls *tls, long result)
{
    const char *text = X509_verify_cert_error_string(result);
    bool is_too_weak = result == X509_V_ERR_EE_KEY_TOO_SMALL ||
                       result == X509_V_ERR_CA_KEY_TOO_SMALL || result == X509_V_ERR_CA_MD_TOO_WEAK;
    int length = is_too_weak
                     ? asprintf(&tls->why, "certificate verify failed: %s at security level %d",
                                text, SSL_get_security_level(tls->ssl))
                     : asprintf(&tls->why, "certificate verify failed: %s", text);

    if (length < 0)
        tls->why = NULL;
}

/* The target said so with an alert (RFC 7301, 3.2). */
static void tell_protocol(struct tls *tls)
{
    if (asprintf(&tls->why,
                 "it speaks none of the protocols that it is offered (ALPN: %s); promise clients "
                 "only what all targets speak (--tls-alpn), or correct alpn= of this one",
                 tls->promised != NULL ? tls->promised : "those of its alpn=") < 0)
        tls->why = NULL;
}

static void tell(struct tls *tls, unsigned long error)
{
    long        verification = SSL_get_verify_result(tls->ssl);
    const char *text = ERR_reason_error_string(error);

    if (ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED && verification != X509_V_OK)
        tell_verification(tls, verification);
    else if (ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        tls->why = strdup("the connection ended without close_notify");
    else if (ERR_GET_REASON(error) == SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL)
        tell_protocol(tls);
    else
        tls->why = strdup(text != NULL ? text : "a failure without a reason");
}

/* A failure of ours to bear with the peer. */
static enum io refuse(struct tls *tls, const char *why)
{
    tls->has_failed = true;
    tls->error = 0;
    free(tls->why);
    tls->why = strdup(why);
    return IO_FAILED;
}

/* Forgets what only the first failure may say. */
static enum io failed(struct tls *tls, int kind, int error)
{
    unsigned long code = ERR_peek_error();

    tls->has_failed = true;
    free(tls->why);
    tls->why = NULL;
    if (kind == SSL_ERROR_SYSCALL && error != 0) {
        tls->error = error;
        tls->why = strdup(strerrordesc_np(error));
        return IO_FAILED;
    }
    tls->error = 0;
    tls->is_truncated = code == 0 || (ERR_GET_LIB(code) == ERR_LIB_SSL &&
                                      ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING);
    tell(tls,
         tls->is_truncated ? ERR_PACK(ERR_LIB_SSL, 0, SSL_R_UNEXPECTED_EOF_WHILE_READING) : code);
    ERR_clear_error();
    return IO_FAILED;
}

static void begin_turn(struct tls *tls, size_t bytes)
{
    tls_socket_begin(&tls->socket, bytes);
    tls->messages_left = TURN_MESSAGES;
}

/* Nothing of an earlier call may be taken for this one's. */
static void begin_call(struct tls *tls)
{
    ERR_clear_error();
    errno = 0;
    tls->socket.waits_for_kernel_memory = false;
    tls->socket.is_delayed = false;
}

/* What an operation on the SSL object answered that moved nothing. */
static enum io outcome(struct tls *tls, int result, bool *waits_for_room, bool *waits_for_bytes)
{
    int error = errno;
    int kind = SSL_get_error(tls->ssl, result);

    switch (kind) {
    case SSL_ERROR_WANT_READ:
        *waits_for_bytes = true;
        return IO_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        *waits_for_room = true;
        return IO_AGAIN;
    case SSL_ERROR_ZERO_RETURN: /* it says so of our own failures, too, once the peer has ended */
        return tls->socket.error == 0 ? IO_END : failed(tls, SSL_ERROR_SYSCALL, tls->socket.error);
    default:
        return failed(tls, kind, error);
    }
}

/* --- making one -------------------------------------------------------------------------- */

static struct tls *tls_new(const struct tls_contexts *contexts, SSL_CTX *context, int socket)
{
    struct tls *tls = calloc(1, sizeof *tls);

    if (tls == NULL)
        return NULL;
    tls->contexts = contexts;
    tls->ssl = SSL_new(context);
    if (tls->ssl == NULL || !tls_socket_attach(&tls->socket, tls->ssl, socket)) {
        tls_free(tls);
        return NULL;
    }
    SSL_set_app_data(tls->ssl, tls);
    return tls;
}

struct tls *tls_accept(const struct tls_contexts *contexts, int socket)
{
    struct tls *tls = tls_new(contexts, contexts->servers[0].context, socket);

    if (tls != NULL)
        SSL_set_accept_state(tls->ssl);
    return tls;
}

struct tls *tls_connect(struct tls_contexts *contexts, const struct target_config *target,
                        const struct tls_hints *hints, int socket)
{
    struct upstream *upstream = tls_target_find(contexts, target);
    struct tls      *tls = tls_new(contexts, upstream->context, socket);

    if (tls == NULL)
        return NULL;
    tls->upstream = upstream;
    SSL_set_connect_state(tls->ssl);
    if (!tls_target_prepare(tls, hints)) {
        tls_free(tls);
        return NULL;
    }
    return tls;
}

/* Marked as ended in good order: a session whose connection broke off could not be resumed. */
void tls_close(struct tls *tls)
{
    if (tls == NULL || tls->ssl == NULL)
        return;
    SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(tls->ssl);
    tls->ssl = NULL;
    tls_socket_release(&tls->socket);
}

void tls_free(struct tls *tls)
{
    if (tls == NULL)
        return;
    tls_close(tls);
    tls_facts_clear(&tls->facts);
    free(tls->why);
    free(tls);
}

/* --- handshake and end ------------------------------------------------------------------- */

static void succeed(struct tls *tls)
{
    tls_facts_note(&tls->facts, tls->ssl);
    tls->owes_ticket = tls->upstream == NULL && SSL_version(tls->ssl) >= TLS1_3_VERSION;
    if (!tls->contexts->strict_eof)
        SSL_set_options(tls->ssl, SSL_OP_IGNORE_UNEXPECTED_EOF);
}

enum io tls_handshake(struct tls *tls)
{
    bool waits_for_bytes = false;
    bool waits_for_room = false;

    begin_turn(tls, HANDSHAKE_BYTES);
    begin_call(tls);
    int     result = SSL_do_handshake(tls->ssl);
    enum io io = result == 1 ? IO_OK : outcome(tls, result, &waits_for_room, &waits_for_bytes);
    tls->read_waits_for_room = waits_for_room;
    tls->handshake_bytes += HANDSHAKE_BYTES - tls->socket.bytes_left;
    tls_socket_settle(&tls->socket);
    if (io == IO_OK)
        succeed(tls);
    if (io == IO_END || tls->is_truncated) /* with close_notify, or without */
        return refuse(tls, "the peer closed the connection during the handshake");
    if (io == IO_AGAIN && tls->handshake_bytes >= HANDSHAKE_MAX)
        return refuse(tls, "the peer sent too much during the handshake");
    return io;
}

/* OpenSSL says nothing in the middle of a message: the peer's own is read to its end first, and what
 * it asks for is answered. */
static int end_messages(struct tls *tls)
{
    int result = SSL_in_init(tls->ssl) ? SSL_do_handshake(tls->ssl) : 1;

    return result == 1 && SSL_shutdown(tls->ssl) < 0 ? -1 : result;
}

enum io tls_end(struct tls *tls)
{
    bool waits_for_bytes = false;
    bool waits_for_room = false;

    if (tls->has_failed)
        return IO_FAILED;
    begin_turn(tls, TURN_BYTES);
    begin_call(tls);
    int     result = end_messages(tls);
    enum io io = result == 1 ? IO_OK : outcome(tls, result, &waits_for_room, &waits_for_bytes);
    tls->write_waits_for_bytes = waits_for_bytes;
    tls_socket_settle(&tls->socket);
    return io == IO_END ? refuse(tls, "the peer ended the connection within a message") : io;
}

/* --- bytes ------------------------------------------------------------------------------- */

/* What one read answers that found no byte.  With SSL_OP_IGNORE_UNEXPECTED_EOF an end without
 * close_notify looks like one with it, and writing can go on; the socket knows the difference. */
static enum io read_nothing(struct tls *tls, int result)
{
    bool waits_for_room = false;
    bool waits_for_bytes = false;
    enum io io = outcome(tls, result, &waits_for_room, &waits_for_bytes);

    tls->read_waits_for_room = waits_for_room;
    if (io == IO_END && BIO_eof(SSL_get_rbio(tls->ssl)))
        tls->is_truncated = true;
    if (tls->is_truncated && tls->contexts->truncations != NULL)
        cell_add(tls->contexts->truncations, 1);
    if (io != IO_AGAIN)
        tls->read_end = io;
    return io;
}

/* One try has found no byte, though the socket did not say "try again": it has read a message that holds
 * no data, or has answered one (new keys that both are to use count twice).  IO_OK: the next try may go
 * on. */
static enum io pass_message(struct tls *tls)
{
    if (++tls->messages > MESSAGES_MAX) {
        tls->read_end = IO_FAILED;
        return refuse(tls, "the peer sent too many messages without data");
    }
    tls->has_messages = --tls->messages_left == 0;
    return tls->has_messages ? IO_AGAIN : IO_OK;
}

static void note_data(struct tls *tls, size_t moved)
{
    tls->messages -= moved < tls->messages ? (unsigned)moved : tls->messages;
}

/* At most what one record holds.  IO_OK may have moved nothing. */
static enum io read_record(struct tls *tls, char *bytes, size_t max, size_t *moved)
{
    *moved = 0;
    begin_call(tls);
    tls->read_waits_for_room = false;
    int result = SSL_read_ex(tls->ssl, bytes, max, moved);
    if (result == 1) {
        note_data(tls, *moved);
        return IO_OK;
    }
    enum io io = read_nothing(tls, result);
    bool    waits = tls->socket.is_delayed || tls->read_waits_for_room;
    return io == IO_AGAIN && !waits ? pass_message(tls) : io;
}

static enum io read_piece(struct tls *tls, const struct iovec *space, size_t *moved)
{
    enum io io = IO_OK;
    size_t  length;

    for (size_t filled = 0; filled < space->iov_len && io == IO_OK; filled += length) {
        io = read_record(tls, (char *)space->iov_base + filled, space->iov_len - filled, &length);
        *moved += length;
    }
    return io;
}

static enum io begin_reading(struct tls *tls)
{
    begin_turn(tls, TURN_BYTES);
    tls->has_messages = false;
    return tls->read_end;
}

/* What an operation answers whose last piece answered this.  A write that waits for bytes of the peer
 * is worth another try after any. */
static enum io end_reading(struct tls *tls, enum io last, size_t moved)
{
    tls_socket_settle(&tls->socket);
    tls->is_drained = last == IO_AGAIN && tls->socket.is_delayed && !tls->socket.is_cut;
    tls->write_waits_for_bytes &= tls->socket.bytes_left == TURN_BYTES;
    return moved > 0 ? IO_OK : last;
}

enum io tls_read(struct tls *tls, const struct iovec *space, int count, size_t *moved)
{
    enum io io = begin_reading(tls);

    *moved = 0;
    for (int i = 0; i < count && io == IO_OK; i++)
        io = read_piece(tls, &space[i], moved);
    return end_reading(tls, io, *moved);
}

enum io tls_discard(struct tls *tls, size_t max, size_t *moved)
{
    static char scratch[RECORD_MAX];
    enum io     io = begin_reading(tls);

    *moved = 0;
    while (*moved < max && io == IO_OK) {
        struct iovec space = { scratch, max - *moved };

        if (space.iov_len > sizeof scratch)
            space.iov_len = sizeof scratch;
        io = read_piece(tls, &space, moved);
    }
    return end_reading(tls, io, *moved);
}

/* One record at most; one that was begun is finished first. */
static enum io write_record(struct tls *tls, const char *bytes, size_t length, size_t *moved)
{
    bool waits_for_room = false;
    bool waits_for_bytes = false;

    assert(length >= tls->unfinished);
    if (tls->unfinished > 0)
        length = tls->unfinished;
    else if (length > RECORD_MAX)
        length = RECORD_MAX;
    begin_call(tls);
    int result = SSL_write_ex(tls->ssl, bytes, length, moved);
    if (result == 1) {
        tls->unfinished = 0;
        tls->write_waits_for_bytes = false;
        return IO_OK;
    }
    *moved = 0;
    enum io io = outcome(tls, result, &waits_for_room, &waits_for_bytes);
    tls->write_waits_for_bytes = waits_for_bytes;
    if (io == IO_AGAIN)
        tls->unfinished = length;
    return io == IO_END ? IO_FAILED : io;
}

/* The first answer brings the ticket along; see set_resumption() of tls_contexts.c.  That is a second
 * handshake to OpenSSL, for which it takes a buffer to read that it would keep. */
static enum io write_with_ticket(struct tls *tls, const char *bytes, size_t length, size_t *moved)
{
    tls->owes_ticket = false;
    SSL_new_session_ticket(tls->ssl);
    enum io io = write_record(tls, bytes, length, moved);
    if (io == IO_OK)
        SSL_free_buffers(tls->ssl);
    return io;
}

enum io tls_write(struct tls *tls, const struct iovec *bytes, int count, size_t *moved)
{
    enum io io = IO_OK;

    *moved = 0;
    if (tls->has_failed)
        return IO_FAILED;
    begin_turn(tls, TURN_BYTES);
    for (int i = 0; i < count && io == IO_OK; i++) {
        const char *piece = bytes[i].iov_base;

        for (size_t done = 0; done < bytes[i].iov_len && io == IO_OK;) {
            size_t written = 0;

            io = (tls->owes_ticket ? write_with_ticket : write_record)(
                tls, piece + done, bytes[i].iov_len - done, &written);
            done += written;
            *moved += written;
        }
    }
    tls_socket_settle(&tls->socket);
    return *moved > 0 && io == IO_AGAIN ? IO_OK : io;
}

/* --- what is known ----------------------------------------------------------------------- */

bool tls_read_waits_for_room(const struct tls *tls)
{
    return tls->read_waits_for_room;
}

bool tls_write_waits_for_bytes(const struct tls *tls)
{
    return tls->write_waits_for_bytes;
}

bool tls_is_drained(const struct tls *tls)
{
    return tls->is_drained;
}

bool tls_waits_for_kernel_memory(const struct tls *tls)
{
    return tls->socket.waits_for_kernel_memory;
}

bool tls_has_pending(const struct tls *tls)
{
    return tls->ssl != NULL && !tls->read_waits_for_room &&
           (tls->read_end != IO_OK || tls->has_messages || SSL_pending(tls->ssl) > 0 ||
            tls_socket_has_pending(&tls->socket));
}

bool tls_has_failed(const struct tls *tls)
{
    return tls->has_failed || tls->socket.error != 0;
}

int tls_error(const struct tls *tls)
{
    return tls->has_failed ? tls->error : tls->socket.error;
}

bool tls_is_truncated(const struct tls *tls)
{
    return tls->is_truncated;
}

const char *tls_why(const struct tls *tls)
{
    return tls->why != NULL ? tls->why : "";
}

const struct tls_facts *tls_facts(const struct tls *tls)
{
    return &tls->facts;
}
