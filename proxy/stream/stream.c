/*
 * stream.c — cursors over a ring of chunks (stream/ring.h), or over pipes (stream/stream_pipes.c).
 *
 * A chunk is borrowed from the pool when a byte is first read into it and goes back when the
 * slowest cursor has left it, so a stream costs what its slowest consumer lags.  An idle stream
 * costs its struct.
 *
 * How much one fill offers the source follows what the last one took, so that small requests borrow
 * one chunk and bulk comes in by the quarter megabyte.
 */
#include "stream_inside.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "stream/pipes.h"

#define FILL_CHUNKS  16 /* one fill reads at most this much, to be fair */
#define DRAIN_CHUNKS 16
#define REST_MAX     ((size_t)4 << 20) /* bytes that one turn copies */

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

struct stream *stream_new(struct pool *chunks, struct pipes *pipes)
{
    struct stream *stream = calloc(1, sizeof *stream);

    if (stream != NULL) {
        ring_start(&stream->ring, chunks);
        stream->pipes = pipes;
        stream->read_size_hint = 1;
    }
    return stream;
}

/* The next rest, if there is one, takes its place. */
static void free_rest(struct stream **link)
{
    struct stream *rest = *link;

    *link = rest->rests;
    rest->rests = NULL;
    stream_free(rest);
}

void stream_free(struct stream *stream)
{
    if (stream == NULL)
        return;
    while (stream->cursors != NULL)
        stream_detach(stream->cursors);
    while (stream->rests != NULL)
        free_rest(&stream->rests);
    ring_forget(&stream->ring, stream->end);
    free(stream);
}

void stream_attach(struct stream *stream, struct cursor *cursor, size_t limit,
                   enum overflow overflow)
{
    assert(limit > 0); /* a cursor that may not lag at all would stop the source */
    assert(limit <= CURSOR_LIMIT_MAX);
    *cursor = (struct cursor){
        .stream = stream,
        .next = stream->cursors,
        .position = stream->end,
        .last = UINT64_MAX,
        .limit = limit & CURSOR_LIMIT_MAX,
        .overflow = overflow,
        .takes_pipes = true,
    };
    stream->cursors = cursor;
    if (stream->leader == NULL && overflow == OVERFLOW_BLOCKS)
        stream->leader = cursor;
}

