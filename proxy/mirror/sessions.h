/*
 * sessions.h — all sessions of a worker.
 */
#ifndef MIRROR_SESSIONS_H
#define MIRROR_SESSIONS_H

struct mirror;

/* Brings the counters of all sessions that moved up to date. */
void sessions_book(struct mirror *);
/* While all shadows together hold more memory than they may, and this worker's more than its share:
 * cuts its most lagging one. */
void sessions_shed_memory(struct mirror *);
/* The drain deadline has passed: every session ends now.  Clients that nothing is buffered for get
 * FIN, the others RST. */
void sessions_drain(struct mirror *);

#endif
