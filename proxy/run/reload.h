/*
 * reload.h — the configuration, read once more from where it came from.
 */
#ifndef RUN_RELOAD_H
#define RUN_RELOAD_H

struct command;
struct config;
struct fault;

/* The configuration as file, _FILEs and environment say it now, and the flags as they were; what only
 * a restart can change is as in the current one, with a warning.  NULL: the fault says what is wrong
 * with it.  The caller owns it. */
struct config *reload_config(const struct command *, const struct config *current, struct fault *);

#endif
