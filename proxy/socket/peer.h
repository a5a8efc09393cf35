/*
 * peer.h — a peer's address in a fifth of the space of struct address: there is one per transport.
 */
#ifndef SOCKET_PEER_H
#define SOCKET_PEER_H

#include <stdint.h>
#include <sys/socket.h>

struct address;

/* Embedded; all zero: unknown. */
struct peer {
    sa_family_t family; /* 0: unknown */
    uint16_t    port;   /* network order */
    uint32_t    scope;
    union {
        uint8_t bytes[16];
        char   *path;   /* unix, owned; NULL: it has none, or no memory */
    };
};

/* Instead of what it held; an address of length 0 is unknown. */
void peer_set(struct peer *, const struct address *);
/* Length 0: unknown. */
void peer_get(const struct peer *, struct address *);
void peer_forget(struct peer *);

#endif
