/*
 * ring.c — slots for chunks.
 *
 * Chunk number n holds the offsets [n * CHUNK_SIZE, (n + 1) * CHUNK_SIZE) - shift and lives in slot
 * n % slots.  The shift is chosen whenever the ring is empty, so that what comes next starts with a
 * chunk: small traffic is one piece to every system call, and always in the same cache lines.  The
 * slots start inside the struct, grow with what is held and go back when nothing is: small traffic
 * allocates nothing but its chunk.
 */
#include "ring.h"

#include <stdlib.h>

#include "base/pool.h"

static uint64_t min_offset(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static char **slot_of(const struct ring *ring, uint64_t number)
{
    return &ring->chunks[number % ring->slots];
}

/* The number of the chunk with this offset. */
static uint64_t chunk_of(const struct ring *ring, uint64_t offset)
{
    return (offset + ring->shift) / CHUNK_SIZE;
}

/* The number of the first chunk that starts at or after this offset. */
static uint64_t next_chunk(const struct ring *ring, uint64_t offset)
{
    return (offset + ring->shift + CHUNK_SIZE - 1) / CHUNK_SIZE;
}

static void use_inline_slots(struct ring *ring)
{
    if (ring->chunks != ring->few)
        free(ring->chunks);
    ring->chunks = ring->few;
    ring->slots = RING_SLOTS;
    for (size_t i = 0; i < RING_SLOTS; i++)
        ring->few[i] = NULL;
}

void ring_start(struct ring *ring, struct pool *pool)
{
    *ring = (struct ring){ .pool = pool };
    use_inline_slots(ring);
}

/* Makes it wide enough for the chunks [first, last), among them those it holds. */
static bool widen(struct ring *ring, uint64_t first, uint64_t last)
{
    uint64_t held = chunk_of(ring, ring->begin);
    uint32_t slots = ring->slots;

    while (slots < last - first)
        slots *= 2;
    if (slots == ring->slots)
        return true;

    char **chunks = calloc(slots, sizeof chunks[0]);
    if (chunks == NULL)
        return false;
    for (uint64_t number = held; number < held + ring->slots; number++)
        chunks[number % slots] = *slot_of(ring, number);
    if (ring->chunks != ring->few)
        free(ring->chunks);
    ring->chunks = chunks;
    ring->slots = slots;
    return true;
}

static void return_chunks(struct ring *ring, uint64_t first, uint64_t last)
{
    for (uint64_t number = first; number < last; number++) {
        char **slot = slot_of(ring, number);
        if (*slot != NULL)
            pool_return(ring->pool, *slot);
        *slot = NULL;
    }
}

/* Returns those chunks of [from, to) that hold no byte. */
static void return_unused(struct ring *ring, uint64_t from, uint64_t to)
{
    bool     empty = ring->begin == ring->end;
    uint64_t first = chunk_of(ring, from);
    uint64_t last = next_chunk(ring, to);
    uint64_t used = empty ? last : min_offset(chunk_of(ring, ring->begin), last);
    uint64_t unused = empty ? last : next_chunk(ring, ring->end);

    return_chunks(ring, first, used);
    return_chunks(ring, unused > first ? unused : first, last);
}

static void start_at(struct ring *ring, uint64_t offset)
{
    ring->begin = ring->end = offset;
    ring->shift = -offset % CHUNK_SIZE;
}

bool ring_reserve(struct ring *ring, uint64_t from, uint64_t to)
{
    if (ring->begin == ring->end)
        start_at(ring, from);
    if (!widen(ring, chunk_of(ring, min_offset(from, ring->begin)),
               next_chunk(ring, to > ring->end ? to : ring->end)))
        return false;
    for (uint64_t number = chunk_of(ring, from); number < next_chunk(ring, to); number++) {
        char **slot = slot_of(ring, number);
        if (*slot == NULL && (*slot = pool_take(ring->pool)) == NULL) {
            return_unused(ring, from, to);
            return false;
        }
    }
    return true;
}

int ring_pieces(const struct ring *ring, uint64_t from, uint64_t to, struct iovec *piece, int max)
{
    int count = 0;

    while (from < to && count < max) {
        size_t inside = (from + ring->shift) % CHUNK_SIZE;
        size_t length = min_offset(CHUNK_SIZE - inside, to - from);

        piece[count++] = (struct iovec){ *slot_of(ring, chunk_of(ring, from)) + inside, length };
        from += length;
    }
    return count;
}

void ring_commit(struct ring *ring, uint64_t from, uint64_t end, uint64_t to)
{
    if (end > from) {
        ring->begin = min_offset(ring->begin, from);
        ring->end = end > ring->end ? end : ring->end;
    }
    return_unused(ring, from, to);
}

void ring_forget(struct ring *ring, uint64_t needed)
{
    bool     empty = needed >= ring->end;
    uint64_t last = empty ? next_chunk(ring, ring->end) : chunk_of(ring, needed);

    if (ring->begin < needed && ring->begin < ring->end)
        return_chunks(ring, chunk_of(ring, ring->begin), last);
    if (empty && ring->chunks != ring->few)
        use_inline_slots(ring);
    if (ring->begin < needed)
        ring->begin = empty ? ring->end : needed;
}

size_t ring_memory(const struct ring *ring, uint64_t from)
{
    if (from >= ring->end)
        return 0;
    return (next_chunk(ring, ring->end) - chunk_of(ring, from)) * CHUNK_SIZE;
}
