/*
 * histogram.h — how long things took, sorted into buckets that never change.
 *
 *     up to   0.1 ms   0.25   0.5    1   ...   10 s   longer
 *           [   12   |  840 |  31 |  4 | ... |   0  |   1   ]  and the sum of all
 *
 * The bounds are the same for everything that is measured, from a connect on the loopback interface
 * to the longest timeout that anybody waits for.  A histogram has one writer, as a cell has.
 */
#ifndef SHARED_HISTOGRAM_H
#define SHARED_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BOUNDS  16
#define HISTOGRAM_BUCKETS (HISTOGRAM_BOUNDS + 1) /* the last one: longer than all bounds */

struct histogram {
    _Atomic uint64_t buckets[HISTOGRAM_BUCKETS];
    _Atomic uint64_t microseconds; /* of all together */
};

/* Several histograms added up. */
struct histogram_sum {
    uint64_t buckets[HISTOGRAM_BUCKETS];
    uint64_t microseconds;
};

/* The bound of a bucket in seconds, itself included; below HISTOGRAM_BOUNDS. */
double histogram_bound(size_t bucket);

/* Something took so long.  Only by the histogram's one writer. */
void histogram_note(struct histogram *, double seconds);
void histogram_add(struct histogram_sum *, const struct histogram *);
/* Adds one to another, and empties it. */
void histogram_move(struct histogram *to, struct histogram *from);

uint64_t histogram_count(const struct histogram_sum *);
/* What so many percent did not exceed, in seconds: within a bucket as if all were spread evenly, and
 * beyond the last bound that bound.  Below 0: nothing was noted. */
double histogram_percentile(const struct histogram_sum *, double percent);

#endif
