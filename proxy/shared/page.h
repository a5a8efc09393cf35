/*
 * page.h — the page of memory that supervisor and workers share.
 *
 *     page ─┬─ deadlines, live numbers          written by the supervisor
 *           ├─ roster 0 .. 15: one living generation each, between it and its workers
 *           ├─ row 0 .. r: one shadow name each with its runtime settings; it outlives the
 *           │  configurations that know it
 *           ├─ slot 0: the supervisor's, and the counters of workers that are gone
 *           └─ slot 1 .. n: one worker process each, of whatever generation; only it writes there
 *
 * A cell has one writer (base/cell.h); a reader may see sums that are a moment apart.  All of it is
 * anonymous shared memory made before the first fork; what was never used costs no memory.  Rows and
 * slots begin on cache lines of their own, so that workers do not slow each other down.
 */
#ifndef SHARED_PAGE_H
#define SHARED_PAGE_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cell.h"
#include "shared/breaker.h"
#include "shared/bucket.h"
#include "shared/histogram.h"
#include "shared/shared_dns.h"
#include "shared/stats.h"

#define PAGE_SHADOWS    256 /* shadow names, never reused */
#define PAGE_SHADOW_NAME 33
#define PAGE_PLACES     256 /* workers of one generation */
#define PAGE_LISTENERS  64 /* of one generation */
#define PAGE_GENERATIONS 16 /* at a time: one serves, the others start or finish */
#define CACHE_LINE       64

enum worker_state {
    WORKER_NONE,     /* the slot is free */
    WORKER_STARTING,
    WORKER_READY,
    WORKER_DRAINING,
};

struct shadow_cells {
    _Atomic uint64_t counts[SHADOW_COUNTER_COUNT];
    _Atomic uint64_t results[SHADOW_RESULT_COUNT]; /* of sessions that are over */
    _Atomic uint64_t decided[SHADOW_RESULT_COUNT]; /* of those still open, but not in doubt */
    _Atomic uint64_t reasons[SHADOW_REASON_COUNT];
    struct histogram times[TIMING_COUNT];
    _Atomic uint64_t max_lag;   /* bytes, of one session */
    _Atomic uint64_t last_error; /* page_note_error() */
};

/* What a configuration's file last said of a runtime setting.  Only the supervisor looks. */
struct file_values {
    bool   are_known;
    double sample;
    double ramp;
    double duration;
};

/* What is known of a shadow by its name, over all workers and configurations.  The supervisor
 * changes the settings (admin/runtime_settings.h), workers read them. */
struct shadow_row {
    alignas(CACHE_LINE) char name[PAGE_SHADOW_NAME];
    _Atomic bool       is_paused;
    _Atomic double     sample; /* percent */
    _Atomic double     begun;  /* CLOCK_MONOTONIC seconds: --shadow-ramp counts from here */
    _Atomic double     ends;   /* when it pauses by itself; 0: never */
    /* Written by workers, too. */
    alignas(CACHE_LINE) struct breaker breaker;
    alignas(CACHE_LINE) struct bucket bucket;
    alignas(CACHE_LINE) _Atomic uint64_t active; /* over all; see SHADOW_COUNT_ACTIVE */
    _Atomic bool was_mirrored; /* a whole session, since the start */
    struct file_values file;
    bool is_over; /* nobody but --shadow-for has paused it; only the supervisor looks */
};

struct slot {
    alignas(CACHE_LINE) _Atomic int state; /* enum worker_state */
    _Atomic int         pid;
    unsigned            generation;          /* of the configuration it serves, from 1 */
    bool                mirrors[PAGE_SHADOWS]; /* whether that knows this row's shadow */
    _Atomic uint64_t    counts[COUNTER_COUNT];
    _Atomic uint64_t    closed[SESSION_REASON_COUNT];
    struct histogram    times[LEG_SHADOW][TIMING_COUNT]; /* of the legs before the shadows */
    struct shadow_cells shadows[PAGE_SHADOWS]; /* by row */
};

/* What the workers of a generation are to do.  They look when the supervisor wakes them: at the end
 * of the start barrier, and of their lifeline. */
enum order {
    ORDER_WAIT,   /* the others are not ready yet */
    ORDER_SERVE,  /* and when the lifeline ends nevertheless, the supervisor is dead */
    ORDER_RETIRE, /* finish: a newer generation has the sockets, but for those that are removed */
    ORDER_DRAIN,  /* finish: nobody takes clients any more */
};

