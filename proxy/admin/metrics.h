/*
 * metrics.h — what GET /metrics shows.
 */
#ifndef ADMIN_METRICS_H
#define ADMIN_METRICS_H

#include <stdio.h>

struct page;

/* In Prometheus' text format (version 0.0.4): every row of shared/stats.h, summed over all workers,
 * with HELP and TYPE; doppel_workers, doppel_build_info and process_* included. */
void metrics_print(const struct page *, FILE *);

#endif
