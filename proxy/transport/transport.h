/*
 * transport.h — one socket, seen as bytes that may not be ready yet.
 *
 *     OPENING ──▶ OPEN ──▶ CLOSED
 *         └──────────────────▲        failed, or closed by its owner
 *
 * A transport opens itself: while it resolves and connects (dial/dial.h) every call answers
 * IO_AGAIN.  A call does what it can now and says how it went; nothing here ever blocks.
 *
 * Only loop callbacks call ready(); no function below does.
 */
#ifndef TRANSPORT_TRANSPORT_H
#define TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "base/address.h"
#include "base/io.h"
#include "socket/socket.h"

struct link;
struct reactor;
struct tls;
struct transport;

typedef void transport_ready(void *owner); /* something may be possible now */

/* From accept(2): takes the non-blocking socket, open at once.  NULL: no memory, it is closed. */
struct transport *transport_accepted(struct reactor *, int socket, const struct address *peer,
                                     transport_ready *, void *owner);

/* A read might find something: false saves the work of making room for it. */
bool    transport_may_read(const struct transport *);
/* IO_OK sets *moved; otherwise it is 0, but for a write that failed after some bytes had gone.  A
 * peer that resets after it sent bytes: the bytes are read first, then IO_FAILED. */
enum io transport_read(struct transport *, const struct iovec *space, int count, size_t *moved);
enum io transport_write(struct transport *, const struct iovec *bytes, int count, size_t *moved);
/* Reads and forgets at most this many bytes (tcp(7), MSG_TRUNC: nothing is copied). */
enum io transport_discard(struct transport *, size_t max, size_t *moved);

/* Whether the next two are worth trying: not with TLS, and not once the kernel has refused. */
bool    transport_can_splice(const struct transport *);
/* As transport_read() and transport_write(), with a pipe instead of memory (splice(2)).  The pipe
 * must be empty, or hold that many bytes.  IO_AGAIN may mean that the kernel refuses, too. */
enum io transport_splice_in(struct transport *, int pipe, size_t max, size_t *moved);
enum io transport_splice_out(struct transport *, int pipe, size_t bytes, size_t *moved);

/* No more bytes from us: FIN, and close_notify before it, at the latest by the next transport_want()
 * or by closing.  While opening it is remembered; said again it does nothing.  Saying it may find out
 * that the peer has reset: see transport_is_broken(). */
void transport_end(struct transport *);
/* close_notify could not be sent yet: ready() will be called when it has been.  Closing before that
 * resets the peer once it has had what was written. */
bool transport_is_ending(const struct transport *);
/* Closing will reset the peer, but only once it has acknowledged what was written, or after 5 s.
 * While opening it gives the opening up. */
void transport_abort(struct transport *);
/* Lets go of the socket, opening included; ready() is not called any more.  A peer that was told
 * the end keeps what was written; one that was to be aborted gets RST in the background; any other
 * gets RST at once. */
void transport_close(struct transport *);
/* Closes with RST at once, whatever was told before; what is not acknowledged yet is discarded. */
void transport_reset(struct transport *);
/* Closes and frees; NULL is fine. */
void transport_free(struct transport *);

/* Which event is to call ready(): computed from state, repeated calls cost nothing.  A peer that is
 * not to be read is still watched for a reset. */
void transport_want(struct transport *, bool read, bool write);

/* From now on fewer bytes than this are no reason to call ready(); the peer's end and its reset are.
 * For plain TCP; elsewhere it does nothing. */
void transport_wake_at(struct transport *, int bytes);

/* The next call tries the socket, whatever events have said. */
void transport_look_again(struct transport *);

bool         transport_is_opening(const struct transport *);
bool         transport_is_open(const struct transport *);
/* The peer is known to have reset the connection; bytes it sent before may still be read. */
bool         transport_is_broken(const struct transport *);
enum failure transport_failure(const struct transport *);
/* The failure as one sentence part, such as "connection refused"; "" without failure. */
const char  *transport_why(const struct transport *);
/* What TLS knows of the connection; NULL: it is plain, or not open yet.  Valid after closing, too. */
const struct tls *transport_tls(const struct transport *);
/* The peer's address, or where the opening aims; length 0 while it is not known.  Valid after
 * closing, too. */
void         transport_peer(const struct transport *, struct address *);
/* Where an accepted peer was going (socket/origin.h); length 0: that is not known. */
void         transport_destination(const struct transport *, struct address *);
/* Our own end of an open one; length 0: unknown. */
void         transport_local(const struct transport *, struct address *);
/* Bytes written but not acknowledged by the peer (SIOCOUTQ of tcp(7)), the end not counted; 0 when
 * unknown. */
size_t       transport_unacknowledged(const struct transport *);
/* The peer has acknowledged all that was written and, if it was told, the end. */
bool         transport_is_acknowledged(const struct transport *);
/* The peer has reset the connection, but had acknowledged every byte before.  Never over a unix
 * socket: there a reset says that the peer has left bytes unread (unix(7)). */
bool         transport_was_reset_at_rest(const struct transport *);

/* For what opens transports (dial/dial.c, transport/handshake.c). */

typedef void opening_cancel(void *opening);

/* Opening, by nobody yet.  NULL: no memory. */
struct transport *transport_opening(struct reactor *, transport_ready *, void *owner);
/* Its socket will need keepalive (socket/socket.h), because it comes from no listening socket. */
void transport_keep_alive(struct transport *);
/* The opening succeeded: takes the connected socket.  Call transport_tell() afterwards. */
void transport_opened(struct transport *, int socket, const struct address *peer);
/* Who opens it from now on, to this peer (length 0: not known yet), so that a failure can name it.
 * cancel(opening) is called if it is closed before it has opened. */
void transport_hand_over(struct transport *, opening_cancel *cancel, void *opening,
                         const struct address *peer);
/* As transport_opened(), after transport_hand_over(): takes the TLS that runs over the socket. */
void transport_secured(struct transport *, int socket, struct tls *);
/* Where the opening aims now, so that a failure can name it. */
void transport_aim(struct transport *, const struct address *peer);
/* The opening failed; why is copied. */
void transport_fail(struct transport *, enum failure, const char *why);
/* Calls ready(): only from a loop callback, as the last thing. */
void transport_tell(struct transport *);

/* For transport/reactor.c: the peer reset while nobody read; the kernel may have memory again. */
void transport_was_reset(struct transport *);
void transport_retry_enobufs(struct link *waiter);
void transport_has_more(struct link *more);
void transport_do_deferred_setup(struct link *deferred_setup);

#endif
