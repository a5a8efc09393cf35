/*
 * bucket.h — at most so many a second, over all workers.
 *
 * A token bucket that holds one second's tokens, as one word of shared memory: the moment at which
 * it will be full again (the generic cell rate algorithm, ITU-T I.371).  In any t seconds it gives
 * at most (t + 1) times its rate, however many workers ask.
 */
#ifndef SHARED_BUCKET_H
#define SHARED_BUCKET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* All zero is full. */
struct bucket {
    _Atomic uint64_t full_at; /* CLOCK_MONOTONIC nanoseconds */
};

/* Whether there is a token, which is then taken.  rate: a second, 1 to 10^9; now: CLOCK_MONOTONIC
 * seconds. */
bool bucket_take(struct bucket *, uint64_t rate, double now);

#endif
