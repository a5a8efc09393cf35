/*
 * origin.h — where a client was going, and from which address we connect on.
 *
 *     client ──▶ REDIRECT, TPROXY ──▶ doppel ──bind(2)──▶ primary
 *                origin_destination()          origin_bind()
 *
 * A firewall rule may lead connections here that were meant for somebody else, and a connection may
 * leave from an address that is not this machine's (IP_TRANSPARENT of ip(7)).
 */
#ifndef SOCKET_ORIGIN_H
#define SOCKET_ORIGIN_H

#include <stdbool.h>

#include "base/address.h"

struct config;
struct fault;
struct source_addresses;

/* What a connection takes over from the client's. */
struct origin {
    struct address destination; /* the target of original-dst; length 0: not known */
    struct address client;      /* to connect from; length 0: from an address of our own */
};

/* Where the peer of this accepted TCP socket was going: before a REDIRECT rule changed it
 * (SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST), else the socket's own address, which TPROXY leaves as it
 * was (getsockname(2)).  With no rule at all that is our own listener.  False: it is not known. */
bool origin_destination(int socket, struct address *);

/* Who may say where to connect from: the first that has an address wins. */
struct origin_sources {
    const struct address          *client; /* all or nothing: never replaced by one of ours */
    const struct source_addresses *target;
    const struct source_addresses *all;
};

/* Gives an unconnected TCP socket its local address, and leaves the port to connect(2), so that it
 * need only be free towards the same peer (IP_BIND_ADDRESS_NO_PORT of ip(7)).  Does nothing when
 * nobody says one of this family, or the socket is a unix socket.  False: the fault says why. */
bool origin_bind(int socket, int family, const struct origin_sources *, struct fault *);

/* Lets a socket have an address that is not this machine's (IP_TRANSPARENT): to connect from, or to
 * accept what TPROXY brings.  False: errno, EPERM without CAP_NET_ADMIN. */
bool origin_allow_foreign(int socket, int family);

/* Before anything is bound: we may be transparent if we are to be, and every source address is this
 * machine's.  False: the fault says what is missing. */
bool origin_check(const struct config *, struct fault *);

#endif
