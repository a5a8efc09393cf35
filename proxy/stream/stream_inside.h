/*
 * stream_inside.h — what stream.c and stream_pipes.c know of each other; nobody else includes it.
 *
 *     one cursor's bytes:    position        piped from            end
 *                            |===============|=====================|
 *                              in the ring     in the cursor's pipes
 *
 * In memory alone, no cursor has a pipe: what it has yet to take is all in the ring.
 */
#ifndef STREAM_STREAM_INSIDE_H
#define STREAM_STREAM_INSIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stream/ring.h"
#include "stream/stream.h"

struct stream {
    struct cursor *cursors;
    struct stream *rests;  /* what cursors have left of their shares, each a stream of its own that
                              * one cursor reads; of such a one: the next */
    struct cursor *leader;   /* what is spliced goes to its pipe; NULL: nothing can be */
    uint64_t       begin;    /* offsets [begin, end) are kept */
    uint64_t       end;
    size_t         shadow_only_bytes;   /* see stream_shadow_only_bytes() */
    struct ring    ring;
    struct pipes  *pipes;    /* NULL: memory alone */
    int16_t bulk;        /* large reads in a row; below 0: so many until pipes are tried again */
    uint8_t        read_size_hint; /* chunks the next fill offers, into memory */
    bool           is_piped; /* the next fill goes into pipes */
    enum ending    ending;
};

/* Where the bytes begin that the cursor will find in its pipes. */
uint64_t cursor_piped_from(const struct cursor *);
/* Lets go of its pipes, and of what is in them. */
void     cursor_drop_pipes(struct cursor *);
/* Brings what is in its pipes to the ring.  False: no memory. */
bool     cursor_leave_pipes(struct cursor *);

/* Which way the next fill takes: computed from what stream_learn_bulk() was told of the last. */
void    stream_choose_form(struct stream *, const struct transport *from);
void    stream_learn_bulk(struct stream *, size_t moved);
/* Everything kept is in the ring after it; whoever there is no memory for is cut off. */
void    stream_leave_pipes(struct stream *);
/* As stream_fill(), into pipes.  When they cannot be had it clears is_piped and moves nothing. */
enum io stream_fill_pipes(struct stream *, struct transport *from, size_t room, size_t *moved);
/* As cursor_drain(), for one whose next byte is in a pipe. */
enum io cursor_drain_pipes(struct cursor *, struct transport *to);
/* The offset from which on the ring is needed by these cursors; UINT64_MAX: it is not. */
uint64_t stream_ring_needed(const struct stream *, bool only_blocking);
/* What the pipes of cursors that may be detached stand for. */
size_t  stream_piped_memory(const struct stream *);
/* As stream_peek(), when the bytes are in a pipe: those with which the pipe of a cursor begins. */
size_t  stream_peek_pipe(struct stream *, uint64_t from, void *room, size_t max);

#endif
