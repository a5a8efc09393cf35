/*
 * number.c — numbers with units.
 *
 * Every number is read as an integer of its finest step (a byte, a millisecond, a ten-thousandth of
 * a percent), so that nothing overflows unnoticed and what is printed is exactly what was read.
 */
#include "config/number.h"

#include <inttypes.h>
#include <string.h>

#include "base/fault.h"
#include "config/options.h"

#define PERCENT_STEPS 10000 /* four decimals: one session in a million */
#define QUOTED        "\"%.120s\""

struct unit {
    const char *name;
    uint64_t    steps;
};

static const struct unit sizes[] = {
    { "g", 1024 * 1024 * 1024 }, { "m", 1024 * 1024 }, { "k", 1024 }, { "", 1 }, { NULL, 0 },
};

static const struct unit times[] = {
    { "h", 3600 * 1000 }, { "m", 60 * 1000 }, { "s", 1000 }, { "ms", 1 }, { "", 1000 }, { NULL, 0 },
};

static const struct unit percents[] = { { "%", PERCENT_STEPS },
                                        { "", PERCENT_STEPS },
                                        { NULL, 0 } };

static const struct unit counts[] = { { "", 1 }, { NULL, 0 } };

static const struct unit *unit_named(const struct unit *units, const char *name)
{
    for (; units->name != NULL; units++)
        if (strcasecmp(units->name, name) == 0)
            return units;
    return NULL;
}

/* Digits behind the point, as steps of the unit; what is finer than one step is refused. */
static bool read_fraction(const char *digits, size_t length, uint64_t unit, uint64_t *steps)
{
    for (size_t i = 0; i < length; i++) {
        if (unit % 10 != 0 && digits[i] != '0')
            return false;
        unit /= 10;
        *steps += unit * (uint64_t)(digits[i] - '0');
    }
    return length > 0;
}

/* More than any bound. */
#define TOO_MANY UINT64_MAX

/* A number and its unit, in steps, TOO_MANY when 64 bits do not hold them.  False: it is none. */
static bool parse_number(const char *text, const struct unit *units, uint64_t *steps)
{
    size_t whole = strspn(text, "0123456789");
    bool has_point = text[whole] == '.';
    const char *fraction = text + whole + has_point;
    size_t decimals = has_point ? strspn(fraction, "0123456789") : 0;
    const struct unit *unit = unit_named(units, fraction + decimals);
    uint64_t value = 0;
    uint64_t part = 0;

    if (whole == 0 || unit == NULL)
        return false;
    if (has_point && !read_fraction(fraction, decimals, unit->steps, &part))
        return false;
    bool fits = true;
    for (size_t i = 0; i < whole && fits; i++)
        fits = !__builtin_mul_overflow(value, 10, &value) &&
               !__builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value);
    fits = fits && !__builtin_mul_overflow(value, unit->steps, &value);
    *steps = fits && !__builtin_add_overflow(value, part, &value) ? value : TOO_MANY;
    return true;
}

/* The largest unit that needs no fraction. */
static void print_number(uint64_t steps, const struct unit *units, FILE *to)
{
    while (steps % units->steps != 0)
        units++;
    fprintf(to, "%" PRIu64 "%s", steps / units->steps, units->name);
}

static void print_percent(uint64_t steps, FILE *to)
{
    char decimals[8];

    fprintf(to, "%" PRIu64, steps / PERCENT_STEPS);
    if (steps % PERCENT_STEPS == 0)
        return;
    snprintf(decimals, sizeof decimals, "%04u", (unsigned)(steps % PERCENT_STEPS));
    for (size_t last = 3; decimals[last] == '0'; last--)
        decimals[last] = '\0';
    fprintf(to, ".%s", decimals);
}

/* What each kind of number is called, and how one is written. */
struct number {
    const struct unit *units;
    const char        *noun;
    const char        *advice;
    uint64_t           scale; /* steps in one of what the bounds count */
};

static const struct number *number_of(enum option_kind kind)
{
    static const struct number size = { sizes, "a size", "a whole number with k, m or g, as in 16m",
                                        1 };
    static const struct number time = { times, "a time",
                                        "a number with ms, s, m or h, as in 250ms or 5s", 1 };
    static const struct number percent = { percents, "a percentage",
                                           "a number from 0 to 100, as in 12.5", PERCENT_STEPS };
    static const struct number count = { counts, "a number", "digits, as in 16", 1 };

    if (kind == KIND_SIZE)
        return &size;
    if (kind == KIND_TIME)
        return &time;
    return kind == KIND_PERCENT ? &percent : &count;
}

static void print_steps(uint64_t steps, enum option_kind kind, FILE *to)
{
    if (kind == KIND_PERCENT)
        print_percent(steps, to);
    else if (steps == 0)
        fputs("0", to);
    else
        print_number(steps, number_of(kind)->units, to);
}

static bool out_of_bounds(const struct option *option, const char *text, struct fault *fault)
{
    uint64_t scale = number_of(option->kind)->scale;
    char bounds[64] = "";
    FILE *to = fmemopen(bounds, sizeof bounds, "w");

    if (to != NULL) {
        print_steps(option->min * scale, option->kind, to);
        fputs(" to ", to);
        print_steps(option->max * scale, option->kind, to);
        fclose(to);
    }
    return fault_set(fault, QUOTED " is out of bounds; write %s%s%s", text, bounds,
                     option->none_word != NULL ? ", or " : "",
                     option->none_word != NULL ? option->none_word : "");
}

bool number_read(const struct option *option, const char *text, uint64_t *steps,
                 struct fault *fault)
{
    const struct number *number = number_of(option->kind);

    if (option->none_word != NULL && strcmp(text, option->none_word) == 0) {
        *steps = 0;
        return true;
    }
    if (!parse_number(text, number->units, steps))
        return fault_set(fault, QUOTED " is not %s; write %s%s%s", text, number->noun,
                         number->advice, option->none_word != NULL ? ", or " : "",
                         option->none_word != NULL ? option->none_word : "");
    if (*steps < option->min * number->scale || *steps > option->max * number->scale)
        return out_of_bounds(option, text, fault);
    return true;
}

bool number_set(const struct option *option, void *field, const char *text, struct fault *fault)
{
    uint64_t steps;

    if (!number_read(option, text, &steps, fault))
        return false;
    if (option->kind == KIND_TIME)
        *(double *)field = (double)steps / 1000;
    else if (option->kind == KIND_PERCENT)
        *(double *)field = (double)steps / PERCENT_STEPS;
    else
        *(uint64_t *)field = steps;
    return true;
}

/* The field's value in steps; rounding undoes the division of number_set() exactly. */
static uint64_t steps_of(const struct option *option, const void *field)
{
    if (option->kind == KIND_TIME)
        return (uint64_t)(*(const double *)field * 1000 + 0.5);
    if (option->kind == KIND_PERCENT)
        return (uint64_t)(*(const double *)field * PERCENT_STEPS + 0.5);
    return *(const uint64_t *)field;
}

void number_print(const struct option *option, const void *field, FILE *to)
{
    uint64_t steps = steps_of(option, field);

    if (steps == 0 && option->none_word != NULL)
        fputs(option->none_word, to);
    else
        print_steps(steps, option->kind, to);
}
