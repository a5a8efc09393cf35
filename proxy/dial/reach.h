/*
 * reach.h — what stands in the way to an address, as far as this machine knows without asking there.
 *
 * No byte is sent: a server that counts connections, or takes only one, notices nothing.
 */
#ifndef DIAL_REACH_H
#define DIAL_REACH_H

struct address;

/* NULL: nothing is known.  Otherwise a few words, in static memory: there is no route (ip-route(8)),
 * no such socket file or no right to use it, or the address is this machine's and no program listens
 * there (sock_diag(7)).  A firewall rule that redirects the connection is not looked at. */
const char *reach_obstacle(const struct address *);

#endif
