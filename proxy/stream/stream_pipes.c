/*
 * stream_pipes.c — a stream whose bytes go from socket to socket without coming to memory.
 *
 *     source ──splice──▶ [ leader's pipe ] ──splice──▶ the leader: the primary, or the client
 *                               │ tee
 *                               └──▶ [ cursor's pipe ][ pipe ][ pipe ] ──splice──▶ a shadow
 *                                          │ too many of them
 *                                          └──read──▶ ring ──write──▶ the same shadow
 *
 * Nothing is spliced in before the leader's pipe is empty, and all of it is copied to every other
 * cursor in the same call.  So the pipes of each cursor hold the last bytes of the stream, no byte
 * can be had twice or missed, and "no more" from the source means just that: a full pipe would say
 * the same.
 *
 * tee(2) into an empty pipe of the same size is never cut short, into another it may be.  Then the
 * bytes are copied once more, into an empty one, and those at the end of the other do not count.
 * Whoever lags so far that it has too many pipes has the first of them read out: it pays for a copy,
 * the others do not.  If a copy should be short all the same, the leader's bytes go to memory, for
 * all.
 */
#include "stream_inside.h"

#include "base/pool.h"
#include "stream/pipes.h"

#define BULK        16384 /* a read of at least so many bytes is worth a pipe */
#define BULK_READS  4     /* in a row, then pipes are used */
#define RETRY_READS 256   /* large ones, until pipes that failed are tried again */
#define MAX_PIPES  32    /* of one cursor, if its limit is for so many */
#define PIPE_MAX   ((size_t)512 << 10) /* bytes in one: they may have to be read in one turn */
#define DRAIN_MAX  ((size_t)256 << 10) /* then no further pipe is begun in this turn */
#define MAX_PIECES (PIPE_MAX / CHUNK_SIZE + 2)

uint64_t cursor_piped_from(const struct cursor *cursor)
{
    return cursor->stream->end - cursor->piped;
}

uint64_t stream_ring_needed(const struct stream *stream, bool only_blocking)
{
    uint64_t needed = UINT64_MAX;

    for (const struct cursor *c = stream->cursors; c != NULL; c = c->next) {
        bool counts = !only_blocking || c->overflow == OVERFLOW_BLOCKS;

        if (counts && c->position < cursor_piped_from(c) && c->position < needed)
            needed = c->position;
    }
    return needed;
}

static void drop_first(struct cursor *cursor)
{
    struct pipe *pipe = cursor->pipes;

    cursor->pipes = pipe->next;
    cursor->piped -= pipe->bytes;
    pipes_return(cursor->stream->pipes, pipe);
}

void cursor_drop_pipes(struct cursor *cursor)
{
    while (cursor->pipes != NULL)
        drop_first(cursor);
}

/* --- from pipes to memory ---------------------------------------------------------------- */

static bool ring_holds(const struct ring *ring, uint64_t from, uint64_t to)
{
    return ring->begin <= from && to <= ring->end && ring->begin < ring->end;
}

static bool ring_touches(const struct ring *ring, uint64_t from, uint64_t to)
{
    return ring->begin == ring->end || (ring->begin <= to && from <= ring->end);
}

/* Into the room that has been reserved. */
static bool read_pipes(struct cursor *cursor, uint64_t from, uint64_t to)
{
    const struct ring *ring = &cursor->stream->ring;
    struct iovec       pieces[MAX_PIECES];

    for (struct pipe *pipe = cursor->pipes; from < to; pipe = pipe->next) {
        size_t bytes = pipe->bytes;
        int    count = ring_pieces(ring, from, from + bytes, pieces, (int)MAX_PIECES);

        if (!pipe_read(pipe, pieces, count))
            return false;
        cursor->piped -= bytes;
        from += bytes;
    }
    return true;
}

/* Brings the bytes of its first pipes, up to that offset, to the ring, unless they are there. */
static bool leave_until(struct cursor *cursor, uint64_t to)
{
    struct ring *ring = &cursor->stream->ring;
    uint64_t     from = cursor_piped_from(cursor);

    if (!ring_holds(ring, from, to)) {
        if (!ring_reserve(ring, from, to))
            return false;
        bool is_read = read_pipes(cursor, from, to);
        ring_commit(ring, from, is_read ? to : from, to);
        if (!is_read)
            return false;
    }
    while (cursor->pipes != NULL && (cursor->pipes->bytes == 0 || cursor_piped_from(cursor) < to))
        drop_first(cursor);
    return true;
}

/* Whose pipes continue what the ring holds: the cursor's own, or those of one which is further
 * behind and has the bytes between. */
