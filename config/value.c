/*
 * value.c — numbers with units, choices and texts.
 *
 * Every number is read as an integer of its finest step (a byte, a millisecond, a ten-thousandth of
 * a percent), so that nothing overflows unnoticed and what is printed is exactly what was read.
 */
#include "config/value.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/fault.h"
#include "config/addresses.h"
#include "config/config.h"
#include "config/cpus.h"
#include "config/lists.h"
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
static bool read_number(const char *text, const struct unit *units, uint64_t *steps)
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
        print_steps(option->least * scale, option->kind, to);
        fputs(" to ", to);
        print_steps(option->most * scale, option->kind, to);
        fclose(to);
    }
    return fault_set(fault, QUOTED " is out of bounds; write %s%s%s", text, bounds,
                     option->nothing != NULL ? ", or " : "",
                     option->nothing != NULL ? option->nothing : "");
}

static bool bounded_number(const struct option *option, const char *text, uint64_t *steps,
                           struct fault *fault)
{
    const struct number *number = number_of(option->kind);

    if (option->nothing != NULL && strcmp(text, option->nothing) == 0) {
        *steps = 0;
        return true;
    }
    if (!read_number(text, number->units, steps))
        return fault_set(fault, QUOTED " is not %s; write %s%s%s", text, number->noun,
                         number->advice, option->nothing != NULL ? ", or " : "",
                         option->nothing != NULL ? option->nothing : "");
    if (*steps < option->least * number->scale || *steps > option->most * number->scale)
        return out_of_bounds(option, text, fault);
    return true;
}

static bool set_number(const struct option *option, void *field, const char *text,
                       struct fault *fault)
{
    uint64_t steps;

    if (!bounded_number(option, text, &steps, fault))
        return false;
    if (option->kind == KIND_TIME)
        *(double *)field = (double)steps / 1000;
    else if (option->kind == KIND_PERCENT)
        *(double *)field = (double)steps / PERCENT_STEPS;
    else
        *(uint64_t *)field = steps;
    return true;
}

/* The field's value in steps; rounding undoes the division of set_number() exactly. */
static uint64_t steps_of(const struct option *option, const void *field)
{
    if (option->kind == KIND_TIME)
        return (uint64_t)(*(const double *)field * 1000 + 0.5);
    if (option->kind == KIND_PERCENT)
        return (uint64_t)(*(const double *)field * PERCENT_STEPS + 0.5);
    return *(const uint64_t *)field;
}

static void print_field_number(const struct option *option, const void *field, FILE *to)
{
    uint64_t steps = steps_of(option, field);

    if (steps == 0 && option->nothing != NULL)
        fputs(option->nothing, to);
    else
        print_steps(steps, option->kind, to);
}

static bool set_workers(const struct option *option, struct config *config, const char *text,
                        struct fault *fault)
{
    uint64_t number;

    if (strcmp(text, "auto") == 0) {
        uint64_t cpus = cpus_usable();
        config->workers_auto = true;
        config->workers = cpus < option->most ? cpus : option->most;
        return true;
    }
    if (!bounded_number(option, text, &number, NULL))
        return fault_set(
            fault, QUOTED " is no number of workers; write %" PRIu64 " to %" PRIu64 ", or auto",
            text, option->least, option->most);
    config->workers_auto = false;
    config->workers = number;
    return true;
}

static bool set_switch(bool *field, const char *text, struct fault *fault)
{
    static const char *const on[] = { "on", "yes", "true", "1" };
    static const char *const off[] = { "off", "no", "false", "0" };

    for (size_t i = 0; i < sizeof on / sizeof on[0]; i++) {
        bool is_on = strcasecmp(text, on[i]) == 0;
        if (is_on || strcasecmp(text, off[i]) == 0) {
            *field = is_on;
            return true;
        }
    }
    return fault_set(fault, QUOTED " is neither on nor off; write on or off", text);
}

/* The word at this place of a list with blanks between; NULL behind the last. */
static const char *word_at(const char *words, unsigned place, size_t *length)
{
    for (;; place--, words += *length + 1) {
        *length = strcspn(words, " ");
        if (place == 0)
            return words;
        if (words[*length] == '\0')
            return NULL;
    }
}

