/*
 * tally.h — what became of the exchanges of each compared shadow, in memory that processes share.
 *
 *     exchanges = equal + masked + ignored + accepted + different + unfinished + opaque
 *
 * The judge writes, anybody reads; a number is never seen half written, several of them may be a moment
 * apart.  Counts outlive the judge, workers and reloads.
 */
#ifndef ANSWERS_TALLY_H
#define ANSWERS_TALLY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "answers/compare.h"
#include "answers/verdict.h"

/* Of one shadow; zeroed: nothing was compared. */
struct tally {
    _Atomic uint64_t results[EXCHANGE_RESULTS];
    _Atomic uint64_t classes[DIFFERENCE_CLASSES];    /* of the different ones */
    _Atomic uint64_t unfinished[UNFINISHED_REASONS];
    _Atomic uint64_t only_candidate;
    _Atomic uint64_t only_control;
    _Atomic uint64_t mostly_masked;
    _Atomic bool     has_control;
    /* The evidence of finished units; a reader sees all of it, or all of it as of a moment earlier. */
    _Atomic uint32_t evidence_version; /* odd: being written */
    struct evidence  evidence;
};

/* Only the judge: one exchange more; and a unit more, which is over. */
void tally_exchange(struct tally *, const struct comparison *);
void tally_unit(struct tally *, const struct evidence_unit *);
/* A new judge goes on where another one may have been killed in the middle of a unit. */
void tally_recover(struct tally *);
/* Begins anew: another deploy, address, role or way of comparing. */
void tally_reset(struct tally *);

/* All exchanges that are over. */
uint64_t tally_exchanges(const struct tally *);
/* What the verdict is made of. */
struct evidence tally_evidence(const struct tally *);

#endif
