/*
 * reload.h — the configuration, read once more from where it came from.
 */
#ifndef RUN_RELOAD_H
#define RUN_RELOAD_H

struct config;
struct fault;

/* How we were called: flags stay, what they lead to is read again. */
struct command {
    int          argc;
    char *const *argv;
    char *const *environment;
};

/* The configuration as file, _FILEs and environment say it now; what only a restart can change is as
 * in the current one, with a warning.  NULL: the fault says what is wrong with it.  The caller owns
 * it. */
struct config *reload_config(const struct command *, const struct config *current, struct fault *);

#endif
