/*
 * admin.h — metrics, status and health over HTTP, in the supervisor.
 *
 *     GET /metrics   Prometheus' text       GET /healthz   200 while the loop turns
 *     GET /status    JSON                   GET /readyz    503 while starting or draining
 *
 * libmicrohttpd runs inside the supervisor's libev loop; it never sees a session's bytes.
 */
#ifndef RUN_ADMIN_H
#define RUN_ADMIN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"

struct admin;
struct config;
struct ev_loop;
struct fault;
struct page;

/* A listener as it is bound: what /status shows. */
struct bound_listener {
    const char    *name;
    struct address address;
};

/* What the admin endpoint shows; what it points to must outlive that. */
struct admin_view {
    const struct config         *config;
    const struct page           *page;
    const struct bound_listener *listeners;
    size_t                       listener_count;
    const bool                  *ready;      /* /readyz */
};

/* Takes a bound and listening, non-blocking socket.  NULL: the fault says why; the socket is
 * closed. */
struct admin *admin_start(struct ev_loop *, int listening, const struct admin_view *,
                          struct fault *);
/* What it shows from now on; the admin endpoint itself stays where it is. */
void admin_show(struct admin *, const struct admin_view *);
/* Stops serving and closes the socket; NULL is fine. */
void admin_stop(struct admin *);

#endif
