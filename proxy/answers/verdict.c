/*
 * verdict.c — the arithmetic behind the three values, and the sentence that says them.
 */
#include "verdict.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NORMAL_95 1.959963984540054 /* 97.5 % of a normal distribution lie below */
#define RULE_OF_THREE 3.0 /* nothing in n trials: the rate is below 3/n with 95 % confidence */

static const char *const class_words[EVIDENCE_CLASSES] = {
    [EVIDENCE_ALL] = "content",
    [EVIDENCE_STATUS] = "status",
    [EVIDENCE_MISSING] = "missing answers",
    [EVIDENCE_END] = "how the connection ends",
};

static void add_class(struct paired_counts *counts, uint32_t candidate, uint32_t control,
                      uint32_t judged)
{
    int64_t score = (int64_t)candidate - (int64_t)control;

    counts->only_candidate += candidate;
    counts->only_control += control;
    counts->units_candidate += score > 0;
    counts->units_control += score < 0;
    counts->score_squares += (uint64_t)(score * score);
    counts->score_sizes += score * (int64_t)judged;
}

void evidence_add(struct evidence *evidence, const struct evidence_unit *unit)
{
    evidence->judged += unit->judged;
    evidence->size_squares += (uint64_t)unit->judged * unit->judged;
    for (int i = 0; i < EVIDENCE_CLASSES; i++)
        add_class(&evidence->classes[i], unit->only_candidate[i], unit->only_control[i],
                  unit->judged);
}

double verdict_log_e(uint64_t units_candidate, uint64_t units_control)
{
    double b = (double)units_candidate;
    double c = (double)units_control;

    return (b + c) * M_LN2 + lgamma(b + 1) + lgamma(c + 1) - lgamma(b + c + 2);
}

double verdict_p(uint64_t only_candidate, uint64_t only_control)
{
    double n = (double)(only_candidate + only_control);
    double k = (double)(only_candidate < only_control ? only_candidate : only_control);

    if (only_candidate == only_control)
        return 1;
    /* The largest term of the tail, then each next one from it, until they no longer count. */
    double term = exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * M_LN2);
    double tail = 0;
    for (double i = k; i >= 0 && term > tail * 1e-17; i--) {
        tail += term;
        term *= i / (n - i + 1);
    }
    return fmin(1, 2 * tail);
}

struct interval {
    double middle;
    double low;
    double high;
    double sampled; /* half of its width, as the scatter of the units has it */
};

/* The mean score, with a variance that takes each unit as one observation (a ratio estimator). */
static struct interval interval_of(const struct evidence *evidence,
                                   const struct paired_counts *counts)
{
    double n = (double)evidence->judged;
    double middle = ((double)counts->only_candidate - (double)counts->only_control) / n;
    double squares = (double)counts->score_squares - 2 * middle * (double)counts->score_sizes +
                     middle * middle * (double)evidence->size_squares;
    double sampled = NORMAL_95 * sqrt(fmax(0, squares)) / n;
    double half = fmax(sampled, RULE_OF_THREE / n);

    return (struct interval){ middle, middle - half, middle + half, sampled };
}

static bool class_differs(const struct evidence *evidence, enum evidence_class class)
{
    const struct paired_counts *counts = &evidence->classes[class];

    return counts->units_candidate > counts->units_control &&
           verdict_log_e(counts->units_candidate, counts->units_control) >= log(VERDICT_E) &&
           interval_of(evidence, counts).low > 0;
}

/* How many exchanges it would take until the interval is narrow enough, if all goes on like this.
 * NULL: nothing was judged yet. */
static uint64_t exchanges_wanted(const struct evidence *evidence, const struct interval *interval,
                                 double tolerance)
{
    double n = (double)evidence->judged;

    if (interval == NULL)
        return (uint64_t)ceil(RULE_OF_THREE / tolerance);
    double room = tolerance - fabs(interval->middle);
    if (room <= 0)
        return 0;
    double narrower = interval->sampled / room;
    double needed = fmax(RULE_OF_THREE / room, n * narrower * narrower);
    return needed > n ? (uint64_t)ceil(fmin(needed - n, 1e15)) : 0;
}

static bool too_much_is_uncertain(const struct evidence *evidence)
{
    return (double)evidence->uncertain > VERDICT_MAX_UNCERTAIN * (double)evidence->exchanges;
}

static enum verdict_value value_without_control(const struct interval *interval, double tolerance)
{
    if (interval->low > tolerance)
        return VERDICT_DIFFERS;
    return interval->high < tolerance ? VERDICT_ALIKE : VERDICT_NOT_ENOUGH;
}