static struct cursor *next_to_ring(struct cursor *cursor)
{
    const struct stream *stream = cursor->stream;

    for (struct cursor *c = stream->cursors; c != NULL; c = c->next) {
        if (ring_touches(&stream->ring, cursor_piped_from(cursor), stream->end))
            break;
        if (c->piped > cursor->piped)
            cursor = c;
    }
    return cursor;
}

bool cursor_leave_pipes(struct cursor *cursor)
{
    struct stream *stream = cursor->stream;

    if (cursor->piped > 0)
        ring_forget(&stream->ring, stream_ring_needed(stream, false));
    while (cursor->piped > 0)
        if (!leave_until(next_to_ring(cursor), stream->end))
            return false;
    return true;
}

/* Makes room for one more pipe. */
static bool leave_first(struct cursor *cursor)
{
    struct ring *ring = &cursor->stream->ring;
    uint64_t     from = cursor_piped_from(cursor);

    ring_forget(ring, stream_ring_needed(cursor->stream, false));
    if (!ring_touches(ring, from, from + cursor->pipes->bytes))
        return cursor_leave_pipes(cursor);
    return leave_until(cursor, from + cursor->pipes->bytes);
}

void stream_leave_pipes(struct stream *stream)
{
    for (struct cursor *c = stream->cursors, *next; c != NULL; c = next) {
        next = c->next;
        if (!cursor_leave_pipes(c))
            stream_detach(c);
    }
}

/* --- from the source to pipes ------------------------------------------------------------ */

static bool anyone_is_piped(const struct stream *stream)
{
    for (const struct cursor *c = stream->cursors; c != NULL; c = c->next)
        if (c->piped > 0)
            return true;
    return false;
}

/* Once in pipes, it stays there until they are empty: bringing them to memory would be the dearer. */
void stream_choose_form(struct stream *stream, const struct transport *from)
{
    if (stream->pipes == NULL)
        return;
    bool eager = pipes_are_eager(stream->pipes);

    if (stream->leader == NULL || !stream->leader->takes_pipes || !transport_can_splice(from))
        stream->is_piped = false;
    else if (stream->is_piped)
        stream->is_piped = eager || stream->bulk > 0 || anyone_is_piped(stream);
    else
        stream->is_piped = stream->bulk >= (eager ? 0 : BULK_READS);
}

void stream_learn_bulk(struct stream *stream, size_t moved)
{
    if (moved >= BULK && stream->bulk < BULK_READS)
        stream->bulk++;
    else if (moved < BULK && stream->bulk > 0)
        stream->bulk--;
}

static void fall_back(struct stream *stream)
{
    stream->is_piped = false;
    stream->bulk = -RETRY_READS;
}

static size_t pipe_count(const struct cursor *cursor, struct pipe **last)
{
    size_t count = 0;

    *last = NULL;
    for (struct pipe *pipe = cursor->pipes; pipe != NULL; pipe = pipe->next) {
        *last = pipe;
        count++;
    }
    return count;
}

/* Into a pipe of its own.  False: there is none, or the copy was short. */
static bool append_copy(struct cursor *cursor, struct pipe *from, size_t bytes)
{
    struct pipes *pipes = cursor->stream->pipes;
    struct pipe  *pipe = pipes_take(pipes);
    struct pipe  *last;

    if (pipe == NULL)
        return false;
    if (pipe_copy(from, pipe, bytes) < bytes) {
        pipes_count_fallback(pipes, COUNT_SPLICE_SHORT);
        pipes_return(pipes, pipe);
        return false;
    }
    if (pipe_count(cursor, &last) == 0)
        cursor->pipes = pipe;
    else
        last->next = pipe;
    return true;
}

/* Whatever little is in a pipe may keep as much memory as a whole one. */
static size_t max_pipes(const struct cursor *cursor)
{
    size_t max = cursor->limit / PIPE_SIZE;

    if (max == 0)
        return 1;
    return max < MAX_PIPES ? max : MAX_PIPES;
}

/* False: the cursor has not got them, and has no pipe. */
static bool share(struct cursor *cursor, struct pipe *from, size_t bytes)
{
    struct pipe *last;
    size_t       count = pipe_count(cursor, &last);

    if (last != NULL && last->bytes + bytes <= PIPE_MAX && pipe_copy(from, last, bytes) == bytes)
        return true;
    if (count > 0 && (count >= max_pipes(cursor) || pipes_are_scarce(cursor->stream->pipes)) &&
        !leave_first(cursor)) {
        stream_detach(cursor);
        return true;
    }
    if (append_copy(cursor, from, bytes))
        return true;
    if (!cursor_leave_pipes(cursor))
        stream_detach(cursor);
    return false;
}

