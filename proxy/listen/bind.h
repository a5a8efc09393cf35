/*
 * bind.h — listening sockets: made before anything else starts, named, and removed at the end.
 */
#ifndef LISTEN_BIND_H
#define LISTEN_BIND_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"

struct fault;
struct own_path;
struct socket_settings;

struct bind_request {
    const struct endpoint        *endpoint;
    const struct socket_settings *sockets;  /* inherited by what the socket accepts */
    unsigned                      mode;     /* permissions of a unix socket's path */
    int                           backlog;
    bool                          transparent; /* for foreign addresses, too (socket/origin.h) */
    bool joins;       /* the port is ours already, at an overlapping address */
};

/* Makes one listening, non-blocking socket for an endpoint and says where it is bound: port 0 becomes
 * the real port.  An empty host is every address, [::] dual-stack or 0.0.0.0 where there is no IPv6.
 * The port must be free: another program of the same user is not joined.  A stale unix path is
 * removed only when nobody listens there, and the path that it makes is noted for the caller, who
 * removes it with own_path_remove(); otherwise there is none.  Where the service manager has opened a socket
 * (listen/inherit.h) it is a duplicate of that one.  Sockets and paths of our own belong to --user
 * (listen/privileges.h).  -1: the fault says why, and bound is empty. */
int bind_first(const struct bind_request *, struct address *bound, struct own_path *,
               struct fault *);

/* One more socket that is bound where the first one is (SO_REUSEPORT of socket(7)), and gets no
 * connection before bind_listen(); a unix path has one socket, which is duplicated, and so is one
 * that the service manager has opened.  -1: the fault says why. */
int bind_further(const struct bind_request *, int first, const struct address *bound,
                 struct fault *);

/* From now on it takes connections, with the settings of this request (listen(2)); it may have others
 * already.  Backlog and mode of the service manager's sockets are its own business.  False: the
 * fault says why. */
bool bind_listen(const struct bind_request *, int socket, struct fault *);

/* The permissions of the path that bind_first() made, if it did (chmod(2)); it has set them, and
 * without privileges they may be out of reach afterwards.  False: the fault says why. */
bool bind_mode(const struct bind_request *, const struct own_path *, struct fault *);

/* Whether that is where the endpoint would be bound; port 0 is nowhere. */
bool bind_is_there(const struct endpoint *, const struct address *bound);

/* Whether it is every address, of IPv4, IPv6 or both; localhost is one. */
bool bind_is_everywhere(const struct endpoint *);

#endif
