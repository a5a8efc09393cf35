/*
 * nearest.c — the option that somebody may have meant who wrote another name.
 *
 *     "shadow-bufer" ──one letter too few──▶ "shadow-buffer"      "relay" is our "primary"
 */
#include "config/options.h"

#include <assert.h>
#include <string.h>

#define LONGEST_NAME 40 /* nothing longer is like a name of ours */

/* What other proxies call it. */
static const struct {
    const char *theirs;
    const char *ours;
} elsewhere[] = {
    { "upstream", "primary" },     { "backend", "primary" },
    { "server", "primary" },       { "target", "primary" },
    { "destination", "primary" },  { "proxy-pass", "primary" },
    { "forward", "primary" },      { "bind", "listen" },
    { "port", "listen" },          { "copy", "shadow" },
    { "tee", "shadow" },           { "threads", "workers" },
    { "processes", "workers" },    { "maxconn", "max-sessions" },
    { "timeout", "idle-timeout" }, { "max-connections", "max-sessions" },
    { "nameserver", "resolver" },  { "metrics", "admin" },
};

/* Edits that turn one name into the other: insert, delete, replace (Levenshtein, one row). */
static size_t distance(const char *from, const char *to)
{
    size_t row[LONGEST_NAME + 1];
    size_t width = strlen(to);

    assert(width <= LONGEST_NAME);
    for (size_t column = 0; column <= width; column++)
        row[column] = column;
    for (size_t line = 1; from[line - 1] != '\0'; line++) {
        size_t diagonal = row[0];
        row[0] = line;
        for (size_t column = 1; column <= width; column++) {
            size_t best = diagonal + (from[line - 1] != to[column - 1]);
            diagonal = row[column];
            if (row[column] + 1 < best)
                best = row[column] + 1;
            if (row[column - 1] + 1 < best)
                best = row[column - 1] + 1;
            row[column] = best;
        }
    }
    return row[width];
}

/* "admin-token" for "admin-token-file". */
static bool is_beginning(const char *name, const char *known)
{
    size_t length = strlen(name);

    return strncmp(name, known, length) == 0 && known[length] == '-';
}

/* What an operator from elsewhere calls it counts as well, and leads to our name. */
static size_t distance_to(const struct option *option, enum option_place place, const char *name)
{
    size_t best = is_beginning(name, option_name(option, place))
                      ? 1
                      : distance(name, option_name(option, place));
    const char *further[] = { option->aliases[0], option->aliases[1],
                              place == PLACE_FILE ? option->key : NULL,
                              place == PLACE_FILE ? NULL : option->name };

    for (size_t i = 0; i < sizeof further / sizeof further[0]; i++)
        if (further[i] != NULL && distance(name, further[i]) < best)
            best = distance(name, further[i]);
    return best;
}

/* A shorthand is a flag only; what it says may be known there. */
static bool is_shorthand_of_one_there(const struct option *option, enum option_place place,
                                      const char *name)
{
    return option->alias_for != NULL && strcmp(option->name, name) == 0 &&
           option_find(place, option->alias_for) != NULL;
}

static const char *name_from_elsewhere(enum option_place place, const char *name)
{
    for (size_t i = 0; i < sizeof elsewhere / sizeof elsewhere[0]; i++)
        if (strcmp(elsewhere[i].theirs, name) == 0 && option_find(place, elsewhere[i].ours) != NULL)
            return elsewhere[i].ours;
    return NULL;
}

const char *option_nearest(enum option_place place, const char *name)
{
    const struct option *option;
    const char *nearest = name_from_elsewhere(place, name);
    size_t length = strlen(name);
    size_t best = length / 3 + 2; /* further away, a guess would be noise */

    if (nearest != NULL || length == 0 || length > LONGEST_NAME)
        return nearest;
    for (size_t i = 0; (option = option_at(i)) != NULL; i++) {
        if (is_shorthand_of_one_there(option, place, name))
            return option->alias_for;
        const char *known = option_name(option, place);
        if (known == NULL || option->hidden)
            continue;
        size_t far = distance_to(option, place, name);
        /* With every letter replaced, anything is like a short name. */
        if (far < best && far < strlen(known)) {
            best = far;
            nearest = known;
        }
    }
    return nearest;
}
