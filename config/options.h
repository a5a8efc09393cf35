/*
 * options.h — the one table of everything an operator can say.
 *
 * Parsing, bounds, defaults, --help, the DOPPEL_ variables, the file's keys, the sample file and
 * the README's table all come from its rows.  What an option is called depends on the place: the
 * row that is --shadow-buffer is DOPPEL_SHADOW_BUFFER in the environment, shadow-buffer in the
 * file, and buffer in a [shadow NAME] section and in an address's query.
 */
#ifndef CONFIG_OPTIONS_H
#define CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/load.h"

enum option_scope {
    SCOPE_GLOBAL,  /* a field of struct config */
    SCOPE_SHADOW,  /* of struct shadow_config: the flag is every shadow's default */
    SCOPE_PRIMARY, /* of a primary's struct target_config: said in the address's query only */
    SCOPE_LISTEN,  /* of struct listen_config: said in the address's query only */
    SCOPE_TARGET,  /* of struct target_config: said in the query of a primary or shadow, or in the
                      shadow's section */
    SCOPE_COMMAND, /* no field: it steers the command line itself */
};

enum option_kind {
    KIND_SWITCH,    /* bool */
    KIND_COUNT,     /* uint64_t */
    KIND_WORKERS,   /* uint64_t, or auto */
    KIND_SIZE,      /* uint64_t, bytes */
    KIND_TIME,      /* double, seconds; bounds in milliseconds */
    KIND_PERCENT,   /* double */
    KIND_CHOICE,    /* an enum, in the order of choices */
    KIND_MODE,      /* unsigned, octal */
    KIND_TEXT,      /* char *, NULL when empty */
    KIND_HOST,      /* char *, as base/host.h spells it; NULL when empty */
    KIND_NETWORKS,  /* struct network_list */
    KIND_SERVERS,   /* struct address_list: name servers */
    KIND_TEXTS,     /* struct text_list */
    KIND_SOURCE,    /* struct source_addresses */
    KIND_BREAKER,   /* struct breaker_config: N/TIME; bounds are those of N */
    KIND_ADMIN,     /* struct endpoint, or off */
    KIND_LISTENS,   /* these four are lists of addresses: addresses.h */
    KIND_PRIMARIES,
    KIND_SOCKET,
    KIND_SHADOWS,
    KIND_FILE,      /* -c */
    KIND_SHORTHAND, /* -v, -q, -4, -6: sets another option to its preset */
    KIND_ACTION,
    KIND_QUESTION,  /* --health: an action with a value */
};

enum option_group {
    GROUP_LISTENING,
    GROUP_PRIMARY,
    GROUP_SHADOWS,
    GROUP_TLS,
    GROUP_NAMES,
    GROUP_LIMITS,
    GROUP_LOGGING,
    GROUP_PROCESSES,
    GROUP_ADMIN,
};
#define OPTION_GROUPS 9

struct option {
    const char        *name;       /* without dashes; NULL: no flag */
    const char        *aliases[2]; /* further flags */
    const char        *key;        /* in a [shadow NAME] section or a query; NULL: not there */
    const char        *preset;    /* the default, as text; NULL: it has to be said */
    const char        *none_word;    /* the word for 0 or none; NULL: there is none */
    const char        *choices;    /* KIND_CHOICE: words with a blank between */
    const char        *alias_for;       /* KIND_SHORTHAND: the name of the option it says */
    const char        *metavar;
    const char        *help;
    uint64_t           min;
    uint64_t           max;
    size_t             field;
    enum option_scope  scope;
    enum option_kind   kind;
    enum option_group  group;
    enum config_action action;
    enum config_action letter_action; /* CONFIG_RUN: the letter does the same */
    char               short_name;
    bool               hidden; /* for tests: in no help and no table */
};

enum option_place {
    PLACE_FLAG,
    PLACE_VARIABLE, /* names as in flags: shadow-buffer for DOPPEL_SHADOW_BUFFER */
    PLACE_FILE,
    PLACE_SECTION,
    PLACE_LISTEN_QUERY,
    PLACE_PRIMARY_QUERY,
    PLACE_SHADOW_QUERY,
};

/* The rows in order; NULL behind the last. */
const struct option *option_at(size_t index);
/* Where the row is: a number below OPTION_ROOM. */
size_t option_index(const struct option *);
#define OPTION_ROOM 96

/* What the option is called there; NULL: it cannot be said there. */
const char          *option_name(const struct option *, enum option_place);
const struct option *option_find(enum option_place, const char *name); /* NULL: unknown */
const struct option *option_of_short_name(char letter);                    /* NULL: unknown */
/* The name there that is most like this one (nearest.c); NULL: none is like it. */
const char *option_nearest(enum option_place, const char *name);
/* A later version will know this name: it is refused with a sentence of its own. */
bool option_is_withheld(enum option_place, const char *name);
/* True: it may be said several times, and each time adds to its list. */
bool option_is_list(const struct option *);
/* True: what is said is a list of addresses, which addresses.h reads and prints. */
bool option_is_addresses(const struct option *);
/* True: a flag of this kind stands alone. */
bool option_is_bare(const struct option *);

#endif
