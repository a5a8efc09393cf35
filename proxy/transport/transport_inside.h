/*
 * transport_inside.h — what transport.c and transport_bytes.c know of each other; nobody else includes
 * it.
 *
 *     transport.c ──readable, writable──▶ transport_bytes.c
 *                 ◀──failed, no kernel memory──
 */
#ifndef TRANSPORT_TRANSPORT_INSIDE_H
#define TRANSPORT_TRANSPORT_INSIDE_H

#include <ev.h>
#include <stdbool.h>

#include "base/list.h"
#include "socket/peer.h"
#include "transport/transport.h"

enum transport_state {
    TRANSPORT_OPENING,
    TRANSPORT_OPEN,
    TRANSPORT_CLOSED,
};

struct transport {
    struct reactor  *reactor;
    transport_ready *ready;
    void            *owner;
    ev_io            io;
    union {
        struct {
            opening_cancel *cancel; /* while opening */
            void           *opening;
        };
        struct link deferred_setup; /* once open: in the reactor's list of those not old enough */
    };
    char            *why;     /* NULL: errno says it */
    struct tls      *tls;     /* NULL: plain */
    struct peer      peer;
    struct link waking; /* in a reactor's list: waiting for kernel memory, or with more bytes */
    int              error;   /* errno of the failure */
    enum failure     failure : 8;
    enum transport_state state : 4;
    bool readable : 1;        /* a read may find something */
    bool writable : 1;
    bool at_end : 1;          /* the peer's end has been read */
    bool ended : 1;           /* our end has been said, or will be */
    bool end_is_due : 1;      /* ... by the next transport_want(), or by closing */
    bool is_ending : 1;       /* close_notify waits for room */
    bool fin_is_out : 1;      /* our FIN is written */
    bool aborted : 1;
    bool broken : 1;          /* the peer reset */
    bool is_paused : 1;       /* nobody reads it */
    bool waits_for_kernel_memory : 1;      /* asks for nothing until the reactor wakes it */
    bool in_resets : 1;       /* in the reset watch's set */
    bool needs_keepalive : 1; /* and does not have it yet */
    bool refuses_splice : 1;
};

/* The connection is gone, with this errno; what the peer sent before may still be read.  Always
 * answers IO_FAILED. */
enum io transport_failed(struct transport *, int error);
/* To be called after each call of TLS, whatever it answered: a failure counts from now on, and it may
 * have to be tried again soon. */
void transport_note_tls(struct transport *);
/* No event says that ENOBUFS is over (the socket is writable all the time): it is tried again soon. */
void transport_wait_for_kernel_memory(struct transport *);

#endif
