/*
 * reactor.h — what the transports of one loop share.
 *
 *     open for a moment ──────▶ ┐
 *     paused sockets ──reset──▶ │
 *     no memory in the kernel ─▶├─▶ the transport's ready()
 *     bytes held by TLS ───────▶ │
 *     closed, not yet done ────▶ (closed with RST when the peer has everything)
 */
#ifndef TRANSPORT_REACTOR_H
#define TRANSPORT_REACTOR_H

#include <stdbool.h>
#include <stddef.h>

struct ev_loop;
struct fault;
struct link;
struct reactor;
struct transport;

/* The loop outlives it.  NULL: the fault says why. */
struct reactor *reactor_new(struct ev_loop *, struct fault *);
/* Cuts what is still being closed. */
void            reactor_free(struct reactor *);
struct ev_loop *reactor_loop(const struct reactor *);
size_t          reactor_closing(const struct reactor *);
/* Takes a socket that nobody needs any more; what was written to it still arrives. */
void            reactor_let_go(struct reactor *, int socket);
/* "libev 4.33": running and compiled.  Static memory. */
const char     *reactor_version(void);

/* For transport/transport.c. */

/* Calls transport_was_reset() once, when the peer of a socket that nobody reads resets it.  False:
 * the kernel has no room for the watch. */
bool reactor_watch_for_reset(struct reactor *, int socket, struct transport *);
/* The socket outlives its transport; closing a socket needs no such call. */
void reactor_forget_reset(struct reactor *, int socket);
/* Calls transport_retry_enobufs() in a moment, unless the link leaves its list before. */
void reactor_retry_enobufs(struct reactor *, struct link *waiter);
/* Calls transport_has_more() once the sockets have been looked at, unless the link leaves its list
 * before. */
void reactor_turn(struct reactor *, struct link *more);
/* Calls transport_do_deferred_setup() once, within a tenth of a second (of two when very many wait), unless the
 * link leaves its list before. */
void reactor_await(struct reactor *, struct link *deferred_setup);
/* Takes the socket, and resets its peer once it has acknowledged everything (socket/closing.h). */
void reactor_close(struct reactor *, int socket);

#endif
