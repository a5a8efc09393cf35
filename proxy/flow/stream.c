/*
 * stream.c — a bounded ring of chunks.
 *
 * Chunk number n holds the offsets [n * CHUNK_SIZE, (n + 1) * CHUNK_SIZE) and
 * lives in slot n % slots.  A chunk is borrowed from the pool when a byte is
 * first read into it and goes back when the slowest cursor has left it, so a
 * stream costs what its slowest consumer lags.  The ring starts inside the
 * struct, grows with the lag and goes back when the stream is empty: an idle
 * stream costs its struct, and small traffic allocates nothing.
 *
 * How much one fill offers the source follows what the last one took, so that
 * small requests borrow one chunk and bulk comes in by the quarter megabyte.
 */
#include "stream.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"

#define FILL_CHUNKS  16 /* one fill reads at most this much, to be fair */
#define DRAIN_CHUNKS 16
#define INLINE_SLOTS 4  /* a power of two */

struct stream {
    struct pool   *pool;
    struct cursor *cursors;
    uint64_t       begin;   /* offsets [begin, end) are kept */
    uint64_t       end;
    size_t         spared;  /* see stream_spared() */
    size_t         slots;
    char         **chunks;  /* few, or a larger ring of its own */
    char          *few[INLINE_SLOTS];
    size_t         appetite; /* chunks the next fill offers */
    enum ending    ending;
};

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static char **slot_of(struct stream *stream, uint64_t number)
{
    return &stream->chunks[number % stream->slots];
}

/* The number of the first chunk that starts at or after this offset. */
static uint64_t next_chunk(uint64_t offset)
{
    return (offset + CHUNK_SIZE - 1) / CHUNK_SIZE;
}

/* Describes the bytes [from, to) as chunk-sized pieces. */
static int pieces(struct stream *stream, uint64_t from, uint64_t to, struct iovec *piece, int max)
{
    int count = 0;

    while (from < to && count < max) {
        size_t inside = from % CHUNK_SIZE;
        size_t length = min_size(CHUNK_SIZE - inside, to - from);

        piece[count++] = (struct iovec){ *slot_of(stream, from / CHUNK_SIZE) + inside, length };
        from += length;
    }
    return count;
}

/* Makes the ring wide enough for the chunks [first, last). */
static bool widen(struct stream *stream, uint64_t first, uint64_t last)
{
    size_t slots = stream->slots;

    while (slots < last - first)
        slots *= 2;
    if (slots == stream->slots)
        return true;

    char **chunks = calloc(slots, sizeof chunks[0]);
    if (chunks == NULL)
        return false;
    for (uint64_t number = first; number < first + stream->slots; number++)
        chunks[number % slots] = *slot_of(stream, number);
    if (stream->chunks != stream->few)
        free(stream->chunks);
    stream->chunks = chunks;
    stream->slots = slots;
    return true;
}

static void use_inline_ring(struct stream *stream)
{
    if (stream->chunks != stream->few)
        free(stream->chunks);
    stream->chunks = stream->few;
    stream->slots = INLINE_SLOTS;
    for (size_t i = 0; i < INLINE_SLOTS; i++)
        stream->few[i] = NULL;
}

static bool borrow_chunks(struct stream *stream, uint64_t to)
{
    if (!widen(stream, stream->begin / CHUNK_SIZE, next_chunk(to)))
        return false;
    for (uint64_t number = stream->end / CHUNK_SIZE; number < next_chunk(to); number++) {
        char **slot = slot_of(stream, number);
        if (*slot == NULL && (*slot = pool_take(stream->pool)) == NULL)
            return false;
    }
    return true;
}

/* Chunks that the ring does not reach (it could not be widened) were never borrowed. */
static void return_chunks(struct stream *stream, uint64_t first, uint64_t last)
{
    uint64_t reach = stream->begin / CHUNK_SIZE + stream->slots;

    for (uint64_t number = first; number < last && number < reach; number++) {
        char **slot = slot_of(stream, number);
        if (*slot != NULL)
            pool_return(stream->pool, *slot);
        *slot = NULL;
    }
}

/* Drops the bytes before this offset; an empty stream keeps no chunk and no ring. */
static void forget(struct stream *stream, uint64_t needed)
{
    bool     empty = needed == stream->end;
    uint64_t last = empty ? next_chunk(needed) : needed / CHUNK_SIZE;

    if (stream->begin < needed)
        return_chunks(stream, stream->begin / CHUNK_SIZE, last);
    if (empty && stream->chunks != stream->few)
        use_inline_ring(stream);
    stream->begin = needed;
}

struct stream *stream_new(struct pool *pool)
{
    struct stream *stream = calloc(1, sizeof *stream);

    if (stream != NULL) {
        stream->pool = pool;
        stream->appetite = 1;
        use_inline_ring(stream);
    }
    return stream;
}

void stream_free(struct stream *stream)
{
    if (stream == NULL)
        return;
    while (stream->cursors != NULL)
        stream_detach(stream->cursors);
    forget(stream, stream->end);
    free(stream);
}

void stream_attach(struct stream *stream, struct cursor *cursor, size_t limit,
                   enum overflow overflow)
{
    assert(limit > 0); /* a cursor that may not lag at all would stop the source */
    *cursor = (struct cursor){
        .stream = stream,
        .next = stream->cursors,
        .position = stream->end,
        .last = UINT64_MAX,
        .limit = limit,
        .overflow = overflow,
    };
    stream->cursors = cursor;
}

