/*
 * page.c — the page of memory that supervisor and workers share.
 *
 * What it hides: where the memory comes from, and how the counters are settled for a worker that
 * could not do it itself.
 */
#include "shared/page.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define IS_GAUGE_COUNTER false
#define IS_GAUGE_GAUGE   true

#define ROW(identifier, metric, labels, kind, help) [COUNT_##identifier] = IS_GAUGE_##kind,
static const bool is_gauge[COUNTER_COUNT] = { COUNTERS(ROW) };
#undef ROW
#define ROW(identifier, metric, labels, kind, help) [SHADOW_COUNT_##identifier] = IS_GAUGE_##kind,
static const bool is_shadow_gauge[SHADOW_COUNTER_COUNT] = { SHADOW_COUNTERS(ROW) };
#undef ROW

static size_t page_bytes(size_t slot_count)
{
    return sizeof(struct page) + slot_count * sizeof(struct slot);
}

static double wall_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

struct page *page_new(size_t worker_slots)
{
    size_t slot_count = 1 + worker_slots;
    struct page *page = mmap(NULL, page_bytes(slot_count), PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (page == MAP_FAILED)
        return NULL;
    page->started = wall_clock();
    page->slot_count = slot_count;
    page->slots_used = 1;
    return page;
}

void page_free(struct page *page)
{
    if (page != NULL)
        munmap(page, page_bytes(page->slot_count));
}

bool page_find_row(struct page *page, const char *name, uint16_t *row)
{
    for (*row = 0; *row < page->row_count; (*row)++) {
        if (strcmp(page->rows[*row].name, name) == 0)
            return true;
    }
    if (page->row_count == PAGE_SHADOWS)
        return false;
    snprintf(page->rows[*row].name, PAGE_SHADOW_NAME, "%s", name);
    page->row_count++;
    return true;
}

struct roster *page_take_roster(struct page *page)
{
    for (size_t i = 0; i < PAGE_GENERATIONS; i++) {
        struct roster *roster = &page->rosters[i];

        if (atomic_load(&roster->is_taken))
            continue;
        memset(roster, 0, sizeof *roster);
        atomic_store(&roster->is_taken, true);
        return roster;
    }
    return NULL;
}

static struct slot *free_slot(struct page *page)
{
    for (size_t i = 1; i < page->slots_used; i++) {
        if (atomic_load(&page->slots[i].state) == WORKER_NONE)
            return &page->slots[i];
    }
    return page->slots_used < page->slot_count ? &page->slots[page->slots_used++] : NULL;
}

struct slot *page_take_slot(struct page *page, unsigned generation, const uint16_t *rows,
                            size_t row_count)
{
    struct slot *slot = free_slot(page);

    if (slot == NULL)
        return NULL;
    slot->generation = generation;
    memset(slot->mirrors, 0, sizeof slot->mirrors);
    for (size_t i = 0; i < row_count; i++)
        slot->mirrors[rows[i]] = true;
    atomic_store(&slot->state, WORKER_STARTING);
    return slot;
}

static uint64_t sum_cells(const _Atomic uint64_t *cells, size_t count)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += cell_get(&cells[i]);
    return sum;
}

/* Cells that follow each other in time may be read, or left by a killed worker, a moment apart. */
static uint64_t missing(uint64_t whole, uint64_t parts)
{
    return whole > parts ? whole - parts : 0;
}

/* No more than there are: a worker may have died between two cells of one event. */
static uint64_t settle_some(_Atomic uint64_t *result, uint64_t wished, uint64_t max)
{
    uint64_t some = wished < max ? wished : max;

    cell_add(result, some);
    return some;
}

/* Each connection that was opened has one end, also where only one of both was written down. */
static void settle_ends(struct shadow_cells *shadow)
{
    uint64_t opened =
        cell_get(&shadow->results[RESULT_MIRRORED]) + cell_get(&shadow->results[RESULT_DETACHED]);
    uint64_t ended = sum_cells(shadow->reasons, SHADOW_REASON_COUNT);
    uint64_t no_data = cell_get(&shadow->results[RESULT_NO_DATA]);
    uint64_t more = settle_some(&shadow->results[RESULT_DETACHED], missing(ended, opened), no_data);

    cell_add(&shadow->results[RESULT_NO_DATA], -more);
    cell_add(&shadow->reasons[SHADOW_IO_ERROR], missing(opened, ended));
}

/* A killed worker's open sessions have no result yet, although it may be decided; live connections
 * have no reason, and there are bytes that nobody will send any more.  What was neither decided nor
 * dialled had nothing to get. */