/* Copies what has come to the leader's pipe to all others.  Nothing is counted before everybody's
 * bytes can be: until then each cursor's pipes end where the stream did. */
static bool share_with_all(struct stream *stream, size_t bytes)
{
    struct pipe *from = stream->leader->pipes;
    bool         complete = true;

    for (struct cursor *c = stream->cursors, *next; c != NULL; c = next) {
        next = c->next;
        if (c != stream->leader)
            complete &= share(c, from, bytes);
    }
    stream->end += bytes;
    for (struct cursor *c = stream->cursors; c != NULL; c = c->next) {
        struct pipe *last;

        if (pipe_count(c, &last) > 0) {
            last->bytes += bytes;
            c->piped += bytes;
        }
    }
    return complete;
}

/* Without a pipe after a fill: no copy could be made, or it was lost when the cursor's pipes had to be
 * read out because another one's were. */
static bool somebody_is_without(const struct stream *stream)
{
    const struct cursor *c = stream->cursors;

    while (c != NULL && c->pipes != NULL)
        c = c->next;
    return c != NULL;
}

static void cut_those_without(struct stream *stream)
{
    for (struct cursor *c = stream->cursors, *next; c != NULL; c = next) {
        next = c->next;
        if (c->pipes == NULL)
            stream_detach(c);
    }
}

enum io stream_fill_pipes(struct stream *stream, struct transport *from, size_t room, size_t *moved)
{
    struct cursor *leader = stream->leader;

    *moved = 0;
    leader->pipes =
        pipes_take(stream->pipes); /* it had none with bytes, or there would be no room */
    if (leader->pipes == NULL) {
        fall_back(stream);
        return IO_AGAIN;
    }
    enum io io = transport_splice_in(from, leader->pipes->in, room, moved);
    if (!transport_can_splice(from)) {
        pipes_count_fallback(stream->pipes, COUNT_SPLICE_REFUSED);
        fall_back(stream);
    }
    if (*moved == 0)
        drop_first(leader);
    else if (!share_with_all(stream, *moved))
        fall_back(stream);
    if (*moved > 0 && somebody_is_without(stream) && !cursor_leave_pipes(leader))
        cut_those_without(stream);
    return io;
}

/* --- from pipes to the consumers --------------------------------------------------------- */

/* Answers whether there may be room for more. */
static bool drain_first(struct cursor *cursor, struct transport *to, enum io *io)
{
    struct pipe *pipe = cursor->pipes;
    uint64_t     share = cursor->last - cursor->position;
    size_t       max = pipe->bytes < share ? pipe->bytes : share;
    size_t       moved;

    *io = transport_splice_out(to, pipe->out, max, &moved);
    pipe->bytes -= moved;
    cursor->piped -= moved;
    cursor->position += moved;
    if (pipe->bytes > 0)
        return false;
    drop_first(cursor);
    return true;
}

enum io cursor_drain_pipes(struct cursor *cursor, struct transport *to)
{
    uint64_t share = cursor->last - cursor->position;
    uint64_t until = cursor->position + (share < DRAIN_MAX ? share : DRAIN_MAX);
    enum io  first;
    enum io  io;
    bool     more = drain_first(cursor, to, &first);

    for (io = first; more && cursor->pipes != NULL && cursor->position < until;)
        more = drain_first(cursor, to, &io);
    return first == IO_OK && io == IO_AGAIN ? IO_OK : io;
}

/* Pipes of a cursor that may be detached count as whole ones. */
size_t stream_piped_memory(const struct stream *stream)
{
    size_t memory = 0;

    for (const struct cursor *c = stream->cursors; c != NULL; c = c->next)
        for (struct pipe *p = c->pipes; p != NULL && c->overflow == OVERFLOW_DETACHES; p = p->next)
            memory += p->bytes > PIPE_SIZE ? p->bytes : PIPE_SIZE;
    return memory;
}

size_t stream_peek_pipe(struct stream *stream, uint64_t from, void *room, size_t max)
{
    struct cursor *first = stream->cursors;

    while (first != NULL && (first->position != from || first->piped == 0))
        first = first->next;
    struct pipe *copy = first != NULL ? pipes_take(stream->pipes) : NULL;
    if (copy == NULL)
        return 0;

    size_t       bytes = copy->bytes = pipe_copy(first->pipes, copy, max);
    struct iovec piece = { room, bytes };
    if (!pipe_read(copy, &piece, 1))
        bytes = 0;
    pipes_return(stream->pipes, copy);
    return bytes;
}
