/*
 * breaker.h — may this shadow be dialled now?
 *
 *                 N failures in a row             its time is over
 *     CLOSED ───────────────────────▶ OPEN ─────────────────────────▶ HALF_OPEN
 *     all sessions  ◀──┐              none  ◀───────────────────────  one probe
 *                      │                      it failed: longer;         │
 *                      └─────── it succeeded  it said nothing: at once ──┘
 *
 * One breaker is shared by all workers.  It is one word, changed by compare-and-swap, so a worker
 * may die at any point: a probe that nobody hears of again is replaced when its time is over.
 * A breaker that is closed and content is only read.
 */
#ifndef SHARED_BREAKER_H
#define SHARED_BREAKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* No back-off lasts longer, except by the operator's own word: what a shadow that is well again may
 * wait at most. */
#define BREAKER_MAX_SECONDS 300.0

enum breaker_state {
    BREAKER_CLOSED,
    BREAKER_OPEN,
    BREAKER_HALF_OPEN,
};

/* In shared memory; all zero is closed. */
struct breaker {
    _Atomic uint64_t word;
    _Atomic int      cause; /* of the last failure that opened it */
};

struct breaker_terms {
    uint64_t failures; /* in a row open it; at most 1000 */
    double   seconds;  /* how long, the first time */
};

/* A look without consequences: whether breaker_enter() might say yes.  now is CLOCK_MONOTONIC
 * seconds, here and below. */
bool breaker_admits(const struct breaker *, double now);

/* Just before a connection is begun.  False: not now.  *probe is 0 in the usual case; the one probe
 * gets a number other than 0, and patience seconds until another one may take its place. */
bool breaker_enter(struct breaker *, double now, double patience, uint64_t *probe);

struct breaker_failure {
    int      cause;  /* the caller's word for it */
    double   now;
    uint64_t random; /* bits, for the jitter */
};

/* How that connection went, with the number it got.  Each answers whether the breaker has changed
 * from closed to open, or from half-open to closed. */
bool breaker_failed(struct breaker *, const struct breaker_terms *, uint64_t probe,
                    const struct breaker_failure *);
bool breaker_succeeded(struct breaker *, uint64_t probe);
/* Nothing was learned; a probe's place is free again. */
void breaker_unknown(struct breaker *, uint64_t probe, double now);

/* Closed, whatever it was. */
void breaker_reset(struct breaker *);

enum breaker_state breaker_state(const struct breaker *);
/* When the next probe may begin (OPEN), or this one is given up (HALF_OPEN); 0 when it is closed. */
double breaker_until(const struct breaker *);

#endif
