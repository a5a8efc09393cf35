/*
 * pipes.h — a worker's pipes, for bytes that never come to memory.
 *
 *     pipes_take() ──▶ a stream holds it while bytes are in it ──▶ pipes_return()
 *                                                     empty: kept for the next stream
 *                                                     otherwise: closed
 *
 * All pipes of a pool have room for equally many pieces, so tee(2) into an empty one is never cut
 * short.  How many there may be is bounded, and with it what they can hold in the kernel.
 */
#ifndef STREAM_PIPES_H
#define STREAM_PIPES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "shared/stats.h"

struct pipes;
struct slot;

#define PIPE_SIZE ((size_t)256 << 10) /* 64 pieces: what each counts as, whatever is in it */

struct pipe {
    int          in;
    int          out;
    size_t       bytes; /* those that its holder wants; there may be others behind them */
    struct pipe *next;  /* for its holder */
};

/* most: pipes at a time.  eager: streams are to use pipes from the first byte, not only for bulk.
 * Failures are counted in the slot.  Ends the process when there is no memory. */
struct pipes *pipes_new(struct slot *, size_t max, bool eager);
/* Every pipe must have been returned; NULL is fine. */
void          pipes_free(struct pipes *);
bool          pipes_are_eager(const struct pipes *);

/* An empty pipe, both ends non-blocking; NULL: there is none to be had, which has been counted. */
struct pipe *pipes_take(struct pipes *);
/* Half of them are out: what one stream alone would like to have, others may need. */
bool         pipes_are_scarce(const struct pipes *);
void         pipes_return(struct pipes *, struct pipe *);
/* Closes those that nobody holds. */
void         pipes_rest(struct pipes *);
/* Counts a stream that goes on in memory for another reason. */
void         pipes_count_fallback(struct pipes *, enum counter why);

/* Reads its bytes into pieces of that length together.  False: it cannot be read, which
 * never happens to a pipe of ours. */
bool pipe_read(struct pipe *, struct iovec *pieces, int count);
/* Copies references to the first bytes of one to the end of another (tee(2)); answers how many. */
size_t pipe_copy(struct pipe *from, struct pipe *to, size_t bytes);

#endif
