/*
 * loops.h — is a target one of our own listeners?  Asked before anything is bound.
 *
 * What is not known yet (names, port 0) is looked at when it is dialled (dial/dial.h).
 */
#ifndef PROCESS_LOOPS_H
#define PROCESS_LOOPS_H

#include <stdbool.h>

struct config;
struct fault;

/* False: the fault says which target, which listener, and what to do.  With --allow-loop always
 * true. */
bool loops_check(const struct config *, struct fault *);

#endif
