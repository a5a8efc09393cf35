/*
 * stream.h — one direction of bytes, kept until every cursor has had them.
 *
 *                   begin                              end
 *   forgotten ........|==================================|........ not yet read
 *                     ^            ^                     ^
 *                  slowest      another               fastest
 *                  cursor       cursor                cursor
 *
 * Bytes enter once, at the end.  A cursor is one consumer's place in the
 * stream.  How far a cursor may fall behind is its limit; what happens there is
 * its overflow policy: hold the source back, or let the stream go on without
 * that consumer.  A cursor whose share ends earlier is not behind because more
 * follows: what it has yet to take is set aside for it alone.
 *
 * Bytes are kept in chunks of memory or, where sockets allow it and the traffic
 * is worth it, in pipes of the kernel; nobody outside can tell the difference.
 *
 * Offsets count bytes since the stream began, so they only grow.
 */
#ifndef STREAM_STREAM_H
#define STREAM_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/transport.h"

struct pipe;
struct pipes;
struct pool;
struct stream;

enum overflow {
    OVERFLOW_BLOCKS,    /* stop reading the source until this cursor catches up */
    OVERFLOW_DETACHES,  /* cut this cursor off; everyone else goes on */
};

/* What the consumers are to see after the last byte. */
enum ending {
    NOT_ENDED,
    ENDED_FIN,    /* the source finished */
    ENDED_RESET,  /* the source broke off */
};

#define CURSOR_LIMIT_BITS 48
#define CURSOR_LIMIT_MAX (((uint64_t)1 << CURSOR_LIMIT_BITS) - 1)

/* Embedded by its owner; attached between stream_attach() and stream_detach(). */
struct cursor {
    struct stream *stream;   /* NULL: detached */
    struct cursor *next;
    uint64_t       position; /* the next byte this consumer will take */
    uint64_t       last;     /* where its share ends; UINT64_MAX: with the stream */
    uint64_t       limit : CURSOR_LIMIT_BITS;  /* bytes it may lag */
    enum overflow  overflow : 8;
    bool           takes_pipes : 1; /* as far as is known of its transport */
    struct pipe   *pipes;    /* with the last bytes of the stream, in order */
    size_t         piped;    /* how many; 0: what it has yet to take is all in memory */
};

/* pipes NULL: memory alone.  NULL when there is no memory.  An empty stream holds no chunk and, once
 * it is settled, no pipe. */
struct stream *stream_new(struct pool *chunks, struct pipes *pipes);
void           stream_free(struct stream *);

/* The new cursor starts at the end: it sees only bytes that enter later.  The first one that blocks
 * leads: into pipes nothing enters before it has taken what came before. */
void stream_attach(struct stream *, struct cursor *, size_t limit, enum overflow);
void stream_detach(struct cursor *);
/* The cursor's share ends at this offset, whatever enters later.  Once all of its share has entered,
 * only that counts against its limit, if there is memory for a copy and no more than 4 MiB are left. */
void cursor_stop_at(struct cursor *, uint64_t last);

/* Moves bytes from the transport into the stream, as far as there is room.
 * IO_FAILED: the source is gone, or there is no memory; what entered before
 * stays for the cursors. */
enum io     stream_fill(struct stream *, struct transport *from);
enum ending stream_ending(const struct stream *);
/* Nothing more will enter: the consumers get what is kept, then a reset.  A stream that has ended
 * already stays as it is. */
void        stream_break(struct stream *);

/* Moves bytes from the cursor's place to the transport.  IO_END: the stream has
 * ended, or the cursor's share of it, and this cursor has delivered all of it, in this call or before.
 * IO_FAILED: the transport is gone, or the cursor is detached. */
enum io cursor_drain(struct cursor *, struct transport *to);

/* Applies the overflow policies, then forgets the bytes no cursor still needs.
 * Call it after every cursor has had its turn.  True: it detached a cursor, whose
 * owner needs one more turn to notice; call it again after that turn. */
bool stream_settle(struct stream *);

size_t   stream_room(const struct stream *);
bool     stream_wants_more(const struct stream *);  /* room, and not ended */
uint64_t stream_total(const struct stream *);       /* bytes that ever entered */
/* Copies bytes from this offset on, as far as they are kept and lie together; answers how many. */
size_t   stream_peek(struct stream *, uint64_t from, void *room, size_t max);
size_t   stream_buffered(const struct stream *);    /* bytes kept */
/* Memory that only cursors that may be detached still need, as of the last stream_settle(); a pipe
 * with bytes in it counts as a whole one. */
size_t   stream_shadow_only_bytes(const struct stream *);
size_t   cursor_lag(const struct cursor *);         /* what is kept for it; 0 once detached */
bool     cursor_is_at_last(const struct cursor *);  /* it has had its share: see cursor_stop_at() */

#endif
