/*
 * connections.h — who is connected to the admin endpoint, and until when.
 *
 *                    at ease              more than ADMIN_CONNECTIONS_SERVED
 *     enters ──▶ REQUEST_SECONDS                 HURRIED_REQUEST_SECONDS
 *     whole request ──▶ RESPONSE_SECONDS           HURRIED_RESPONSE_SECONDS
 *     whole answer ──▶ as who enters
 *
 * The HTTP library knows only a timeout of inactivity, with which a byte a second holds a connection
 * for ever.  Here time runs from the beginning of a request to its last byte.  And who asks at once
 * is answered soon even while a thousand others say nothing, or take their answers slowly: in a crowd
 * all must hurry, and each is to leave after one answer (admin.c closes its connection).
 *
 * To be sent away is to have one's connection shut down; whoever owns it sees its end and closes it.
 */
#ifndef ADMIN_CONNECTIONS_H
#define ADMIN_CONNECTIONS_H

#include <stdbool.h>
#include <stddef.h>

#define ADMIN_CONNECTIONS_SERVED 32 /* a few scrapers, browsers and health checks */
#define ADMIN_CONNECTIONS_MAX   64 /* further ones wait in the kernel's queue */

#define REQUEST_SECONDS         5.0  /* to the last byte of a request */
#define RESPONSE_SECONDS          10.0 /* to the last byte of an answer, for whoever reads slowly */
#define HURRIED_REQUEST_SECONDS 0.1
#define HURRIED_RESPONSE_SECONDS                                                                   \
    0.15 /* so a long queue moves on within a health check's patience */

/* Times are CLOCK_MONOTONIC seconds; INFINITY: sent away. */
struct admin_connection {
    int    descriptor; /* -1: nobody */
    double deadline;
    double hurried;    /* the deadline in a crowd */
    bool is_owed;      /* an answer to its whole request */
};

struct admin_connections {
    struct admin_connection all[ADMIN_CONNECTIONS_MAX];
};

void admin_connections_init(struct admin_connections *);
/* Somebody has connected through this descriptor, which stays the caller's; at most ADMIN_CONNECTIONS_MAX
 * may be there at a time. */
struct admin_connection *admin_connections_add(struct admin_connections *, int descriptor,
                                               double now);
/* The descriptor is about to be closed. */
void admin_connection_remove(struct admin_connection *);
/* Its request is whole; or its answer is, and it may ask again. */
void admin_connection_has_request(struct admin_connection *, double now);
void admin_connection_has_response(struct admin_connection *, double now);
/* Sends away who has ended its side and is owed nothing: it can ask nothing more. */
void admin_connections_close_done(struct admin_connections *);
/* There are ADMIN_CONNECTIONS_MAX. */
bool admin_connections_are_full(const struct admin_connections *);
/* There are more than ADMIN_CONNECTIONS_SERVED. */
bool admin_connections_are_too_many(const struct admin_connections *);
/* Sends away whose time is over.  Answers when it must be called again; INFINITY: nobody waits. */
double admin_connections_close_late(struct admin_connections *, double now);

#endif
