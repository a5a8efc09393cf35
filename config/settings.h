/*
 * settings.h — everything that was said, in the order it was said, with the place of each word.
 *
 *     file ──┐
 *     environment ──▶ settings ──▶ build.c
 *     flags ──┘
 *
 * Names are known here, values are still text: whether a text is a size is found out when the
 * configuration is built, so that each place is checked in the same way.
 */
#ifndef CONFIG_SETTINGS_H
#define CONFIG_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"
#include "config/load.h"
#include "config/options.h"

struct fault;

enum source {
    SOURCE_FILE,
    SOURCE_ENVIRONMENT,
    SOURCE_FLAG, /* the later one wins */
};

struct setting {
    const struct option *option;
    enum source          source;
    char                *text;
    char                *place;   /* "--buffer", "DOPPEL_BUFFER", "doppel.conf:7" */
    size_t               section; /* the number of its [shadow NAME]; 0: none */
    bool                 heads;   /* the section's first line: text is NAME */
};

struct settings {
    struct setting *items;
    size_t          count;
    size_t          room;
    struct text_list files; /* those that were read */
};

/* Takes copies of text and place; the answer lives until the next one is added. */
struct setting *settings_add(struct settings *, const struct option *, enum source,
                             const char *text, const char *place);
void settings_note_file(struct settings *, const char *path);
/* More text behind what the last setting has. */
void settings_extend(struct settings *, const char *text);
/* The last one of this name, from the source that wins; NULL: it was not said. */
const struct setting *settings_last(const struct settings *, const char *name);
/* Values take no quotes, which env-files and YAML may leave around them.  False: the fault names the
 * place. */
bool settings_are_unquoted(const struct settings *, struct fault *);
void settings_free(struct settings *);

/* Reads flags.  An action other than CONFIG_RUN and CONFIG_CHECK ends the
 * reading. */
bool settings_read_flags(struct settings *, int argc, char *const argv[], enum config_action *,
                         struct fault *);
/* Reads DOPPEL_X and DOPPEL_X_FILE. */
bool settings_have_variable(char *const environment[], const char *name);
bool settings_read_environment(struct settings *, char *const environment[],
                               struct config_warnings *, struct fault *);

/* A whole file as text, without zero bytes and without a byte order mark; the caller frees it.
 * NULL: the fault. */
char *settings_read_file(const char *path, struct fault *);
/* The sentence for a name that is not known in this place, with the nearest one that is.  what is
 * the kind of name: "flag", "key". */
bool settings_refuse_name(enum option_place, const char *what, const char *name, struct fault *);
void settings_warn(struct config_warnings *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
