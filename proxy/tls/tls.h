/*
 * tls.h — TLS over one connected socket, in the words of a transport.
 *
 *     clear bytes ──tls_write──▶ records ──▶ socket        tls_handshake() first, until IO_OK
 *     clear bytes ◀──tls_read─── records ◀── socket
 *
 * Nothing blocks and nothing waits: after IO_AGAIN, tls_read_waits_for_room() and its like say what
 * the socket must be ready for.  The socket stays the caller's.
 */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/io.h"
#include "tls/tls_facts.h"

struct iovec;
struct target_config;
struct tls;
struct tls_contexts;

/* The server's side of an accepted socket.  NULL: no memory. */
struct tls *tls_accept(const struct tls_contexts *, int socket);

/* What the client said to us, for the target; each may be NULL.  Borrowed until the handshake is over. */
struct tls_hints {
    const char *server_name; /* unless the target has sni= */
    const char *protocol;    /* unless the target has alpn= */
};
/* The client's side of a socket that is connected to this tls:// target.  NULL: no memory. */
struct tls *tls_connect(struct tls_contexts *, const struct target_config *,
                        const struct tls_hints *, int socket);
/* Says nothing to the peer; what is known of the connection stays known.  NULL is fine. */
void        tls_close(struct tls *);
void        tls_free(struct tls *);

/* As their namesakes of transport.h; IO_END is the peer's close_notify, or an end without one unless
 * --tls-strict-eof.  After IO_FAILED see tls_error() and tls_why().
 *
 * Each takes a limited number of bytes, records and messages from the peer, data or not.  When there
 * may be more, they answer as if the socket were empty, and tls_has_pending() or the socket's next event
 * tells of the rest.  A peer that sends too much without any data fails. */
enum io tls_handshake(struct tls *);
enum io tls_read(struct tls *, const struct iovec *space, int count, size_t *moved);
enum io tls_discard(struct tls *, size_t max, size_t *moved);
/* What was tried and answered IO_AGAIN must be tried again, with at least as many bytes. */
enum io tls_write(struct tls *, const struct iovec *bytes, int count, size_t *moved);
/* Sends close_notify.  IO_AGAIN: to be tried again, as a write.  Reading goes on. */
enum io tls_end(struct tls *);

/* The last read (handshake included) answered IO_AGAIN and waits for the socket to take bytes. */
bool tls_read_waits_for_room(const struct tls *);
/* The last write or end answered IO_AGAIN and waits for the peer's bytes. */
bool tls_write_waits_for_bytes(const struct tls *);
/* The last read has taken all that had come. */
bool tls_is_drained(const struct tls *);
/* The last operation answered IO_AGAIN, or moved less than it could, because the kernel had no
 * memory (ENOBUFS): no event will say when it has. */
bool tls_waits_for_kernel_memory(const struct tls *);
/* A read would find something although the socket has nothing. */
bool tls_has_pending(const struct tls *);
/* Some call has failed, perhaps one whose answer did not say so: no end is in good order any more. */
bool tls_has_failed(const struct tls *);

/* errno of the failure; 0: it was none of a system call. */
int         tls_error(const struct tls *);
/* It ended without close_notify. */
bool        tls_is_truncated(const struct tls *);
/* The failure as one sentence part; "" without. */
const char *tls_why(const struct tls *);

/* The protocol (ALPN) that the client was promised and this target has not agreed to; told once for
 * each target.  NULL: all is well, or it has been told. */
const char *tls_broken_promise(struct tls *);

/* Complete after the handshake; valid after closing, too. */
const struct tls_facts *tls_facts(const struct tls *);

#endif
