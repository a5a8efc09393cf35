/*
 * supervisor.h — keeps the wished number of workers alive, and ends them in good order.
 */
#ifndef RUN_SUPERVISOR_H
#define RUN_SUPERVISOR_H

struct config;

/* Binds, starts the workers and serves until it is told to stop.  Answers the exit status: 0 after
 * a drain in good order, 1 when it could not run (the reason is on stderr) or was hurried. */
int supervisor_run(const struct config *);

#endif