void stream_detach(struct cursor *cursor)
{
    if (cursor->stream == NULL)
        return;
    cursor_drop_pipes(cursor);
    if (cursor->stream->leader == cursor)
        cursor->stream->leader = NULL;
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
    size_t room = (stream->is_piped ? FILL_CHUNKS : stream->read_size_hint) * (size_t)CHUNK_SIZE;

    if (stream->leader != NULL && stream->leader->piped > 0)
        return 0;
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
static void learn_read_size(struct stream *stream, size_t offered, size_t taken)
{
    if (taken == offered && stream->read_size_hint < FILL_CHUNKS)
        stream->read_size_hint *= 2;
    else if (taken < offered / 4 && stream->read_size_hint > 1)
        stream->read_size_hint /= 2;
}

static enum io fill_memory(struct stream *stream, struct transport *from, size_t room,
                           size_t *moved)
{
    struct iovec space[FILL_CHUNKS + 1];
    uint64_t     limit = stream->end + room;

    *moved = 0;
    stream_leave_pipes(stream);
    if (stream->ring.end < stream->end) /* what it still holds, everybody has had */
        ring_forget(&stream->ring, stream_ring_needed(stream, false));
    if (!ring_reserve(&stream->ring, stream->end, limit))
        return IO_FAILED;
    int     count = ring_pieces(&stream->ring, stream->end, limit, space, FILL_CHUNKS + 1);
    enum io io = transport_read(from, space, count, moved);

    ring_commit(&stream->ring, stream->end, stream->end + *moved, limit);
    stream->end += *moved;
    if (io == IO_OK)
        learn_read_size(stream, room, *moved);
    return io;
}

enum io stream_fill(struct stream *stream, struct transport *from)
{
    enum io io = IO_AGAIN;
    size_t  moved = 0;

    if (stream->ending != NOT_ENDED || !transport_may_read(from))
        return IO_AGAIN;
    stream_choose_form(stream, from);
    size_t room = stream_room(stream);
    if (room == 0)
        return IO_AGAIN;
    if (stream->is_piped)
        io = stream_fill_pipes(stream, from, room, &moved);
    if (io == IO_AGAIN && !stream->is_piped)
        io = fill_memory(stream, from, room, &moved);
    if (io == IO_OK)
        stream_learn_bulk(stream, moved);
    if (io == IO_END)
        stream->ending = ENDED_FIN;
    if (io == IO_FAILED)
        stream->ending = ENDED_RESET;
    return io;
}

/* How far the cursor may go now. */
static uint64_t reach_of(const struct cursor *cursor)
{
    return cursor->last < cursor->stream->end ? cursor->last : cursor->stream->end;
}

static enum io drain_memory(struct cursor *cursor, struct transport *to)
{
    const struct ring *ring = &cursor->stream->ring;
    struct iovec bytes[DRAIN_CHUNKS];
    size_t       moved;
    uint64_t reach = reach_of(cursor);
    if (cursor_piped_from(cursor) < reach)
        reach = cursor_piped_from(cursor);
    int count = ring_pieces(ring, cursor->position, reach, bytes, DRAIN_CHUNKS);
    enum io io = transport_write(to, bytes, count, &moved);

    cursor->position += moved;
    return io;
}

/* IO_FAILED: what it must have in memory to be drained, there is no memory for. */
static enum io drain_some(struct cursor *cursor, struct transport *to)
{
    enum io io = IO_AGAIN;

    cursor->takes_pipes = transport_can_splice(to);
    if (cursor->takes_pipes && cursor->position == cursor_piped_from(cursor))
        io = cursor_drain_pipes(cursor, to);
    if (!transport_can_splice(to) && !cursor_leave_pipes(cursor)) {
        stream_detach(cursor);
        return IO_FAILED;
    }
    if (io == IO_AGAIN && cursor->position < cursor_piped_from(cursor))
        io = drain_memory(cursor, to);
    return io;
}

enum io cursor_drain(struct cursor *cursor, struct transport *to)
{
    const struct stream *stream = cursor->stream;
    enum io              io = IO_AGAIN;

    if (stream == NULL)
        return IO_FAILED;
    if (cursor->position < reach_of(cursor))
        io = drain_some(cursor, to);
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

size_t stream_peek(struct stream *stream, uint64_t from, void *room, size_t max)
{
    struct iovec piece;

    if (from < stream->begin || from >= stream->end)
        return 0;
    if (stream->ring.begin > from || stream->ring.end <= from)
        return stream_peek_pipe(stream, from, room, max);
    ring_pieces(&stream->ring, from, stream->ring.end, &piece, 1);
    size_t length = min_size(max, piece.iov_len);
    memcpy(room, piece.iov_base, length);
    return length;
}

size_t stream_buffered(const struct stream *stream)
{
    size_t bytes = stream->end - stream->begin;

    for (const struct stream *rest = stream->rests; rest != NULL; rest = rest->rests)
        if (rest->cursors != NULL)
            bytes += cursor_lag(rest->cursors);
    return bytes;
}

size_t stream_shadow_only_bytes(const struct stream *stream)
{
    return stream->shadow_only_bytes;
}

/* Memory alone, from its place to the end of its share, with the offsets of the stream it is from. */
static struct stream *copy_rest(const struct stream *stream, const struct cursor *cursor)
{
    struct stream *rest = stream_new(stream->ring.pool, NULL);

    if (rest == NULL || !ring_reserve(&rest->ring, cursor->position, cursor->last)) {
        stream_free(rest);
        return NULL;
    }
    for (uint64_t at = cursor->position; at < cursor->last;) {
        struct iovec from, to;

        ring_pieces(&stream->ring, at, cursor->last, &from, 1);
        ring_pieces(&rest->ring, at, at + from.iov_len, &to, 1);
        memcpy(to.iov_base, from.iov_base, to.iov_len);
        at += to.iov_len;
    }
    ring_commit(&rest->ring, cursor->position, cursor->last, cursor->last);
    rest->begin = cursor->position;
    rest->end = cursor->last;
    return rest;
}

/* A cursor with a share takes no more than that, however much follows: what it has yet to take gets a
 * stream of its own, and this one can forget it.  False: it is too much, or there is no memory. */
static bool set_rest_aside(struct stream *stream, struct cursor *cursor)
{
    uint64_t left = cursor->last - cursor->position;

    if (cursor->last > stream->end || left > cursor->limit || left > REST_MAX ||
        !cursor_leave_pipes(cursor))
        return false;
    struct stream *rest = copy_rest(stream, cursor);
    if (rest == NULL)
        return false;
    stream_detach(cursor);
    cursor->stream = rest;
    cursor->next = NULL;
    rest->cursors = cursor;
    rest->rests = stream->rests;
    stream->rests = rest;
    return true;
}

/* Forgets what their cursors have had; answers the memory that they take. */
static size_t settle_rests(struct stream *stream)
{
    size_t memory = 0;

    for (struct stream **link = &stream->rests; *link != NULL;) {
        struct stream *rest = *link;

        if (rest->cursors == NULL) {
            free_rest(link);
            continue;
        }
        ring_forget(&rest->ring, rest->cursors->position);
        memory += ring_memory(&rest->ring, rest->cursors->position);
        link = &rest->rests;
    }
    return memory;
}

static bool lags_too_much(const struct cursor *cursor)
{
    return cursor->overflow == OVERFLOW_DETACHES && cursor_lag(cursor) > cursor->limit;
}

bool stream_settle(struct stream *stream)
{
    uint64_t needed = stream->end;
    bool     detached = false;

    for (struct cursor *c = stream->cursors, *next; c != NULL; c = next) {
        next = c->next;
        if (lags_too_much(c) && set_rest_aside(stream, c))
            continue;
        if (lags_too_much(c)) {
            stream_detach(c);
            detached = true;
        } else if (c->position < needed) {
            needed = c->position;
        }
    }
    stream->begin = needed;

    uint64_t in_ring = stream_ring_needed(stream, false);
    uint64_t in_ring_by_blocking = stream_ring_needed(stream, true);
    ring_forget(&stream->ring, in_ring);
    stream->shadow_only_bytes = ring_memory(&stream->ring, in_ring) -
                                ring_memory(&stream->ring, in_ring_by_blocking) +
                                stream_piped_memory(stream) + settle_rests(stream);
    return detached;
}
