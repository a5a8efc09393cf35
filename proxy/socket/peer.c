/*
 * peer.c — one family's fields beside each other's.
 */
#include "peer.h"

#include <stdlib.h>
#include <string.h>

#include "base/address.h"

void peer_forget(struct peer *peer)
{
    if (peer->family == AF_UNIX)
        free(peer->path);
    peer->family = 0;
}

void peer_set(struct peer *peer, const struct address *address)
{
    peer_forget(peer);
    *peer = (struct peer){ .family = address->any.sa_family };
    if (address->length == 0) {
        peer->family = 0;
    } else if (peer->family == AF_INET) {
        peer->port = address->v4.sin_port;
        memcpy(peer->bytes, &address->v4.sin_addr, sizeof address->v4.sin_addr);
    } else if (peer->family == AF_INET6) {
        peer->port = address->v6.sin6_port;
        peer->scope = address->v6.sin6_scope_id;
        memcpy(peer->bytes, &address->v6.sin6_addr, sizeof address->v6.sin6_addr);
    } else if (address->length > sizeof(sa_family_t) && address->local.sun_path[0] != '\0') {
        peer->path = strdup(address->local.sun_path);
    }
}

void peer_get(const struct peer *peer, struct address *address)
{
    memset(address, 0, sizeof *address);
    if (peer->family == 0)
        return;
    address->any.sa_family = peer->family;
    if (peer->family == AF_INET) {
        address->length = sizeof address->v4;
        address->v4.sin_port = peer->port;
        memcpy(&address->v4.sin_addr, peer->bytes, sizeof address->v4.sin_addr);
    } else if (peer->family == AF_INET6) {
        address->length = sizeof address->v6;
        address->v6.sin6_port = peer->port;
        address->v6.sin6_scope_id = peer->scope;
        memcpy(&address->v6.sin6_addr, peer->bytes, sizeof address->v6.sin6_addr);
    } else if (peer->path != NULL) {
        address_of_path(address, peer->path);
    } else {
        address->length = sizeof(sa_family_t);
    }
}
