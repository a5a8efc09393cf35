/*
 * ring.h — a run of bytes [begin, end) of a stream, in chunks borrowed from a pool.
 *
 *             begin                         end
 *     ........|=============================|............   reserved, for a moment
 *     └── chunk ──┴── chunk ──┴── chunk ──┴── chunk ──┴── chunk ──┘
 *
 * Offsets are those of the stream.  An empty ring holds no chunk and nothing on the heap.
 */
#ifndef STREAM_RING_H
#define STREAM_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct pool;

#define RING_SLOTS 4 /* inside the struct; a power of two */

/* Embedded in its stream. */
struct ring {
    struct pool *pool;
    uint64_t     begin;
    uint64_t     end;
    uint32_t     shift; /* of the chunks against the stream's offsets */
    uint32_t     slots;
    char       **chunks;  /* few, or a larger ring of its own */
    char        *few[RING_SLOTS];
};

void ring_start(struct ring *, struct pool *);

/* Makes room for the bytes [from, to).  In an empty ring they may lie anywhere, otherwise there is
 * no gap between them and those that are there.  False: no memory, and nothing has changed. */
bool ring_reserve(struct ring *, uint64_t from, uint64_t to);
/* Describes the bytes, or the reserved room, [from, to) as pieces; answers how many, at most max. */
int  ring_pieces(const struct ring *, uint64_t from, uint64_t to, struct iovec *, int max);
/* Of [from, to), which was reserved, the bytes up to end are there; the rest of the room goes back. */
void ring_commit(struct ring *, uint64_t from, uint64_t end, uint64_t to);
/* Drops the bytes before this offset. */
void ring_forget(struct ring *, uint64_t needed);

/* The memory that the bytes from this offset on take. */
size_t ring_memory(const struct ring *, uint64_t from);

#endif