static void settle_shadow(struct shadow_cells *shadow, uint64_t sessions)
{
    uint64_t open = missing(sessions, sum_cells(shadow->results, SHADOW_RESULT_COUNT));
    uint64_t fated = cell_get(&shadow->counts[SHADOW_COUNT_SENT]) +
                     cell_get(&shadow->counts[SHADOW_COUNT_LOST]) +
                     cell_get(&shadow->counts[SHADOW_COUNT_SKIPPED]);

    for (size_t i = 0; i < SHADOW_RESULT_COUNT; i++)
        open -= settle_some(&shadow->results[i], cell_get(&shadow->decided[i]), open);
    open -= settle_some(&shadow->results[RESULT_DETACHED],
                        cell_get(&shadow->counts[SHADOW_COUNT_ACTIVE]), open);
    cell_add(&shadow->results[RESULT_NO_DATA], open);
    settle_ends(shadow);
    cell_add(&shadow->counts[SHADOW_COUNT_LOST],
             missing(cell_get(&shadow->counts[SHADOW_COUNT_OFFERED]), fated));
}

static void settle_slot(const struct page *page, struct slot *slot)
{
    uint64_t sessions = cell_get(&slot->counts[COUNT_SESSIONS]);

    cell_add(&slot->closed[SESSION_INTERNAL],
             missing(sessions, sum_cells(slot->closed, SESSION_REASON_COUNT)));
    for (size_t i = 0; i < page->row_count; i++) {
        if (slot->mirrors[i])
            settle_shadow(&slot->shadows[i], sessions);
    }
}

/* Counters go on in the other place, gauges end here; the cells are zero afterwards. */
static void move_cells(_Atomic uint64_t *to, _Atomic uint64_t *from, const bool *gauge,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (gauge == NULL || !gauge[i])
            cell_add(&to[i], cell_get(&from[i]));
        atomic_store(&from[i], 0);
    }
}

static void move_shadow(struct shadow_cells *to, struct shadow_cells *from)
{
    move_cells(to->counts, from->counts, is_shadow_gauge, SHADOW_COUNTER_COUNT);
    move_cells(to->results, from->results, NULL, SHADOW_RESULT_COUNT);
    for (size_t i = 0; i < SHADOW_RESULT_COUNT; i++)
        atomic_store(&from->decided[i], 0);
    move_cells(to->reasons, from->reasons, NULL, SHADOW_REASON_COUNT);
    for (size_t i = 0; i < TIMING_COUNT; i++)
        histogram_move(&to->times[i], &from->times[i]);
    cell_raise(&to->max_lag, atomic_exchange(&from->max_lag, 0));
    cell_raise(&to->last_error, atomic_exchange(&from->last_error, 0));
}

static void move_times(struct slot *to, struct slot *from)
{
    for (size_t leg = 0; leg < LEG_SHADOW; leg++) {
        for (size_t i = 0; i < TIMING_COUNT; i++)
            histogram_move(&to->times[leg][i], &from->times[leg][i]);
    }
}

bool part_take(_Atomic uint64_t *shared, _Atomic uint64_t *own, uint64_t max)
{
    uint64_t now = atomic_load_explicit(shared, memory_order_relaxed);

    do {
        if (now >= max)
            return false;
    } while (!atomic_compare_exchange_weak(shared, &now, now + 1));
    cell_add(own, 1);
    return true;
}

uint64_t part_change(_Atomic uint64_t *shared, _Atomic uint64_t *own, uint64_t before, uint64_t now)
{
    if (now >= before) {
        uint64_t all = atomic_fetch_add(shared, now - before) + (now - before);

        cell_add(own, now - before);
        return all;
    }
    cell_add(own, now - before); /* modulo 2^64 */
    return atomic_fetch_sub(shared, before - now) - (before - now);
}

void part_give_back(_Atomic uint64_t *shared, _Atomic uint64_t *own)
{
    part_change(shared, own, 1, 0);
}

/* Never below zero, whatever the worker has left behind: a wrapped number would keep every client out. */
static void take_back(_Atomic uint64_t *shared, uint64_t amount)
{
    uint64_t now = atomic_load(shared);

    while (!atomic_compare_exchange_weak(shared, &now, missing(now, amount)))
        continue;
}

