/*
 * told_clock.h — the time is what the test says it is.
 *
 * Of the program alone: a loop's own clock, in libev, goes on.
 */
#ifndef TESTS_TOLD_CLOCK_H
#define TESTS_TOLD_CLOCK_H

#include <time.h>

static double now; /* seconds, of every clock */

int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
    (void)clock;
    time->tv_sec = (time_t)now;
    time->tv_nsec = (long)((now - (double)time->tv_sec) * 1e9);
    return 0;
}

#endif
