/*
 * proxyproto_format.h — what the reader and the writer of binary PROXY headers agree on.
 *
 *     reader (proxyproto.c) ──┐
 *                             ├── these numbers, of the document's section 2.2
 *     writer (proxyproto_write.c) ┘
 */
#ifndef PROXYPROTO_PROXYPROTO_FORMAT_H
#define PROXYPROTO_PROXYPROTO_FORMAT_H

#include <stdint.h>

#define BINARY_FIXED 16 /* bytes before the addresses */

#define COMMAND_LOCAL 0
#define COMMAND_PROXY 1

enum family {
    FAMILY_UNSPECIFIED,
    FAMILY_IPV4,
    FAMILY_IPV6,
    FAMILY_UNIX,
};
#define TRANSPORT_STREAM   1
#define TRANSPORT_DATAGRAM 2

#define TYPE_MIRRORED 0xe0 /* ours, of those left to applications */

static const uint8_t proxy_signature[12] = { 0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                             0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a };
static const char    proxy_mirrored[] = "doppel-mirrored";

#endif
