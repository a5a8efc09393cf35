/*
 * clock.h — seconds that only go forward (CLOCK_MONOTONIC), whatever happens to the wall clock.
 *
 * libev's ev_now() is the wall clock; ages and deadlines must not be taken from it.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <time.h>

static inline double clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

#endif
