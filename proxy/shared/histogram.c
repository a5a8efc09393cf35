/*
 * histogram.c — sorting times into buckets, and percentiles back out of them.
 */
#include "shared/histogram.h"

#include <stdatomic.h>

#include "base/cell.h"

static const double bounds[HISTOGRAM_BOUNDS] = {
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
};

double histogram_bound(size_t bucket)
{
    return bounds[bucket];
}

void histogram_note(struct histogram *histogram, double seconds)
{
    size_t bucket = 0;

    while (bucket < HISTOGRAM_BOUNDS && seconds > bounds[bucket])
        bucket++;
    cell_add(&histogram->buckets[bucket], 1);
    cell_add(&histogram->microseconds, seconds > 0 ? (uint64_t)(seconds * 1e6) : 0);
}

void histogram_add(struct histogram_sum *sum, const struct histogram *histogram)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        sum->buckets[i] += cell_get(&histogram->buckets[i]);
    sum->microseconds += cell_get(&histogram->microseconds);
}

static void move_cell(_Atomic uint64_t *to, _Atomic uint64_t *from)
{
    cell_add(to, atomic_exchange(from, 0));
}

void histogram_move(struct histogram *to, struct histogram *from)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        move_cell(&to->buckets[i], &from->buckets[i]);
    move_cell(&to->microseconds, &from->microseconds);
}

uint64_t histogram_count(const struct histogram_sum *sum)
{
    uint64_t count = 0;

    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        count += sum->buckets[i];
    return count;
}

double histogram_percentile(const struct histogram_sum *sum, double percent)
{
    double wanted = percent / 100 * (double)histogram_count(sum);
    double below = 0;
    double lower = 0;

    if (histogram_count(sum) == 0)
        return -1;
    for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
        double here = (double)sum->buckets[i];

        if (here > 0 && below + here >= wanted)
            return lower + (bounds[i] - lower) * (wanted - below) / here;
        below += here;
        lower = bounds[i];
    }
    return lower;
}
