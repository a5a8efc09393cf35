/*
 * connecting.h — one socket that connects to one address: how it begins, and why it fails.
 *
 *     connecting_start() ──socket(2), bind(2), connect(2)──▶ STARTED ──writable──▶ connected, or
 *             └──▶ BACKLOG_FULL, NO_SOCKET, FAILED                                connecting_failed()
 *
 * Nothing here waits.  socket_is_connected() (socket/socket.h) tells a connected socket from one
 * that is still under way.
 */
#ifndef DIAL_CONNECTING_H
#define DIAL_CONNECTING_H

#include <stdbool.h>

#include "socket/origin.h"
#include "socket/socket.h"

struct address;

struct connecting_terms {
    struct origin_sources  from;     /* the first that has an address is the one to connect from */
    struct socket_settings settings;
};

struct connecting_failure {
    enum failure failure;
    bool         is_out_of_reach; /* this machine has no address of the family to connect from */
    char         why[200];
};

enum connecting {
    CONNECTING_STARTED,      /* connected, or under way; the socket is the caller's */
    CONNECTING_BACKLOG_FULL, /* a unix socket's (unix(7)): try again; no event says when */
    CONNECTING_NO_SOCKET,    /* this machine could not make or bind the socket */
    CONNECTING_FAILED,       /* connect(2) failed at once */
};

/* Makes a non-blocking socket and connects it.  The socket is set only when CONNECTING_STARTED, and
 * the failure only when CONNECTING_NO_SOCKET or CONNECTING_FAILED; then nothing stays open. */
enum connecting connecting_start(int *socket, const struct address *,
                                 const struct connecting_terms *, struct connecting_failure *);

/* Why a socket that was started is not connected; the kernel tells it once (SO_ERROR of socket(7)).
 * False: it says nothing: the socket is still under way, or has been asked before. */
bool connecting_failed(int socket, struct connecting_failure *);

#endif
