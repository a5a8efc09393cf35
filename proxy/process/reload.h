/*
 * reload.h — the configuration, read once more from where it came from.
 */
#ifndef PROCESS_RELOAD_H
#define PROCESS_RELOAD_H

#include <stdbool.h>

struct command;
struct config;
struct fault;

/* Reads everything that a reload reads from files and makes from it, to no effect but what
 * files_read() keeps.  Frees nothing: for a process that ends then.  False: the fault says what is
 * wrong. */
bool reload_try(const struct command *, struct fault *);

/* The configuration as file, _FILEs and environment say it now, and the flags as they were; what only
 * a restart can change is as in the current one, with a warning.  NULL: the fault says what is wrong
 * with it.  The caller owns it. */
struct config *reload_config(const struct command *, const struct config *current, struct fault *);

#endif
