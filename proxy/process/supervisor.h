/*
 * supervisor.h — keeps the wished number of workers alive, and ends them in good order.
 */
#ifndef PROCESS_SUPERVISOR_H
#define PROCESS_SUPERVISOR_H

struct command;
struct config;
struct config_warnings;

/* Binds, starts the workers and serves until it is told to stop; takes the configuration.  The
 * command is what a reload reads again; the warnings of reading it are logged.  Answers the exit
 * status: 0 after a drain in good order, 1 when it could not run (the reason is on stderr) or was
 * hurried. */
int supervisor_run(struct config *, const struct command *, const struct config_warnings *);

#endif
