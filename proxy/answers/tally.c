/*
 * tally.c — one writer; the evidence is copied under a version number (a sequence lock).
 */
#include "tally.h"

#include <string.h>

static void add(_Atomic uint64_t *cell, uint64_t amount)
{
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *cell)
{
    return atomic_load_explicit(cell, memory_order_relaxed);
}

void tally_exchange(struct tally *tally, const struct comparison *comparison)
{
    if (comparison->result == EXCHANGE_DIFFERENT)
        add(&tally->classes[comparison->class], 1);
    if (comparison->result == EXCHANGE_UNFINISHED)
        add(&tally->unfinished[comparison->why], 1);
    add(&tally->only_candidate, comparison->only_candidate[EVIDENCE_ALL]);
    add(&tally->only_control, comparison->only_control[EVIDENCE_ALL]);
    add(&tally->mostly_masked, comparison->is_mostly_masked);
    add(&tally->results[comparison->result], 1);
}

static void begin_writing(struct tally *tally)
{
    atomic_fetch_add_explicit(&tally->evidence_version, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

static void end_writing(struct tally *tally)
{
    atomic_fetch_add_explicit(&tally->evidence_version, 1, memory_order_release);
}

void tally_unit(struct tally *tally, const struct evidence_unit *unit)
{
    begin_writing(tally);
    evidence_add(&tally->evidence, unit);
    end_writing(tally);
}

void tally_recover(struct tally *tally)
{
    if (atomic_load(&tally->evidence_version) % 2 != 0)
        end_writing(tally);
}

void tally_reset(struct tally *tally)
{
    begin_writing(tally);
    memset(&tally->evidence, 0, sizeof tally->evidence);
    end_writing(tally);
    for (int i = 0; i < EXCHANGE_RESULTS; i++)
        atomic_store(&tally->results[i], 0);
    for (int i = 0; i < DIFFERENCE_CLASSES; i++)
        atomic_store(&tally->classes[i], 0);
    for (int i = 0; i < UNFINISHED_REASONS; i++)
        atomic_store(&tally->unfinished[i], 0);
    atomic_store(&tally->only_candidate, 0);
    atomic_store(&tally->only_control, 0);
    atomic_store(&tally->mostly_masked, 0);
}

uint64_t tally_exchanges(const struct tally *tally)
{
    uint64_t sum = 0;

    for (int i = 0; i < EXCHANGE_RESULTS; i++)
        sum += get(&tally->results[i]);
    return sum;
}

#define TRIES                                                                                      \
    1000 /* a judge that was killed while it wrote leaves an odd version until the next one */

struct evidence tally_evidence(const struct tally *tally)
{
    struct evidence evidence;

    for (int i = 0; i < TRIES; i++) {
        uint32_t before = atomic_load_explicit(&tally->evidence_version, memory_order_acquire);
        memcpy(&evidence, &tally->evidence, sizeof evidence);
        atomic_thread_fence(memory_order_acquire);
        uint32_t after = atomic_load_explicit(&tally->evidence_version, memory_order_relaxed);
        if (before == after && before % 2 == 0)
            break;
    }
    evidence.exchanges = tally_exchanges(tally);
    evidence.uncertain = get(&tally->results[EXCHANGE_UNFINISHED]) +
                         get(&tally->results[EXCHANGE_OPAQUE]) + get(&tally->mostly_masked);
    evidence.has_control = atomic_load(&tally->has_control);
    return evidence;
}
