/*
 * histogram.h — how long things took, to the microsecond.
 */
#ifndef BENCHMARK_HISTOGRAM_H
#define BENCHMARK_HISTOGRAM_H

#include <stdint.h>

/* A second and more share the last column; the longest is kept exactly. */
#define HISTOGRAM_COLUMNS 1000000

struct histogram {
    uint64_t count;
    uint64_t longest_us;
    uint32_t columns[HISTOGRAM_COLUMNS];
};

void histogram_clear(struct histogram *);
void histogram_add(struct histogram *, uint64_t microseconds);

/* The time that this share of all took at most, in microseconds; 0 when there are none. */
uint64_t histogram_percentile(const struct histogram *, double percent);

#endif
