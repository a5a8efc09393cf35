/*
 * bind.h — listening sockets: made before anything else starts, named, and removed at the end.
 */
#ifndef RUN_BIND_H
#define RUN_BIND_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"

struct fault;
struct identity;
struct socket_settings;

struct bind_request {
    const struct endpoint        *endpoint;
    const struct socket_settings *sockets;  /* inherited by what the socket accepts */
    unsigned                      mode;     /* permissions of a unix socket's path */
    int                           backlog;
    bool                          transparent; /* for foreign addresses, too (flow/origin.h) */
    const struct identity        *owner;    /* whose they are */
};

/* Makes count listening, non-blocking sockets for one endpoint (SO_REUSEPORT of socket(7); a unix
 * path has one socket, duplicated, and so has what the service manager opened: run/inherit.h) and
 * says where they are bound: port 0 becomes the real port.  An empty host is every address, [::]
 * dual-stack or 0.0.0.0 where there is no IPv6.  The port must be free: another program of the same
 * user is not joined.  A stale unix path is removed only when nobody listens there.
 *
 * Sockets and paths of our own belong to the owner if one is wished for: SO_REUSEPORT lets only
 * sockets of one user join, and this process may become that user.
 *
 * False: the fault says why, nothing stays open and bound is empty. */
bool bind_listeners(const struct bind_request *, int *sockets, size_t count, struct address *bound,
                    struct fault *);

/* Removes the path of a unix socket that bind_listeners() made itself. */
void bind_remove(const struct endpoint *);

#endif
