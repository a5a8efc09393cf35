/*
 * accounting.h — what a session moved goes into the counters, and into one last line.
 *
 *     offered = sent + lost + skipped + buffered      for each shadow, at any time
 *     results of a shadow, summed = sessions closed
 *
 * offered: the client's bytes.  sent: of those, what the kernel took for this shadow.  The rest is
 * buffered while the shadow is live, lost when it was cut off, skipped when the session was not
 * mirrored to it.  All of it is added in one function, so that a reader never sees half a step.
 */
#ifndef MIRROR_ACCOUNTING_H
#define MIRROR_ACCOUNTING_H

#include <stddef.h>
#include <stdint.h>

#include "shared/stats.h"

struct listen_config;
struct mirror;
struct shadow;
struct stream;
struct transport;

/* What the counters already hold of one session; embedded in it. */
struct counted {
    uint64_t request_bytes;
    uint64_t response_bytes;
    uint64_t buffered_bytes;
};

/* What the counters and the last line need to know of a session; filled by its owner. */
struct accounting {
    struct mirror              *mirror;
    uint64_t                    number;
    const struct listen_config *listener;
    const struct transport     *client;
    const struct transport     *primary;        /* NULL: never dialled */
    enum session_reason         reason;
    double                      seconds;
    double                      connect_seconds;    /* below 0: unknown */
    double                      first_byte_seconds; /* below 0: unknown */
    uint64_t                    request_bytes;      /* read from the client */
    uint64_t                    response_bytes;     /* written to the client */
    uint64_t                    buffered_bytes;
    struct shadow              *shadows;
    size_t                      shadow_count;
};

/* Adds what has moved since the last call. */
void accounting_update(const struct accounting *, struct counted *);
/* The session is over and counted: adds its reason and its shadows' results, writes its line. */
void accounting_close(const struct accounting *);

#endif