static bool set_choice(const struct option *option, void *field, const char *text,
                       struct fault *fault)
{
    const char *word;
    size_t length;

    for (unsigned i = 0; (word = word_at(option->choices, i, &length)) != NULL; i++) {
        if (strlen(text) == length && strncmp(word, text, length) == 0) {
            memcpy(field, &i, sizeof i); /* an enum without negatives is an unsigned */
            return true;
        }
    }
    return fault_set(fault, QUOTED " is unknown here; write one of: %s", text, option->choices);
}

static void print_choice(const struct option *option, const void *field, FILE *to)
{
    unsigned chosen;
    size_t length;

    memcpy(&chosen, field, sizeof chosen);
    const char *word = word_at(option->choices, chosen, &length);
    fprintf(to, "%.*s", (int)length, word);
}

static bool set_mode(const struct option *option, unsigned *field, const char *text,
                     struct fault *fault)
{
    char *end;
    unsigned long mode = strtoul(text, &end, 8);

    if (strspn(text, "01234567") != strlen(text) || text[0] == '\0' || mode > option->most)
        return fault_set(fault, QUOTED " is no file mode; write it in octal, as in 0660", text);
    *field = (unsigned)mode;
    return true;
}

/* What a file's line could not say is not accepted from elsewhere either, so that a printed
 * configuration always loads. */
static bool is_sayable(const char *text)
{
    size_t length = strlen(text);

    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return false;
        if (*c == ' ' && (c[1] == ';' || c[1] == '#'))
            return false;
    }
    return length == 0 ||
           (text[0] != ' ' && text[length - 1] != ' ' && text[0] != ';' && text[0] != '#');
}

static bool set_text(const struct option *option, char **field, const char *text,
                     struct fault *fault)
{
    if (strlen(text) < option->least)
        return fault_set(fault, "it is empty; write %s", option->metavar);
    if (!is_sayable(text) || strlen(text) >= 4000) /* PATH_MAX, and a line of the file */
        return fault_set(fault,
                         QUOTED " is no path we take; write one under 4000 bytes without control "
                                "characters, outer blanks, \" ;\" and \" #\"",
                         text);
    free(*field);
    *field = text[0] != '\0' ? xstrdup(text) : NULL;
    return true;
}

/* Each item must be sayable in a file, too. */
static bool add_texts(const struct option *option, struct text_list *list, const char *text,
                      bool is_first, struct fault *fault)
{
    if (!is_sayable(text))
        return fault_set(fault,
                         QUOTED
                         " cannot be said; leave out control characters, outer blanks, \" ;\" "
                         "and \" #\"",
                         text);
    return is_first ? lists_set_texts(list, text, option->nothing, fault)
                    : lists_add_texts(list, text, option->nothing, fault);
}

static bool set_admin(struct config *config, const char *text, struct fault *fault)
{
    char *address;

    if (text[0] == '\0' || strcmp(text, "off") == 0) {
        config->admin_on = false;
        config->admin = (struct endpoint){ 0 };
        return true;
    }
    struct endpoint endpoint;
    address = addresses_unescaped(text, fault);
    bool fine = address != NULL && endpoint_parse(&endpoint, address, ENDPOINT_LISTEN, fault);
    free(address);
    if (!fine)
        return false;
    if (endpoint.tls)
        return fault_set(fault, QUOTED ": the admin endpoint has no TLS; write HOST:PORT", text);
    config->admin_on = true;
    config->admin = endpoint;
    return true;
}

static void print_admin(const struct config *config, FILE *to)
{
    if (config->admin_on)
        addresses_print(&config->admin, to);
    else
        fputs("off", to);
}

static void *field_of(const struct option *option, void *base)
{
    return (char *)base + option->field;
}