void stream_detach(struct cursor *cursor)
{
    if (cursor->stream == NULL)
        return;
    struct cursor **link = &cursor->stream->cursors;
    while (*link != cursor)
        link = &(*link)->next;
    *link = cursor->next;
    cursor->stream = NULL;
}

void cursor_stop_at(struct cursor *cursor, uint64_t last)
{
    assert(last > cursor->position);
    cursor->last = last;
}

bool cursor_is_at_last(const struct cursor *cursor)
{
    return cursor->position == cursor->last;
}

size_t cursor_lag(const struct cursor *cursor)
{
    return cursor->stream != NULL ? cursor->stream->end - cursor->position : 0;
}

/* The slowest blocking cursor decides; with none, the source runs free.  One that may be detached
 * never holds the source back, but no single fill is larger than what it may lag: a consumer that
 * keeps pace must not be cut for one big read. */
size_t stream_room(const struct stream *stream)
{
    size_t room = stream->appetite * CHUNK_SIZE;

    for (const struct cursor *c = stream->cursors; c != NULL; c = c->next) {
        size_t lag = c->overflow == OVERFLOW_BLOCKS ? cursor_lag(c) : 0;

        room = min_size(room, lag < c->limit ? c->limit - lag : 0);
    }
    return room;
}

bool stream_wants_more(const struct stream *stream)
{
    return stream->ending == NOT_ENDED && stream_room(stream) > 0;
}

enum ending stream_ending(const struct stream *stream)
{
    return stream->ending;
}

void stream_break(struct stream *stream)
{
    if (stream->ending == NOT_ENDED)
        stream->ending = ENDED_RESET;
}

/* A fill that took everything is offered twice as much next time, one that took little, half. */
static void learn_appetite(struct stream *stream, size_t offered, size_t taken)
{
    if (taken == offered && stream->appetite < FILL_CHUNKS)
        stream->appetite *= 2;
    else if (taken < offered / 4 && stream->appetite > 1)
        stream->appetite /= 2;
}

enum io stream_fill(struct stream *stream, struct transport *from)
{
    struct iovec space[FILL_CHUNKS + 1];
    size_t       room = stream->ending == NOT_ENDED ? stream_room(stream) : 0;
    size_t       moved = 0;

    if (room == 0 || !transport_may_read(from))
        return IO_AGAIN;

    uint64_t limit = stream->end + room;
    enum io  io = IO_FAILED;
    if (borrow_chunks(stream, limit)) {
        int count = pieces(stream, stream->end, limit, space, FILL_CHUNKS + 1);

        io = transport_read(from, space, count, &moved);
    }
    stream->end += moved;
    /* Where nothing is kept, the chunk that was begun goes back, too. */
    uint64_t unused =
        stream->begin < stream->end ? next_chunk(stream->end) : stream->end / CHUNK_SIZE;
    return_chunks(stream, unused, next_chunk(limit));
    if (io == IO_OK)
        learn_appetite(stream, room, moved);
    if (io == IO_END)
        stream->ending = ENDED_FIN;
    if (io == IO_FAILED)
        stream->ending = ENDED_RESET;
    return io;
}

enum io cursor_drain(struct cursor *cursor, struct transport *to)
{
    struct stream *stream = cursor->stream;
    struct iovec bytes[DRAIN_CHUNKS];
    enum io io = IO_AGAIN;
    size_t moved = 0;

    if (stream == NULL)
        return IO_FAILED;
    uint64_t reach = cursor->last < stream->end ? cursor->last : stream->end;
    if (cursor->position < reach) {
        int count = pieces(stream, cursor->position, reach, bytes, DRAIN_CHUNKS);
        io = transport_write(to, bytes, count, &moved);
        cursor->position += moved;
    }
    /* The end must be told in the turn that delivers the last byte: nothing
     * would wake this consumer once more. */
    bool finished = cursor_is_at_last(cursor) ||
                    (stream->ending != NOT_ENDED && cursor->position == stream->end);
    return finished && io != IO_FAILED ? IO_END : io;
}

uint64_t stream_total(const struct stream *stream)
{
    return stream->end;
}

size_t stream_peek(const struct stream *stream, void *room, size_t most)
{
    size_t inside = stream->begin % CHUNK_SIZE;
    size_t length = min_size(most, min_size(CHUNK_SIZE - inside, stream_buffered(stream)));

    if (length > 0)
        memcpy(room, stream->chunks[stream->begin / CHUNK_SIZE % stream->slots] + inside, length);
    return length;
}

size_t stream_buffered(const struct stream *stream)
{
    return stream->end - stream->begin;
}

size_t stream_spared(const struct stream *stream)
{
    return stream->spared;
}

bool stream_settle(struct stream *stream)
{
    uint64_t needed = stream->end;         /* by anyone */
    uint64_t needed_by_blocking = stream->end;
    bool     detached = false;

    for (struct cursor *c = stream->cursors, *next; c != NULL; c = next) {
        next = c->next;
        if (c->overflow == OVERFLOW_DETACHES && cursor_lag(c) > c->limit) {
            stream_detach(c);
            detached = true;
            continue;
        }
        if (c->position < needed)
            needed = c->position;
        if (c->overflow == OVERFLOW_BLOCKS && c->position < needed_by_blocking)
            needed_by_blocking = c->position;
    }
    forget(stream, needed);
    stream->spared = 0;
    if (needed < needed_by_blocking) {
        uint64_t last = needed_by_blocking < stream->end ? needed_by_blocking / CHUNK_SIZE
                                                         : next_chunk(stream->end);
        stream->spared = (last - needed / CHUNK_SIZE) * CHUNK_SIZE;
    }
    return detached;
}
