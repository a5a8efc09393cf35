/*
 * breaker.c — the whole state in one word.
 *
 *     63 ........ 24 | 23 ...... 8 | 7 ..... 2 | 1 0
 *     until, in ms   | failures    | openings  | state
 *
 * until is CLOCK_MONOTONIC; 40 bits of milliseconds are 34 years.  It also is the probe's number: a
 * probe whose place was given to another one has an older number, and is no longer listened to.
 */
#include "shared/breaker.h"

#include <math.h>

#define MAX_FAILURES 0xffff
#define MAX_OPENINGS 20 /* doubled so often, any time is beyond the most */
#define MIN_SHARE   0.75 /* of the back-off that is always kept; the rest is jitter */

struct state {
    enum breaker_state state;
    uint64_t           openings; /* since it was last closed */
    uint64_t           failures; /* in a row, while closed */
    uint64_t           until;
};

static struct state unpack(uint64_t word)
{
    return (struct state){
        .state = (enum breaker_state)(word & 3),
        .openings = word >> 2 & 0x3f,
        .failures = word >> 8 & MAX_FAILURES,
        .until = word >> 24,
    };
}

static uint64_t pack(struct state state)
{
    return state.until << 24 | state.failures << 8 | state.openings << 2 | state.state;
}

static uint64_t milliseconds(double seconds)
{
    return (uint64_t)ceil(seconds * 1000);
}

static bool change(struct breaker *breaker, uint64_t *word, struct state next)
{
    return atomic_compare_exchange_weak(&breaker->word, word, pack(next));
}

static bool is_due(struct state state, double now)
{
    return state.state == BREAKER_CLOSED || milliseconds(now) >= state.until;
}

bool breaker_admits(const struct breaker *breaker, double now)
{
    return is_due(unpack(atomic_load_explicit(&breaker->word, memory_order_relaxed)), now);
}

bool breaker_enter(struct breaker *breaker, double now, double patience, uint64_t *probe)
{
    uint64_t word = atomic_load(&breaker->word);

    for (;;) {
        struct state next = unpack(word);

        *probe = 0;
        if (next.state == BREAKER_CLOSED)
            return true;
        if (!is_due(next, now))
            return false;
        next.state = BREAKER_HALF_OPEN;
        next.until = milliseconds(now + patience);
        if (change(breaker, &word, next)) {
            *probe = next.until;
            return true;
        }
    }
}

static bool is_probe(struct state state, uint64_t probe)
{
    return state.state == BREAKER_HALF_OPEN && state.until == probe;
}

/* Between three quarters of it and all of it, so that many doppels do not probe at the same time. */
static double back_off(const struct breaker_terms *terms, uint64_t openings, uint64_t random)
{
    double longest = fmax(terms->seconds, BREAKER_MAX_SECONDS);
    double seconds = fmin(ldexp(terms->seconds, (int)openings - 1), longest);

    return seconds * (MIN_SHARE + (1 - MIN_SHARE) * ldexp((double)(random >> 11), -53));
}

static struct state opened(struct state state, const struct breaker_terms *terms,
                           const struct breaker_failure *failure)
{
    uint64_t openings = state.openings < MAX_OPENINGS ? state.openings + 1 : state.openings;

    return (struct state){
        .state = BREAKER_OPEN,
        .openings = openings,
        .until = milliseconds(failure->now + back_off(terms, openings, failure->random)),
    };
}

bool breaker_failed(struct breaker *breaker, const struct breaker_terms *terms, uint64_t probe,
                    const struct breaker_failure *failure)
{
    uint64_t word = atomic_load(&breaker->word);

    for (;;) {
        struct state next = unpack(word);
        bool         was_closed = next.state == BREAKER_CLOSED;

        if (!was_closed && !is_probe(next, probe))
            return false; /* begun before it opened: nothing new */
        if (was_closed && next.failures < MAX_FAILURES)
            next.failures++;
        if (!was_closed || next.failures >= terms->failures) {
            next = opened(next, terms, failure);
            atomic_store(&breaker->cause, failure->cause);
        }
        if (change(breaker, &word, next))
            return was_closed && next.state == BREAKER_OPEN;
    }
}

bool breaker_succeeded(struct breaker *breaker, uint64_t probe)
{
    uint64_t word = atomic_load_explicit(&breaker->word, memory_order_relaxed);

    for (;;) {
        struct state state = unpack(word);
        bool         is_ours = is_probe(state, probe);

        if (!is_ours && (state.state != BREAKER_CLOSED || state.failures == 0))
            return false;
        if (change(breaker, &word, (struct state){ .state = BREAKER_CLOSED }))
            return is_ours;
    }
}

void breaker_unknown(struct breaker *breaker, uint64_t probe, double now)
{
    uint64_t word = atomic_load(&breaker->word);

    for (;;) {
        struct state next = unpack(word);

        if (!is_probe(next, probe))
            return;
        next.state = BREAKER_OPEN;
        next.until = milliseconds(now);
        if (change(breaker, &word, next))
            return;
    }
}

void breaker_reset(struct breaker *breaker)
{
    atomic_store(&breaker->word, 0);
}

enum breaker_state breaker_state(const struct breaker *breaker)
{
    return unpack(atomic_load(&breaker->word)).state;
}

double breaker_until(const struct breaker *breaker)
{
    struct state state = unpack(atomic_load(&breaker->word));

    return state.state == BREAKER_CLOSED ? 0 : (double)state.until / 1000;
}
