/*
 * stream.c — cursors over a ring of chunks (flow/ring.h).
 *
 * A chunk is borrowed from the pool when a byte is first read into it and goes back when the
 * slowest cursor has left it, so a stream costs what its slowest consumer lags.  An idle stream
 * costs its struct.
 *
 * How much one fill offers the source follows what the last one took, so that small requests borrow
 * one chunk and bulk comes in by the quarter megabyte.
 */
#include "stream.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "flow/ring.h"

#define FILL_CHUNKS  16 /* one fill reads at most this much, to be fair */
#define DRAIN_CHUNKS 16

struct stream {
    struct cursor *cursors;
    uint64_t       begin;    /* offsets [begin, end) are kept */
    uint64_t       end;
    size_t         spared;   /* see stream_spared() */
    struct ring    ring;
    size_t         appetite; /* chunks the next fill offers */
    enum ending    ending;
};

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

struct stream *stream_new(struct pool *pool)
{
    struct stream *stream = calloc(1, sizeof *stream);

    if (stream != NULL) {
        ring_start(&stream->ring, pool);
        stream->appetite = 1;
    }
    return stream;
}

void stream_free(struct stream *stream)
{
    if (stream == NULL)
        return;
    while (stream->cursors != NULL)
        stream_detach(stream->cursors);
    ring_forget(&stream->ring, stream->end);
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
    if (ring_reserve(&stream->ring, stream->end, limit)) {
        int count = ring_pieces(&stream->ring, stream->end, limit, space, FILL_CHUNKS + 1);

        io = transport_read(from, space, count, &moved);
        ring_commit(&stream->ring, stream->end, stream->end + moved, limit);
    }
    stream->end += moved;
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
    if (cursor->position < stream->end) {
        int count = ring_pieces(&stream->ring, cursor->position, stream->end, bytes, DRAIN_CHUNKS);
        io = transport_write(to, bytes, count, &moved);
        cursor->position += moved;
    }
    /* The end must be told in the turn that delivers the last byte: nothing
     * would wake this consumer once more. */
    bool finished = stream->ending != NOT_ENDED && cursor->position == stream->end;
    return finished && io != IO_FAILED ? IO_END : io;
}

uint64_t stream_total(const struct stream *stream)
{
    return stream->end;
}

size_t stream_peek(const struct stream *stream, void *room, size_t most)
{
    struct iovec piece;
    size_t       length = 0;

    if (ring_pieces(&stream->ring, stream->begin, stream->end, &piece, 1) > 0) {
        length = min_size(most, piece.iov_len);
        memcpy(room, piece.iov_base, length);
    }
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
    stream->begin = needed;
    ring_forget(&stream->ring, needed);
    stream->spared =
        ring_memory(&stream->ring, needed) - ring_memory(&stream->ring, needed_by_blocking);
    return detached;
}