bool value_add(const struct option *option, void *base, const char *text, struct fault *fault)
{
    void *field = field_of(option, base);

    switch (option->kind) {
    case KIND_SWITCH:
        return set_switch(field, text, fault);
    case KIND_COUNT:
    case KIND_SIZE:
    case KIND_TIME:
    case KIND_PERCENT:
        return set_number(option, field, text, fault);
    case KIND_WORKERS:
        return set_workers(option, base, text, fault);
    case KIND_CHOICE:
        return set_choice(option, field, text, fault);
    case KIND_MODE:
        return set_mode(option, field, text, fault);
    case KIND_TEXT:
        return set_text(option, field, text, fault);
    case KIND_NETWORKS:
        return lists_add_networks(field, text, option->nothing, fault);
    case KIND_SERVERS:
        return lists_add_servers(field, text, option->nothing, fault);
    case KIND_TEXTS:
        return add_texts(option, field, text, false, fault);
    case KIND_SOURCE:
        return lists_add_sources(field, text, option->nothing, fault);
    case KIND_ADMIN:
        return set_admin(base, text, fault);
    case KIND_LISTENS:
    case KIND_PRIMARIES:
    case KIND_SOCKET:
    case KIND_SHADOWS:
    case KIND_FILE:
    case KIND_SHORTHAND:
    case KIND_ACTION:
    case KIND_QUESTION:
        break;
    }
    return fault_set(fault, "%s has no value of its own", option->name);
}

bool value_set(const struct option *option, void *base, const char *text, struct fault *fault)
{
    if (option->kind == KIND_NETWORKS)
        return lists_set_networks(field_of(option, base), text, option->nothing, fault);
    if (option->kind == KIND_SERVERS)
        return lists_set_servers(field_of(option, base), text, option->nothing, fault);
    if (option->kind == KIND_TEXTS)
        return add_texts(option, field_of(option, base), text, true, fault);
    if (option->kind == KIND_SOURCE)
        return lists_set_sources(field_of(option, base), text, option->nothing, fault);
    return value_add(option, base, text, fault);
}

void value_print(const struct option *option, const void *base, FILE *to)
{
    const void *field = (const char *)base + option->field;

    switch (option->kind) {
    case KIND_SWITCH:
        fputs(*(const bool *)field ? "on" : "off", to);
        break;
    case KIND_COUNT:
    case KIND_SIZE:
    case KIND_TIME:
    case KIND_PERCENT:
        print_field_number(option, field, to);
        break;
    case KIND_WORKERS:
        if (((const struct config *)base)->workers_auto)
            fputs("auto", to);
        else
            print_field_number(option, field, to);
        break;
    case KIND_CHOICE:
        print_choice(option, field, to);
        break;
    case KIND_MODE:
        fprintf(to, "%04o", *(const unsigned *)field);
        break;
    case KIND_TEXT:
        fputs(*(char *const *)field != NULL ? *(char *const *)field : "", to);
        break;
    case KIND_NETWORKS:
        lists_print_networks(field, option->nothing, to);
        break;
    case KIND_SERVERS:
        lists_print_servers(field, option->nothing, to);
        break;
    case KIND_TEXTS:
        lists_print_texts(field, option->nothing, to);
        break;
    case KIND_SOURCE:
        lists_print_sources(field, option->nothing, to);
        break;
    case KIND_ADMIN:
        print_admin(base, to);
        break;
    case KIND_LISTENS:
    case KIND_PRIMARIES:
    case KIND_SOCKET:
    case KIND_SHADOWS:
    case KIND_FILE:
    case KIND_SHORTHAND:
    case KIND_ACTION:
    case KIND_QUESTION:
        break;
    }
}

void value_free(const struct option *option, void *base)
{
    if (option->kind == KIND_TEXT) {
        char **text = field_of(option, base);
        free(*text);
        *text = NULL;
    }
    if (option->kind == KIND_NETWORKS) {
        struct network_list *list = field_of(option, base);
        free(list->networks);
        *list = (struct network_list){ 0 };
    }
    if (option->kind == KIND_TEXTS)
        lists_free_texts(field_of(option, base));
    if (option->kind == KIND_SERVERS) {
        struct address_list *list = field_of(option, base);
        free(list->addresses);
        *list = (struct address_list){ 0 };
    }
}
