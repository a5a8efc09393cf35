/*
 * sources.h — how many sessions each source address has now, over all workers.
 *
 *     table of worker 1: [bucket of 16][bucket of 16] ...     one writer each,
 *     table of worker 2: [bucket of 16][bucket of 16] ...     all of them read
 *
 * A cell holds a tag of the address and its sessions.  An IPv6 client is its /64, because one host
 * may have all of it.  Two addresses with the same tag share a cell: at 32 bits within a bucket
 * that is rare, and costs them a part of their share, never the process.
 */
#ifndef SHARED_SOURCES_H
#define SHARED_SOURCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct address;
struct sources;

/* What tells sources apart: an IPv4 address, or the first 64 bits of an IPv6 one; 0: a unix client. */
uint64_t source_of(const struct address *);

/* Shared memory for this many workers' tables, made before the first fork; NULL: no memory. */
struct sources *sources_new(size_t tables);
void            sources_free(struct sources *);

enum source_entry {
    SOURCE_REFUSED,   /* it has most of them already */
    SOURCE_COUNTED,
    SOURCE_UNCOUNTED, /* a unix client, or one whose bucket is full: never refused */
};

/* One more session of this address in this table. */
enum source_entry sources_enter(struct sources *, size_t table, const struct address *, size_t max);
/* Only for one that was counted: any other would take somebody else's count away. */
void sources_leave(struct sources *, size_t table, const struct address *);
/* The worker with this table is gone. */
void sources_forget(struct sources *, size_t table);

#endif