static enum verdict_value value_with_control(const struct evidence *evidence,
                                             const struct interval *interval, double tolerance,
                                             enum evidence_class *because)
{
    for (int class = 0; class < EVIDENCE_CLASSES; class ++) {
        if (class_differs(evidence, class)) {
            *because = class;
            return VERDICT_DIFFERS;
        }
    }
    bool within = interval->low > -tolerance && interval->high < tolerance;
    return within ? VERDICT_ALIKE : VERDICT_NOT_ENOUGH;
}

struct verdict verdict_of(const struct evidence *evidence, double tolerance)
{
    const struct paired_counts *all = &evidence->classes[EVIDENCE_ALL];
    struct verdict verdict = { .p = verdict_p(all->only_candidate, all->only_control) };

    if (evidence->judged == 0) {
        verdict.is_uncertain = evidence->exchanges > 0 && too_much_is_uncertain(evidence);
        verdict.wanted = exchanges_wanted(evidence, NULL, tolerance);
        return verdict;
    }
    struct interval interval = interval_of(evidence, all);
    verdict.excess = interval.middle;
    verdict.low = interval.low;
    verdict.high = interval.high;
    if (evidence->has_control) {
        verdict.e = exp(fmin(700, verdict_log_e(all->units_candidate, all->units_control)));
        verdict.value = value_with_control(evidence, &interval, tolerance, &verdict.because);
    } else {
        verdict.value = value_without_control(&interval, tolerance);
    }
    if (verdict.value == VERDICT_ALIKE && too_much_is_uncertain(evidence)) {
        verdict.value = VERDICT_NOT_ENOUGH;
        verdict.is_uncertain = true;
    } else if (verdict.value == VERDICT_NOT_ENOUGH) {
        verdict.wanted = exchanges_wanted(evidence, &interval, tolerance);
    }
    return verdict;
}

const char *verdict_word(enum verdict_value value)
{
    static const char *const words[] = {
        [VERDICT_NOT_ENOUGH] = "not_enough",
        [VERDICT_ALIKE] = "alike",
        [VERDICT_DIFFERS] = "differs",
    };
    return words[value];
}

/* 48210 as 48,210. */
static const char *grouped(uint64_t number, char *text, size_t size)
{
    char digits[24];
    int  length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    size_t out = 0;

    for (int i = 0; i < length && out + 2 < size; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            text[out++] = ',';
        text[out++] = digits[i];
    }
    text[out] = '\0';
    return text;
}

static void not_enough_sentence(const struct verdict *verdict, const struct evidence *evidence,
                                const char *shadow, char *text, size_t size)
{
    char seen[32], more[32];

    grouped(evidence->judged, seen, sizeof seen);
    if (verdict->is_uncertain)
        snprintf(text, size,
                 "not enough evidence for %s: %.1f %% of its exchanges could not be compared",
                 shadow, 100 * (double)evidence->uncertain / (double)evidence->exchanges);
    else if (verdict->wanted > 0)
        snprintf(text, size,
                 "not enough evidence for %s: %s exchanges compared, about %s more needed", shadow,
                 seen, grouped(verdict->wanted, more, sizeof more));
    else
        snprintf(text, size,
                 "not enough evidence for %s: %s exchanges compared, %.2f %% differ (%.2f to %.2f)",
                 shadow, seen, 100 * verdict->excess, 100 * verdict->low, 100 * verdict->high);
}

void verdict_sentence(const struct verdict *verdict, const struct evidence *evidence,
                      const char *shadow, char *text, size_t size)
{
    char count[32];

    grouped(evidence->judged, count, sizeof count);
    switch (verdict->value) {
    case VERDICT_NOT_ENOUGH:
        not_enough_sentence(verdict, evidence, shadow, text, size);
        break;
    case VERDICT_ALIKE:
        snprintf(text, size,
                 "%s answers like the primary: %.3f %% of %s exchanges differ (%.3f to %.3f)",
                 shadow, 100 * verdict->excess, count, 100 * verdict->low, 100 * verdict->high);
        break;
    case VERDICT_DIFFERS:
        snprintf(text, size,
                 "%s differs from the primary in %s: %.2f %% of %s exchanges (%.2f to %.2f)",
                 shadow, class_words[verdict->because], 100 * verdict->excess, count,
                 100 * verdict->low, 100 * verdict->high);
        break;
    }
    size_t length = strnlen(text, size);
    if (!evidence->has_control && length < size)
        snprintf(text + length, size - length, "; no control: noise is not subtracted");
}
