/*
 * judge.h — compares the sessions of all workers: events in, tallies out.
 *
 *     ring of worker 1 ──┐
 *     ring of worker 2 ──┼─▶ conversations ──exchange──▶ tally of its shadow, in units
 *     ring of worker n ──┘
 *
 * Knows no process, no clock and no configuration: each session's first event says how it is compared.
 * Whatever is not heard, because a ring was full, a worker died or an earlier judge did, is unfinished:
 * it never counts as agreement.
 */
#ifndef ANSWERS_JUDGE_H
#define ANSWERS_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_ring;
struct judge;
struct tally;

/* Borrowed, must outlive the judge. */
struct judge_settings {
    struct event_ring **rings;
    size_t              ring_count;
    struct tally       *tallies;     /* by row of the shared page */
    size_t              tally_count;
    uint64_t            memory;      /* bytes that all answers may take */
};

/* NULL: no memory. */
struct judge *judge_new(const struct judge_settings *);
void          judge_free(struct judge *); /* NULL is fine */

/* Takes at most this many events, from all rings in turn.  Answers how many there were: 0: nothing is
 * left to do. */
size_t judge_work(struct judge *, size_t max_events);
/* Bytes that are kept of answers now. */
uint64_t judge_memory(const struct judge *);

#endif
