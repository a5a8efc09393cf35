/*
 * closing.h — sockets without an owner, which reset their peer once it has had everything.
 *
 * RST at once would discard what is still unsent, and on the way what the peer has not read.  So an
 * aborted socket stays until its peer has acknowledged every byte, for 5 seconds at most, and never
 * more than 64 of them: then the oldest goes first.
 */
#ifndef SOCKET_CLOSING_H
#define SOCKET_CLOSING_H

#include <stddef.h>

#include "base/list.h"

struct ev_loop;

/* All of one loop; embedded in its owner. */
struct closings {
    struct ev_loop *loop;
    struct link     all;
    size_t          count;
};

void closings_start(struct closings *, struct ev_loop *);
/* Takes the socket. */
void closings_add(struct closings *, int socket);
/* Resets all of them now. */
void closings_cut(struct closings *);

#endif
