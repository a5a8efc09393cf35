/*
 * visitors.h — who is connected to the admin endpoint, and until when.
 *
 *                    at ease              more than VISITORS_SERVED
 *     enters ──▶ REQUEST_SECONDS                 HURRIED_REQUEST_SECONDS
 *     whole request ──▶ ANSWER_SECONDS           HURRIED_ANSWER_SECONDS
 *     whole answer ──▶ as who enters
 *
 * The HTTP library knows only a timeout of inactivity, with which a byte a second holds a connection
 * for ever.  Here time runs from the beginning of a request to its last byte.  And who asks at once
 * is answered soon even while a thousand others say nothing, or take their answers slowly: in a crowd
 * all must hurry, and each is to leave after one answer (admin.c closes its connection).
 *
 * To be sent away is to have one's connection shut down; whoever owns it sees its end and closes it.
 */
#ifndef ADMIN_VISITORS_H
#define ADMIN_VISITORS_H

#include <stdbool.h>
#include <stddef.h>

#define VISITORS_SERVED 32 /* a few scrapers, browsers and health checks */
#define VISITORS_MOST   64 /* further ones wait in the kernel's queue */

#define REQUEST_SECONDS         5.0  /* to the last byte of a request */
#define ANSWER_SECONDS          10.0 /* to the last byte of an answer, for whoever reads slowly */
#define HURRIED_REQUEST_SECONDS 0.1
#define HURRIED_ANSWER_SECONDS  0.15 /* so a long queue moves on within a health check's patience */

/* Times are CLOCK_MONOTONIC seconds; INFINITY: sent away. */
struct visitor {
    int    descriptor; /* -1: nobody */
    double deadline;
    double hurried;    /* the deadline in a crowd */
    bool is_owed;      /* an answer to its whole request */
};

struct visitors {
    struct visitor all[VISITORS_MOST];
};

void visitors_init(struct visitors *);
/* Somebody has connected through this descriptor, which stays the caller's; at most VISITORS_MOST
 * may be there at a time. */
struct visitor *visitors_enter(struct visitors *, int descriptor, double now);
/* The descriptor is about to be closed. */
void visitor_leaves(struct visitor *);
/* Its request is whole; or its answer is, and it may ask again. */
void visitor_is_answered(struct visitor *, double now);
void visitor_may_ask(struct visitor *, double now);
/* Sends away who has ended its side and is owed nothing: it can ask nothing more. */
void visitors_send_away_the_done(struct visitors *);
/* There are VISITORS_MOST. */
bool visitors_are_full(const struct visitors *);
/* There are more than VISITORS_SERVED. */
bool visitors_are_a_crowd(const struct visitors *);
/* Sends away whose time is over.  Answers when it must be called again; INFINITY: nobody waits. */
double visitors_send_away_the_late(struct visitors *, double now);

#endif
