/*
 * proxyproto.h — the PROXY protocol, versions 1 and 2: who the client of a proxy was, as bytes.
 *
 *     PROXY TCP4 10.0.0.9 10.0.1.5 51312 443\r\n                              v1
 *     signature, version, command, family, length │ addresses │ TLVs          v2
 *
 * As https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt says.  Reader and writer know no
 * socket.  The reader is strict: whatever the document forbids is no header, and nothing that it
 * leaves open is guessed.
 */
#ifndef PROXYPROTO_PROXYPROTO_H
#define PROXYPROTO_PROXYPROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "config/config.h" /* enum proxy_version */

struct tls_facts;

/* A longer header is refused; the document asks for room for 536 bytes. */
#define PROXY_HEADER_MAX 4096
/* Room for every header that proxy_header_write() makes. */
#define PROXY_HEADER_WRITTEN 1536

/* The client's connection, as a header tells it. */
struct proxy_header {
    struct address source;      /* length 0: the header tells of no other than its own connection */
    struct address destination;
    bool is_mirrored; /* it is a copy that one like us made: it must not be copied again */
};

enum proxy_reading {
    PROXY_INCOMPLETE, /* all bytes belong to the header, and there are more */
    PROXY_COMPLETE,
    PROXY_REFUSED,
};

/* Reads the header at the beginning of these bytes.  PROXY_COMPLETE: *used says how many bytes it
 * has, at most PROXY_HEADER_MAX.  PROXY_REFUSED: *why, static memory, says what is wrong; more
 * bytes would not change that. */
enum proxy_reading proxy_header_read(const uint8_t *bytes, size_t length, struct proxy_header *,
                                     size_t *used, const char **why);

/* What a header tells a shadow besides the addresses, in TLVs of version 2: that it gets a copy
 * (0xE0 "doppel-mirrored"), which session it is (0x05, unique id) and where the client came in
 * (0xE1); texts that are longer than 128 bytes are cut.  And of a client that spoke TLS: what was
 * agreed on (0x20, with version, cipher and the name in its certificate), whom it asked for (0x02)
 * and the protocol (0x01). */
struct proxy_marks {
    const char *session;
    const char *listener;
    const struct tls_facts *tls; /* NULL: the client did without */
};

/* Writes a header with both addresses, which must be known; marks NULL: without them.  Version 1
 * says UNKNOWN of a client on a unix socket.  Answers the length, 0 with PROXY_OFF. */
size_t proxy_header_write(uint8_t bytes[PROXY_HEADER_WRITTEN], enum proxy_version,
                          const struct proxy_header *, const struct proxy_marks *marks);

#endif
