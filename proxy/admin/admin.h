/*
 * admin.h — metrics, status, health and live changes over HTTP, in the supervisor.
 *
 *     GET /metrics   Prometheus' text       GET /healthz   200 while the loop turns
 *     GET /status    JSON                   GET /readyz    503 while starting or draining
 *     POST ...       see admin/control.h; over TCP with the token (admin/authorization.h)
 *
 * libmicrohttpd runs inside the supervisor's libev loop; it never sees a session's bytes.  Whatever
 * asks there is bounded: so many connections, so large a request, so long until its last byte.
 */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

struct admin;
struct config;
struct ev_loop;
struct fault;
struct page;
struct token;

/* A listener as it is bound: what /status shows. */
struct bound_listener {
    const char    *name;
    struct address address;
};

/* What only the supervisor can do.  Each is called in a turn of its loop, and may not wait. */
struct admin_actions {
    bool (*reload)(void *owner); /* false: not now, we are draining */
    void (*drain)(void *owner);
    void *owner;
};

/* What the admin endpoint shows and changes; what it points to must outlive that. */
struct admin_view {
    const struct config         *config;
    const uint16_t              *rows;       /* of its shadows in the page */
    struct page                 *page;
    const struct bound_listener *listeners;
    size_t                       listener_count;
    const bool                  *ready;      /* /readyz */
    const struct token          *token;      /* what a POST over TCP needs */
    struct admin_actions         actions;
};

/* Takes a bound and listening, non-blocking socket.  NULL: the fault says why; the socket is
 * closed. */
struct admin *admin_start(struct ev_loop *, int listening, const struct admin_view *,
                          struct fault *);
/* What it shows from now on; the admin endpoint itself stays where it is.  Dies when there is no
 * memory. */
void admin_show(struct admin *, const struct admin_view *);
/* Stops serving and closes the socket; NULL is fine. */
void admin_stop(struct admin *);

#endif
