/*
 * histogram.c — a column for each microsecond: exact, and cheap enough for each request.
 */
#include "tools/benchmark/histogram.h"

#include <string.h>

void histogram_clear(struct histogram *histogram)
{
    memset(histogram, 0, sizeof *histogram);
}

void histogram_add(struct histogram *histogram, uint64_t microseconds)
{
    uint64_t last = HISTOGRAM_COLUMNS - 1;

    histogram->columns[microseconds < last ? microseconds : last]++;
    histogram->count++;
    if (microseconds > histogram->longest_us)
        histogram->longest_us = microseconds;
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
    double wanted = (double)histogram->count * percent / 100;
    uint64_t seen = 0;

    if (histogram->count == 0)
        return 0;
    for (uint64_t i = 0; i < HISTOGRAM_COLUMNS - 1; i++) {
        seen += histogram->columns[i];
        if ((double)seen >= wanted)
            return i;
    }
    return histogram->longest_us;
}
