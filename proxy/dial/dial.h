/*
 * dial.h — a target becomes a transport that opens itself: resolve, connect, next address on failure.
 *
 *     targets ──▶ [name ──names──▶] addresses ──connect(2), [PROXY header]──▶ OPEN
 *                                               each within its timeout       ▲
 *                                                     └── tls:// ──handshake──┘
 *
 * The caller gets the transport at once, still opening, and needs no states of its own.  Two kinds
 * of connections are never made: to one of our own listeners (a loop) and to the connecting socket
 * itself (TCP's simultaneous open on loopback).
 */
#ifndef DIAL_DIAL_H
#define DIAL_DIAL_H

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"
#include "socket/origin.h"
#include "transport/handshake.h"
#include "transport/transport.h"

struct dialer;
struct dns_cache;
struct proxy_header;
struct proxy_marks;

/* What all dialling of a worker shares; borrowed, must outlive the dialer. */
struct dial_settings {
    const struct address *listeners; /* our own, with their real ports */
    size_t                listener_count;
    bool                  allow_loop;
    enum dns_family       family;
    struct source_addresses source;  /* to connect from, unless the target has its own */
    struct socket_settings sockets;
    struct handshakes    *handshakes; /* for tls:// targets; NULL: there is none */
};

struct dialer *dialer_new(struct reactor *, struct dns_cache *, const struct dial_settings *);
void           dialer_free(struct dialer *);

struct dial_request {
    const struct target_config *targets;      /* tried in order, and of each every address */
    size_t                      target_count;
    double                      timeout;      /* seconds, for each address */
    double user_timeout; /* TCP_USER_TIMEOUT instead of the dialer's; 0: the dialer's */
    size_t send_buffer;  /* SO_SNDBUF instead of the dialer's; 0: the dialer's */
    enum tls_side    side;  /* who they are, for the counters of TLS */
    struct tls_hints hints; /* for tls:// targets; lives as long as the targets */
    struct origin origin; /* what the connection takes over from the client's; all 0: nothing */
    const struct proxy_header *header; /* for targets that want one; NULL: none does */
    const struct proxy_marks  *marks;  /* goes into it, too; NULL: nothing */
};

/* A PROXY header is written before the transport is open, within the same timeout.  Targets, header
 * and marks are borrowed until the transport is open, failed or closed.  NULL: no memory.  What
 * fails or succeeds at once is found by the first call on the transport: ready() is not called
 * before dial() returns. */
struct transport *dial(struct dialer *, const struct dial_request *, transport_ready *,
                       void *owner);

#endif
