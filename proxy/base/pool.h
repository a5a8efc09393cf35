/*
 * pool.h — equal chunks, kept for reuse.  One pool per worker.
 *
 * Chunks come from slabs of 1 MiB of their own (mmap), so that memory really goes back to the
 * system once a burst is over: malloc would keep it.  At most one empty slab is kept.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stddef.h>

#define CHUNK_SIZE 16384 /* one full TLS record */

struct slab;

/* Zero-initialise. */
struct pool {
    struct slab *open;  /* slabs with a free chunk, as a doubly linked list */
    size_t       empty; /* of these, slabs with no chunk lent */
    size_t       lent;  /* chunks */
};

/* A chunk of CHUNK_SIZE bytes, or NULL when there is no memory. */
char *pool_take(struct pool *);
void  pool_return(struct pool *, char *chunk);
/* Gives the kept slab back; every chunk must have been returned. */
void  pool_close(struct pool *);

#endif