/* Between the supervisor and the workers of one generation. */
struct roster {
    _Atomic int    order;            /* enum order */
    _Atomic bool   is_taken;         /* by a living generation */
    _Atomic double deadline;         /* to finish; CLOCK_MONOTONIC seconds, 0: no limit */
    /* By place: whose worker watches its sockets; whether its own can take no client, so that the
     * next one watches, too. */
    _Atomic uint32_t watchers[PAGE_PLACES];
    _Atomic bool     is_full[PAGE_PLACES];
    _Atomic bool     is_removed[PAGE_LISTENERS]; /* the newer generation does not listen there */
};

struct page {
    /* Written by all workers at every session: what they only read must not lie beside it. */
    alignas(CACHE_LINE) _Atomic uint64_t clients_open;  /* over all; see COUNT_CLIENTS_OPEN */
    alignas(CACHE_LINE) _Atomic uint64_t shadow_memory; /* likewise; see COUNT_SHADOW_MEMORY */

    alignas(CACHE_LINE) _Atomic double drain_deadline;  /* of all generations, like theirs */
    struct roster    rosters[PAGE_GENERATIONS];
    _Atomic uint64_t hellos;             /* listeners that were warned of TLS that passes through */
    _Atomic uint64_t log_generation;     /* raised when logs are to be reopened */
    _Atomic uint64_t epoch;              /* raised after a runtime setting has changed */
    _Atomic bool     mirroring_is_off;   /* for all shadows */
    double           started;            /* wall clock, seconds */
    unsigned         generation;         /* the newest that serves, from 1 */
    uint64_t         workers_started;    /* ever: their serials */
    struct shared_dns     shared_dns;         /* names' addresses, for workers to come */
    size_t           row_count;
    size_t           slot_count;
    size_t           slots_used;         /* those behind were never taken */
    struct shadow_row rows[PAGE_SHADOWS];
    struct slot      slots[];
};

/* A zeroed page with slot 0 and this many worker slots; NULL when there is no memory. */
struct page *page_new(size_t worker_slots);
void         page_free(struct page *);

/* The row of a shadow's name, which gets one with the first call and keeps it.  False: all are taken.
 * Only the supervisor asks. */
bool page_find_row(struct page *, const char *name, uint16_t *row);

/* A roster in its first state, for a generation to come; NULL: there are as many as can be.  It is
 * free again when is_taken is false. */
struct roster *page_take_roster(struct page *);

/* A free slot for a worker of this generation, which mirrors to the shadows of these rows; marked
 * WORKER_STARTING.  NULL when all are taken. */
struct slot *page_take_slot(struct page *, unsigned generation, const uint16_t *rows,
                            size_t row_count);

/* A worker is gone: its counters are added to slot 0 and the slot is free again.  What it left
 * open is put in order so that the counters still balance: its open sessions are
 * closed{internal}, its sessions' shadows detached as far as they have no result, their live connections closed{io_error},
 * its buffered shadow bytes lost, its gauges zero. */
void page_retire_slot(struct page *, struct slot *);

/* A number that all workers share, and this worker's part of it, which is given back when it dies.  The
 * shared one is never less than all parts together, wherever a worker is killed: it would fall below
 * zero when the others give theirs back.  False: it would exceed most, and nothing has changed. */
bool part_take(_Atomic uint64_t *shared, _Atomic uint64_t *own, uint64_t max);
/* The same for a part of any size, which nothing limits; answers what is shared now. */
uint64_t part_change(_Atomic uint64_t *shared, _Atomic uint64_t *own, uint64_t before,
                     uint64_t now);
void     part_give_back(_Atomic uint64_t *shared, _Atomic uint64_t *own);

/* A connection to the shadow has just failed for this reason; only by the cells' worker. */
void page_note_error(struct shadow_cells *, enum shadow_reason);
/* The newest of all workers, seconds since 1970; 0: there was none. */
double page_last_error(const struct page *, size_t shadow, enum shadow_reason *);
/* The most that one session has lagged behind. */
uint64_t page_max_lag(const struct page *, size_t shadow);

uint64_t page_sum(const struct page *, enum counter);
uint64_t page_sum_closed(const struct page *, enum session_reason);
uint64_t page_sum_shadow(const struct page *, size_t shadow, enum shadow_counter);
uint64_t page_sum_result(const struct page *, size_t shadow, enum shadow_result);
uint64_t page_sum_reason(const struct page *, size_t shadow, enum shadow_reason);
struct histogram_sum page_sum_times(const struct page *, enum leg, enum timing);
struct histogram_sum page_sum_shadow_times(const struct page *, size_t shadow, enum timing);

#endif
