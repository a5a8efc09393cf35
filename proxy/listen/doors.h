/*
 * doors.h — the listening sockets, which outlive the configurations that know them.
 *
 *     door :8080        ─ socket of place 1, of place 2, ...           generations 3, 4, 5
 *     door unix:/run/x  ─ one socket, a descriptor for each place      generation 5
 *
 * What waits in a socket's queue is reset when its last descriptor is closed, so a door keeps its
 * sockets for as long as any configuration listens there, also when there are fewer workers: others
 * watch the spare ones.  A configuration first opens its doors, which can fail and changes nothing
 * for those that are open already; then it listens and enters, and doors that it does not have are
 * closed.
 */
#ifndef LISTEN_DOORS_H
#define LISTEN_DOORS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"

struct config;
struct doors;
struct fault;

/* Where an address of a configuration leads. */
struct door;

struct doors *doors_new(void);
/* Closes them all and removes the paths of unix sockets; NULL is fine. */
void doors_free(struct doors *);

/* A door for each of the configuration's listeners, with a socket for each of its workers, at least.
 * Those at addresses that are open already are shared.  False: the fault says which address cannot
 * be had, and nothing has changed.  Either doors_enter() or doors_give_up() follows. */
bool doors_open(struct doors *, const struct config *, struct door **, struct fault *);
/* All sockets of these doors take connections, with the settings of this configuration.  False: the
 * fault says why. */
bool doors_listen(const struct config *, struct door *const *, struct fault *);
/* The doors of doors_open() have workers now; all others are closed. */
void doors_enter(struct doors *, struct door *const *, size_t count);
/* What doors_open() has made is closed again. */
void doors_give_up(struct doors *);
/* Nobody will take clients any more from the sockets of this place. */
void doors_leave(struct doors *, size_t place);
/* Nobody will take clients any more; the paths stay until doors_free(). */
void doors_close(struct doors *);

const struct address *door_address(const struct door *);
/* No configuration has entered it yet. */
bool   door_is_new(const struct door *);
size_t door_socket_count(const struct door *);
int    door_socket(const struct door *, size_t place); /* -1: none */

#endif
