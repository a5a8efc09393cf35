/*
 * listener.h — accepts, and knows when not to.
 *
 * At --max-sessions, and when descriptors or memory run out, accepting pauses: what waits stays in
 * the kernel's backlog.  It goes on when a client of this worker leaves, or after a short while.
 */
#ifndef RUN_LISTENER_H
#define RUN_LISTENER_H

#include <stdbool.h>
#include <stddef.h>

struct listeners;
struct mirror;

/* Takes the listening sockets, one per listener of the configuration, in its order.  max_sessions
 * bounds the clients of all workers together. */
struct listeners *listeners_new(struct mirror *, const int *sockets, size_t count,
                                size_t max_sessions);
/* A client has left: go on if accepting is paused for the limit.  owner is the struct listeners. */
void listeners_resume(void *owner);
/* Serves what waits already, then closes the sockets: nobody new comes.  At the limit that takes
 * until clients leave. */
void listeners_drain(struct listeners *);
bool listeners_are_closed(const struct listeners *);
void listeners_free(struct listeners *);

#endif
