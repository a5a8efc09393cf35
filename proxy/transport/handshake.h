/*
 * handshake.h — a connected socket becomes an open transport that speaks TLS.
 *
 *     accepted socket ──┐
 *                       ├──handshake, within its time──▶ OPEN, or failed with FAILURE_TLS
 *     dialled socket ───┘
 *
 * The transport stays in its opening until then, so that its owner waits as for a connect.  Clients
 * beyond the limit wait for their turn (transport/turns.h), which costs no more than their socket.
 */
#ifndef TRANSPORT_HANDSHAKE_H
#define TRANSPORT_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>

#include "tls/tls.h"
#include "transport/transport.h"

struct handshakes;
struct slot;

/* What all handshakes of a worker share; borrowed, must outlive them. */
struct handshake_settings {
    struct reactor      *reactor;
    struct tls_contexts *contexts;
    struct slot         *slot;    /* its counters */
    size_t               max;    /* with clients, at the same time; further ones wait */
    double               timeout; /* seconds, for clients: to wait, and for the handshake then */
};

struct handshakes *handshakes_new(const struct handshake_settings *);
void               handshakes_free(struct handshakes *);
/* Where places are short: of the source with about the most clients that wait to begin their
 * handshake, fails the one that waits longest, unless one of them has begun within the last second.
 * False: it failed none. */
bool handshakes_shed(struct handshakes *);

/* Call it once in a second in which nothing else has moved: when a burst is over, the memory that its
 * handshakes needed goes back to the system (malloc_trim(3)), which takes about 10 ms for 50 MB. */
void handshakes_tidy(struct handshakes *);

/* As transport_accepted(): takes the non-blocking socket of a client.  NULL: no memory, it is closed. */
struct transport *handshake_accept(struct handshakes *, int socket, const struct address *peer,
                                   transport_ready *, void *owner);

/* Goes on with the opening of a client that has begun with something else and said who it is; takes
 * the socket.  False: no memory, nothing was taken. */
bool handshake_receive(struct handshakes *, struct transport *, int socket,
                       const struct address *peer);

enum tls_side {
    TLS_CLIENT,
    TLS_PRIMARY,
    TLS_SHADOW,
};

struct handshake_request {
    const struct target_config *target;
    struct tls_hints            hints;
    enum tls_side               side;
    double                      timeout; /* seconds */
};

/* Goes on with the opening of a transport whose socket is connected to this peer; takes the socket.
 * False: no memory, nothing was taken. */
bool handshake_connect(struct handshakes *, const struct handshake_request *, struct transport *,
                       int socket, const struct address *peer);

#endif
