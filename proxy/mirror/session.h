/*
 * session.h — one client, its primary and its shadows, from accept to the last byte.
 *
 *     RELAYING ──▶ ENDING ──▶ CLOSED
 *     client and    shadows    freed
 *     primary talk  finish
 */
#ifndef MIRROR_SESSION_H
#define MIRROR_SESSION_H

#include <stddef.h>

struct address;
struct listen_config;
struct mirror;

/* Takes the accepted, non-blocking socket, and a place among the clients that the listener has
 * counted (COUNT_CLIENTS_OPEN).  The session lives on its own from here and frees
 * itself; a client that may not be served is reset. */
void session_open(struct mirror *, int socket, const struct address *client,
                  const struct listen_config *);

/* Brings the counters of all sessions that moved up to date. */
void sessions_book(struct mirror *);
/* While all shadows together hold more memory than they may, and this worker's more than its share:
 * cuts its most lagging one. */
void sessions_shed_memory(struct mirror *);
/* The drain deadline has passed: every session ends now.  Clients that nothing is buffered for get
 * FIN, the others RST. */
void sessions_drain(struct mirror *);

#endif
