/*
 * health.h — is the doppel behind an admin address ready?  Asked by a program of its own, from
 * where a container has nothing else that could ask.
 */
#ifndef ADMIN_HEALTH_H
#define ADMIN_HEALTH_H

#include <stdbool.h>

struct endpoint;
struct fault;

/* GET /readyz, answered with 200 within three seconds.  The host must be numeric or localhost; where
 * every address is listened on, the loopback interface is asked.  False: the fault says why not. */
bool health_ask(const struct endpoint *, struct fault *);

#endif