void page_retire_slot(struct page *page, struct slot *slot)
{
    struct slot *kept = &page->slots[0];

    take_back(&page->clients_open, cell_get(&slot->counts[COUNT_CLIENTS_OPEN]));
    take_back(&page->shadow_memory, cell_get(&slot->counts[COUNT_SHADOW_MEMORY]));
    settle_slot(page, slot);
    move_cells(kept->counts, slot->counts, is_gauge, COUNTER_COUNT);
    move_cells(kept->closed, slot->closed, NULL, SESSION_REASON_COUNT);
    move_times(kept, slot);
    for (size_t i = 0; i < page->row_count; i++) {
        take_back(&page->rows[i].active, cell_get(&slot->shadows[i].counts[SHADOW_COUNT_ACTIVE]));
        move_shadow(&kept->shadows[i], &slot->shadows[i]);
    }
    atomic_store(&slot->pid, 0);
    atomic_store(&slot->state, WORKER_NONE);
}

/* Time and reason are one word, so that they belong together, and the greatest is the newest. */
#define REASON_BITS 8
_Static_assert(SHADOW_REASON_COUNT <= 1 << REASON_BITS, "widen REASON_BITS");

void page_note_error(struct shadow_cells *cells, enum shadow_reason reason)
{
    uint64_t milliseconds = (uint64_t)(wall_clock() * 1000);

    atomic_store(&cells->last_error, milliseconds << REASON_BITS | (uint64_t)reason);
}

double page_last_error(const struct page *page, size_t shadow, enum shadow_reason *reason)
{
    uint64_t newest = 0;

    for (size_t i = 0; i < page->slots_used; i++) {
        uint64_t error = cell_get(&page->slots[i].shadows[shadow].last_error);
        newest = error > newest ? error : newest;
    }
    *reason = (enum shadow_reason)(newest & ((1 << REASON_BITS) - 1));
    return (double)(newest >> REASON_BITS) / 1000;
}

uint64_t page_max_lag(const struct page *page, size_t shadow)
{
    uint64_t max = 0;

    for (size_t i = 0; i < page->slots_used; i++) {
        uint64_t lag = cell_get(&page->slots[i].shadows[shadow].max_lag);
        max = lag > max ? lag : max;
    }
    return max;
}

/* The same cell of all slots, given that of the first one. */
static uint64_t sum_of_slots(const struct page *page, const _Atomic uint64_t *cell)
{
    size_t   offset = (size_t)((const char *)cell - (const char *)&page->slots[0]);
    uint64_t sum = 0;

    for (size_t i = 0; i < page->slots_used; i++)
        sum += cell_get((const void *)((const char *)&page->slots[i] + offset));
    return sum;
}

uint64_t page_sum(const struct page *page, enum counter counter)
{
    return sum_of_slots(page, &page->slots[0].counts[counter]);
}

uint64_t page_sum_closed(const struct page *page, enum session_reason reason)
{
    return sum_of_slots(page, &page->slots[0].closed[reason]);
}

uint64_t page_sum_shadow(const struct page *page, size_t shadow, enum shadow_counter counter)
{
    return sum_of_slots(page, &page->slots[0].shadows[shadow].counts[counter]);
}

uint64_t page_sum_result(const struct page *page, size_t shadow, enum shadow_result result)
{
    return sum_of_slots(page, &page->slots[0].shadows[shadow].results[result]);
}

uint64_t page_sum_reason(const struct page *page, size_t shadow, enum shadow_reason reason)
{
    return sum_of_slots(page, &page->slots[0].shadows[shadow].reasons[reason]);
}

struct histogram_sum page_sum_shadow_times(const struct page *page, size_t shadow,
                                           enum timing timing)
{
    struct histogram_sum sum = { 0 };

    for (size_t i = 0; i < page->slots_used; i++)
        histogram_add(&sum, &page->slots[i].shadows[shadow].times[timing]);
    return sum;
}

static struct histogram_sum sum_all_shadows(const struct page *page, enum timing timing)
{
    struct histogram_sum sum = { 0 };

    for (size_t slot = 0; slot < page->slots_used; slot++) {
        for (size_t shadow = 0; shadow < page->row_count; shadow++)
            histogram_add(&sum, &page->slots[slot].shadows[shadow].times[timing]);
    }
    return sum;
}

struct histogram_sum page_sum_times(const struct page *page, enum leg leg, enum timing timing)
{
    struct histogram_sum sum = { 0 };

    if (leg >= LEG_SHADOW)
        return sum_all_shadows(page, timing);
    for (size_t i = 0; i < page->slots_used; i++)
        histogram_add(&sum, &page->slots[i].times[leg][timing]);
    return sum;
}
