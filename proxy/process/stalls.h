/*
 * stalls.h — notices when a loop stands still: every session of the process waits meanwhile.
 *
 *     ── sleeps, at most a tick ──▶│◀── a turn: callbacks, log ──▶│── sleeps ...
 *              too long: stopped,  │        too long: a blocking  │
 *              or no CPU           │        call, or too much     │
 *
 * Two looks at the clock for each turn, which are no system calls (vdso(7)).
 */
#ifndef PROCESS_STALLS_H
#define PROCESS_STALLS_H

#include <ev.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/log.h"

/* Embedded; its members are its own. */
struct stalls {
    ev_check          turn_start;
    ev_prepare        turn_end;
    double            longest_sleep;
    double            woke;          /* CLOCK_MONOTONIC seconds */
    double            slept;         /* when it fell asleep */
    const char       *whose;
    _Atomic uint64_t *count;
    struct log_limit  limit;
};

/* From here on each stall of over a second adds one to count and is a warning, at most once in ten
 * seconds.  The loop must have a timer that lets it sleep no longer than this many seconds.  whose
 * is borrowed. */
void stalls_watch(struct stalls *, struct ev_loop *, const char *whose, double longest_sleep,
                  _Atomic uint64_t *count);

#endif
