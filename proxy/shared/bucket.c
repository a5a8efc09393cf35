/*
 * bucket.c — a token costs the time that it takes to come back.
 */
#include "shared/bucket.h"

#define SECOND 1000000000U /* in nanoseconds */

bool bucket_take(struct bucket *bucket, uint64_t rate, double now)
{
    uint64_t moment = (uint64_t)(now * SECOND);
    uint64_t full_at = atomic_load(&bucket->full_at);
    uint64_t next;

    do {
        next = (full_at > moment ? full_at : moment) + SECOND / rate;
        if (next > moment + SECOND)
            return false;
    } while (!atomic_compare_exchange_weak(&bucket->full_at, &full_at, next));
    return true;
}
