/*
 * header_writer.h — the PROXY header that a target gets before anything else, on its way.
 *
 *     connected ──header_writer_send()──▶ all of it is out ──▶ the connection is its owner's
 *
 * One is for one connection: the next attempt begins with a header of its own.
 */
#ifndef PROXYPROTO_HEADER_WRITER_H
#define PROXYPROTO_HEADER_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h" /* enum proxy_version */
#include "transport/transport.h"

struct proxy_header;
struct proxy_marks;

/* Embedded; zeroed: not begun. */
struct header_writer {
    uint8_t *bytes; /* NULL: not made, or there is nothing to say */
    size_t   length;
    size_t   sent;
    bool waits_for_kernel_memory; /* after IO_AGAIN: the kernel had no memory; no event will tell */
    int      error;      /* after IO_FAILED: errno */
};

/* Sends what is left of it, in one piece or several, and makes it first where that is still to be done:
 * of this version, from header and marks as proxy_header_write() takes them.  IO_OK: all of it is out;
 * IO_AGAIN: the rest when the socket is writable again, or soon if the kernel has no memory; never
 * IO_END. */
enum io header_writer_send(struct header_writer *, int socket, enum proxy_version,
                           const struct proxy_header *, const struct proxy_marks *);
/* The connection is over, or somebody else's: what was made goes, and another one may begin. */
void header_writer_drop(struct header_writer *);

#endif
