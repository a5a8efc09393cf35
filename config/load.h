/*
 * load.h — flags, environment and file become one struct config, or one sentence that says why not.
 *
 *     flag  >  environment (DOPPEL_X, DOPPEL_X_FILE)  >  file (-c)  >  default
 *
 * All of it is driven by the one table in options.c.
 */
#ifndef CONFIG_LOAD_H
#define CONFIG_LOAD_H

#include <stdio.h>

struct config;
struct fault;
struct log_record;

/* What the command line asks for besides a configuration. */
enum config_action {
    CONFIG_RUN,
    CONFIG_CHECK,   /* -t */
    CONFIG_HEALTH,  /* --health: the configuration has nothing but the admin address */
    CONFIG_HELP,     /* -h */
    CONFIG_HELP_ALL, /* --help */
    CONFIG_NOTHING, /* no argument and no DOPPEL_LISTEN: say how to go on, exit 2 */
    CONFIG_VERSION, /* -V */
    CONFIG_TABLE,   /* hidden: the flags as the README's tables (--help-markdown) */
};

/* Sentences that are worth a warning but do not stop anything (an unknown DOPPEL_ variable, -s
 * together with -r); the caller prints or logs them. */
struct config_warnings {
    char **texts;
    size_t count;
};

/* How we were called. */
struct command {
    int          argc;
    char *const *argv;        /* ends with NULL */
    char *const *environment; /* like environ */
};

/* NULL: the fault names the flag, the variable or FILE:LINE, what was wrong and what would be
 * right.  With CONFIG_HELP and all below it the answer is NULL as well and the fault stays empty.
 * The caller owns the result: config_free(). */
struct config *config_load(const struct command *, enum config_action *, struct config_warnings *,
                           struct fault *);
/* Says each in the log. */
void config_warnings_log(const struct config_warnings *);
void config_warnings_free(struct config_warnings *);

/* The whole configuration in the file's own format; loading it again gives the same configuration. */
void config_print(const struct config *, FILE *);
/* Listeners and primaries by name, every other setting that is not its default, and the list of
 * shadows with theirs, as members of a line; shadows_omitted says how many did not fit.  Secrets are
 * not settings: those are the names of their files. */
void config_describe(const struct config *, struct log_record *);

#endif
