/*
 * header_reader.h — an accepted client that must begin with a PROXY header: it is open once that is read.
 *
 *     accept ──▶ OPENING, header byte by byte ──▶ OPEN: the next byte read is the first behind it
 *                   └── another word, the end, or no time left ──▶ failed, reset
 */
#ifndef PROXYPROTO_HEADER_READER_H
#define PROXYPROTO_HEADER_READER_H

#include "transport/transport.h"

struct handshakes;
struct proxy_header;

struct header_reader_terms {
    struct reactor      *reactor;
    double               timeout; /* seconds, for the header */
    struct proxy_header *header;
    struct handshakes   *tls;     /* behind the header the client speaks TLS; NULL: it does not */
};

/* Takes the accepted, non-blocking socket of this peer.  When the transport is open, the header of the
 * terms is filled, which is borrowed until then; the transport's peer is the header's source, or the
 * socket's own peer when the header tells of none.  A peer that says anything but a header, or none
 * in time, is reset (FAILURE_PROXY_HEADER).  NULL: no memory; the socket is closed. */
struct transport *header_reader_accept(const struct header_reader_terms *, int socket,
                                       const struct address *peer, transport_ready *, void *owner);

#endif
