/*
 * connections.h — who is connected to the admin endpoint, and until when.
 *
 *                            normally            with too many connections
 *     connected ──────▶ REQUEST_SECONDS         HURRIED_REQUEST_SECONDS
 *     whole request ──▶ RESPONSE_SECONDS        HURRIED_RESPONSE_SECONDS
 *     whole response ─▶ as when connected
 *
 * The HTTP library knows only a timeout of inactivity, with which a byte a second holds a connection
 * for ever.  Here time runs from the beginning of a request to its last byte.  A client that asks at
 * once is answered soon, even while a thousand others say nothing or read slowly: with more than
 * ADMIN_CONNECTIONS_SERVED connections all have less time, and each is closed after one response
 * (by admin.c).
 *
 * Closing here is shutdown(2); the owner of the connection sees its end and closes the descriptor.
 */
#ifndef ADMIN_CONNECTIONS_H
#define ADMIN_CONNECTIONS_H

#include <stdbool.h>
#include <stddef.h>

#define ADMIN_CONNECTIONS_SERVED 32 /* a few scrapers, browsers and health checks */
#define ADMIN_CONNECTIONS_MAX   64 /* further ones wait in the kernel's queue */

#define REQUEST_SECONDS          5.0  /* to the last byte of a request */
#define RESPONSE_SECONDS         10.0 /* to the last byte of a response, for slow readers */
#define HURRIED_REQUEST_SECONDS  0.1
#define HURRIED_RESPONSE_SECONDS 0.15 /* a long queue ends before a health check gives up */

/* Times are CLOCK_MONOTONIC seconds; INFINITY: closed. */
struct admin_connection {
    int    descriptor; /* -1: nobody */
    double deadline;
    double hurried;    /* the deadline with too many connections */
    bool   is_owed;    /* a response to its whole request */
};

struct admin_connections {
    struct admin_connection all[ADMIN_CONNECTIONS_MAX];
};

void admin_connections_init(struct admin_connections *);
/* A client has connected through this descriptor, which stays the caller's; at most
 * ADMIN_CONNECTIONS_MAX may be there at a time. */
struct admin_connection *admin_connections_add(struct admin_connections *, int descriptor,
                                               double now);
/* The descriptor is about to be closed. */
void admin_connection_remove(struct admin_connection *);
/* Its request is whole; or its response is, and it may ask again. */
void admin_connection_has_request(struct admin_connection *, double now);
void admin_connection_has_response(struct admin_connection *, double now);
/* Closes those whose client has ended its side and is owed nothing. */
void admin_connections_close_done(struct admin_connections *);
/* There are ADMIN_CONNECTIONS_MAX. */
bool admin_connections_are_full(const struct admin_connections *);
/* There are more than ADMIN_CONNECTIONS_SERVED. */
bool admin_connections_are_too_many(const struct admin_connections *);
/* Closes those whose time is over.  Answers when it must be called again; INFINITY: nobody waits. */
double admin_connections_close_late(struct admin_connections *, double now);

#endif
