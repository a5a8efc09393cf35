/*
 * page.h — the page of memory that supervisor and workers share.
 *
 *     page ─┬─ deadlines, live numbers          written by the supervisor
 *           ├─ names of the shadows             written before the first worker
 *           ├─ slot 0: the supervisor's, and the counters of workers that are gone
 *           └─ slot 1 .. n: one worker process each; only that process writes it
 *
 * A cell has one writer, so adding is a plain load and store, without a locked instruction; a
 * reader may see sums that are a moment apart.  All of it is anonymous shared memory made before
 * the first fork.
 */
#ifndef BASE_PAGE_H
#define BASE_PAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/stats.h"

#define PAGE_SHADOWS    256 /* shadow names, never reused */
#define PAGE_SHADOW_NAME 33
#define PAGE_PLACES     256 /* workers at a time */

enum worker_state {
    WORKER_NONE,     /* the slot is free */
    WORKER_STARTING,
    WORKER_READY,
    WORKER_DRAINING,
};

struct shadow_cells {
    _Atomic uint64_t counts[SHADOW_COUNTER_COUNT];
    _Atomic uint64_t results[SHADOW_RESULT_COUNT]; /* of sessions that are over */
    _Atomic uint64_t
        decided[SHADOW_RESULT_COUNT]; /* of those that are still open, but not in doubt */
    _Atomic uint64_t reasons[SHADOW_REASON_COUNT];
};

struct slot {
    _Atomic int         state; /* enum worker_state */
    _Atomic int         pid;
    _Atomic uint64_t    counts[COUNTER_COUNT];
    _Atomic uint64_t    closed[SESSION_REASON_COUNT];
    struct shadow_cells shadows[PAGE_SHADOWS];
};

struct page {
    _Atomic uint64_t clients_open;       /* over all workers; see COUNT_CLIENTS_OPEN */
    _Atomic uint64_t shadow_memory;      /* likewise; see COUNT_SHADOW_MEMORY */
    _Atomic uint32_t
        watchers[PAGE_PLACES];       /* the place whose worker watches this place's sockets */
    _Atomic bool
        is_full[PAGE_PLACES];        /* its worker can take no client; the next one watches, too */
    _Atomic double   drain_deadline;     /* CLOCK_MONOTONIC seconds; 0: no limit */
    _Atomic uint64_t hellos;             /* listeners that were warned of TLS that passes through */
    _Atomic uint64_t log_generation;     /* raised when logs are to be reopened */
    double           started;            /* wall clock, seconds */
    size_t           shadow_count;
    char             shadow_names[PAGE_SHADOWS][PAGE_SHADOW_NAME];
    size_t           slot_count;
    struct slot      slots[];
};

/* A zeroed page with slot 0 and this many worker slots; NULL when there is no memory. */
struct page *page_new(size_t worker_slots);
void         page_free(struct page *);

/* A free worker slot, marked WORKER_STARTING; NULL when all are taken. */
struct slot *page_take_slot(struct page *);

/* A worker is gone: its counters are added to slot 0 and the slot is free again.  What it left
 * open is put in order so that the books still balance: its open sessions are closed{internal}, its
 * sessions' shadows detached as far as they have no result, their live connections closed{io_error},
 * its buffered shadow bytes
 * lost, its gauges zero. */
void page_retire_slot(struct page *, struct slot *);

uint64_t page_sum(const struct page *, enum counter);
uint64_t page_sum_closed(const struct page *, enum session_reason);
uint64_t page_sum_shadow(const struct page *, size_t shadow, enum shadow_counter);
uint64_t page_sum_result(const struct page *, size_t shadow, enum shadow_result);
uint64_t page_sum_reason(const struct page *, size_t shadow, enum shadow_reason);

/* Only by the cell's one writer.  A gauge goes down by adding a negative number. */
static inline void cell_add(_Atomic uint64_t *cell, uint64_t amount)
{
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

static inline uint64_t cell_get(const _Atomic uint64_t *cell)
{
    return atomic_load_explicit(cell, memory_order_relaxed);
}

#endif
