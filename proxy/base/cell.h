/*
 * cell.h — a number with one writer and any readers, in memory that processes share.
 *
 * With one writer, adding is a plain load and store, without a locked instruction.
 */
#ifndef BASE_CELL_H
#define BASE_CELL_H

#include <stdatomic.h>
#include <stdint.h>

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

/* Only by the cell's one writer: it never falls. */
static inline void cell_raise(_Atomic uint64_t *cell, uint64_t min)
{
    if (cell_get(cell) < min)
        atomic_store_explicit(cell, min, memory_order_relaxed);
}

#endif
