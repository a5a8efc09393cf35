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
 * counted (COUNT_CLIENTS_OPEN).  The session lives on its own from here and frees itself; a client
 * that may not be served is reset. */
void session_open(struct mirror *, int socket, const struct address *client,
                  const struct listen_config *);

#endif
