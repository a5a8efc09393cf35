/*
 * sessions.h — all sessions of a worker.
 */
#ifndef MIRROR_SESSIONS_H
#define MIRROR_SESSIONS_H

#include <stdbool.h>

struct mirror;

/* Brings the counters of all sessions up to date that moved before its first call.  Does a part, and
 * answers whether there is more to do. */
bool sessions_book(struct mirror *);
/* While all shadows together hold more memory than they may, and this worker's more than its share:
 * cuts one of its most lagging, which has at least half as much as the very most.  Does a part, and
 * answers whether there is more to do. */
bool sessions_shed_memory(struct mirror *);
/* A runtime setting has changed (admin/runtime_settings.h): shadows that are paused now are cut off,
 * in all sessions that may have one.  Does a part, and answers whether there is more to do. */
bool sessions_apply_runtime(struct mirror *);
/* The drain deadline has passed: every session ends now.  Clients that nothing is buffered for get
 * FIN, the others RST. */
void sessions_drain(struct mirror *);

#endif
