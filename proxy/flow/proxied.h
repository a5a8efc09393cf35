/*
 * proxied.h — an accepted client that must begin with a PROXY header: it is open once that is read.
 *
 *     accept ──▶ OPENING, header byte by byte ──▶ OPEN: the next byte read is the first behind it
 *                   └── another word, the end, or no time left ──▶ failed, reset
 */
#ifndef FLOW_PROXIED_H
#define FLOW_PROXIED_H

#include "flow/transport.h"

struct handshakes;
struct proxy_header;

struct proxied_terms {
    double               timeout; /* seconds */
    struct proxy_header *header;
    struct handshakes   *tls;     /* behind the header the client speaks TLS; NULL: it does not */
};

/* Takes the accepted, non-blocking socket of this peer, which has that many seconds for its
 * header.  When the transport is open, *header is filled, which is borrowed until then; its peer is the header's
 * source, or the socket's own peer when the header tells of none.  A peer that says anything but a
 * header is reset (FAILURE_PROXY_HEADER).  NULL: no memory; the socket is closed. */
struct transport *proxied_accepted(struct reactor *, int socket, const struct address *peer,
                                   const struct proxied_terms *, transport_ready *, void *owner);

#endif
