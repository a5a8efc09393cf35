/*
 * cpus.h — how many CPUs this process may really use.
 */
#ifndef CONFIG_CPUS_H
#define CONFIG_CPUS_H

#include <stddef.h>
#include <stdint.h>

/* The smaller of affinity (sched_getaffinity(2)) and the cgroup's CPU quota (version 2 or 1, the
 * tightest on the way to the root), rounded up; at least 1. */
uint64_t cpus_usable(void);

/* CPUs of the text of a version 2 cpu.max ("150000 100000"), rounded up; 0: no limit, or no such
 * text. */
uint64_t cpus_of_quota(const char *text);

#endif
