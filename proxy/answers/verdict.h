/*
 * verdict.h — does the new code answer like the old one?  Counts in, one of three values out.
 *
 *     exchange ─▶ candidate differs? control differs? ─▶ unit ─▶ evidence ─▶ alike | differs | not enough
 *
 * If the candidate behaves like the primary's code, "only the candidate differs" and "only the control
 * differs" are equally likely in each unit.  Exchanges of one session depend on each other, so the unit
 * is a session, and of a long session each further UNIT_EXCHANGES exchanges.
 *
 * The verdict is differs when an e-value (a bet against equality that is valid at every look, Grünwald,
 * de Heide, Koolen 2024) reaches VERDICT_E and the interval of the excess lies above 0; alike when the
 * whole interval lies within the tolerance and nearly everything could be compared.  Otherwise there is
 * not enough evidence, which is never the same as agreement.
 *
 * Without a control nobody knows what varies by itself: then every difference counts, and the rate of
 * differences is compared with the tolerance.
 *
 * Pure arithmetic: no allocation, no clock, no I/O.
 */
#ifndef ANSWERS_VERDICT_H
#define ANSWERS_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UNIT_EXCHANGES 50     /* of one session */
#define VERDICT_E      1000.0 /* the bet must have won this much */
#define VERDICT_MAX_UNCERTAIN 0.05 /* share of exchanges that could not be compared well */

enum verdict_value {
    VERDICT_NOT_ENOUGH,
    VERDICT_ALIKE,
    VERDICT_DIFFERS,
};

/* What is counted by itself, because a rare bug in it must not drown in the rest. */
enum evidence_class {
    EVIDENCE_ALL,
    EVIDENCE_STATUS,  /* another status, or an error instead of none */
    EVIDENCE_MISSING, /* no answer */
    EVIDENCE_END,     /* the connection ended in another way */
};
#define EVIDENCE_CLASSES 4

/* One class over all finished units.  A unit's score is the number of exchanges in which only the
 * candidate differs, less those in which only the control does. */
struct paired_counts {
    uint64_t only_candidate;
    uint64_t only_control;
    uint64_t units_candidate; /* units with a score above 0 */
    uint64_t units_control;   /* units with a score below 0 */
    uint64_t score_squares;   /* the sum of score² */
    int64_t  score_sizes;     /* the sum of score × exchanges of the unit */
};

struct evidence {
    uint64_t exchanges;    /* that are over */
    uint64_t uncertain;    /* of those: unfinished, opaque, or masked over more than half */
    uint64_t judged;       /* of those: compared; the excess is a share of these */
    uint64_t size_squares; /* the sum over units of judged² */
    bool     has_control;
    struct paired_counts classes[EVIDENCE_CLASSES];
};

/* The exchanges of one unit, as they are judged. */
struct evidence_unit {
    uint32_t judged;
    uint32_t only_candidate[EVIDENCE_CLASSES];
    uint32_t only_control[EVIDENCE_CLASSES];
};

struct verdict {
    enum verdict_value  value;
    enum evidence_class because;   /* differs: the class that shows it */
    double              excess;    /* share of the judged exchanges: 0.01 is one percent */
    double              low, high; /* its 95 % interval */
    double              e;         /* of all classes together; without a control 0 */
    double              p;         /* McNemar's exact test, two-sided; shown, not used */
    uint64_t wanted;             /* not enough: about so many more exchanges; 0: more do not help */
    bool                is_uncertain; /* not enough, because too much could not be compared */
};

/* Adds a unit that is over. */
void evidence_add(struct evidence *, const struct evidence_unit *);

/* tolerance: as a share, above 0. */
struct verdict verdict_of(const struct evidence *, double tolerance);

/* log(E) for this many units on either side: E = 2^(B+C) B! C! / (B+C+1)!. */
double verdict_log_e(uint64_t units_candidate, uint64_t units_control);
/* McNemar's exact two-sided p. */
double verdict_p(uint64_t only_candidate, uint64_t only_control);

/* The one sentence that log, /status, dashboard and `doppel verdict` all use.  Cut at size. */
void verdict_sentence(const struct verdict *, const struct evidence *, const char *shadow,
                      char *text, size_t size);
const char *verdict_word(enum verdict_value); /* "not_enough", "alike", "differs" */

#endif
