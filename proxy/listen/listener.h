/*
 * listener.h — accepts, and knows when not to.
 *
 * At --max-sessions, and when descriptors, ports or memory run out, accepting pauses: what waits
 * stays in the kernel's backlog.  It goes on when a client of this worker leaves, or after a short
 * while.
 *
 * A worker has the sockets of every place and watches its own, and those of places without a worker
 * that its generation's roster assigns to it: connections queued at a dead worker's socket are
 * served, too.
 */
#ifndef LISTEN_LISTENER_H
#define LISTEN_LISTENER_H

#include <stdbool.h>
#include <stddef.h>

struct listeners;
struct mirror;
struct roster;

struct listeners_settings {
    struct mirror *mirror;
    struct roster *roster;
    size_t         place;            /* this worker's */
    size_t         place_count;      /* of the sockets: as many as workers, or more */
    const int *sockets;      /* taken; place by place, one per listener; -1: none there */
    size_t         max_sessions;     /* clients of all workers together */
    size_t         max_own_sessions; /* clients of this worker: what its descriptors allow */
};

/* Accepts nobody before the first listeners_watch(). */
struct listeners *listeners_new(const struct listeners_settings *);
/* Looks at the roster: whose sockets are ours to watch now. */
void listeners_watch(struct listeners *);
/* A client has left: go on if accepting is paused for the limit.  owner is the struct listeners. */
void listeners_resume(void *owner);
/* Call it once a second: while other workers pause for the limit, clients of ours that wait for a
 * handshake leave (handshakes_shed()). */
void listeners_make_room(struct listeners *);
/* Ports or descriptors have run out: wait a little.  owner is the struct listeners. */
void listeners_back_off(void *owner);
/* Serves what waits already; at the limit that takes until clients leave. */
void listeners_drain(struct listeners *);
/* Nobody waits any more who waited when draining began. */
bool listeners_are_empty(const struct listeners *);
/* After listeners_drain(): serves what still waits, then closes the sockets: nobody new comes. */
void listeners_leave(struct listeners *);
/* Leaves the sockets to a newer generation; those that it does not have are drained. */
void listeners_retire(struct listeners *);
/* Closes the sockets, whatever waits. */
void listeners_close(struct listeners *);
bool listeners_are_closed(const struct listeners *);
void listeners_free(struct listeners *);

#endif
