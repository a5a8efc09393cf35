/*
 * inherit.h — listening sockets that the service manager opened for us (sd_listen_fds(3)).
 *
 *     LISTEN_PID=us  LISTEN_FDS=2  LISTEN_FDNAMES=web:admin     descriptors 3 and 4
 *
 * They are found by their address: a listener, or the admin endpoint, that wants to be there uses
 * that socket instead of one of its own.  The manager made the sockets, and it or our successor
 * goes on with them: we never remove their paths.
 */
#ifndef LISTEN_INHERIT_H
#define LISTEN_INHERIT_H

#include <stdbool.h>

struct address;
struct endpoint;
struct fault;

/* Reads the variables; without them, or when they are meant for another process, nothing is
 * inherited.  False: what was passed is no set of listening stream sockets. */
bool inherit_open(struct fault *);
/* Whether a service manager has opened sockets for somebody: which ones, inherit_open() finds out. */
bool inherit_is_offered(void);
/* The socket at that address, which stays ours, and where it is; -1: there is none. */
int  inherit_find(const struct endpoint *, struct address *bound);
/* Whether the manager has, or had, opened one there. */
bool inherit_has(const struct endpoint *);
/* False: the fault names a socket that nobody has asked for. */
bool inherit_all_found(struct fault *);
/* Lets go of them; duplicates go on, and whose the paths are is still known. */
void inherit_close(void);

#endif
