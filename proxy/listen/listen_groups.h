/*
 * listen_groups.h — the listening sockets, which outlive the configurations that know them.
 *
 *     group :8080       ─ socket of place 1, of place 2, ...           generations 3, 4, 5
 *     group unix:/run/x ─ one socket, a descriptor for each place      generation 5
 *
 * What waits in a socket's queue is reset when its last descriptor is closed, so a group keeps its
 * sockets for as long as any configuration listens there, also when there are fewer workers: others
 * watch the spare ones.  A configuration first opens its groups, which can fail and changes nothing
 * for those that are open already; then it listens and enters, and groups that it does not have are
 * closed.
 */
#ifndef LISTEN_LISTEN_GROUPS_H
#define LISTEN_LISTEN_GROUPS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"

struct config;
struct listen_groups;
struct fault;

/* Where an address of a configuration leads. */
struct listen_group;

struct listen_groups *listen_groups_new(void);
/* Closes them all and removes the paths of unix sockets; NULL is fine. */
void listen_groups_free(struct listen_groups *);

/* A group for each of the configuration's listeners, with at least a socket for each of its workers.
 * Those at addresses that are open already are shared.  False: the fault says which address cannot
 * be had, and nothing has changed.  Either listen_groups_enter() or listen_groups_give_up() follows. */
bool listen_groups_open(struct listen_groups *, const struct config *, struct listen_group **,
                        struct fault *);
/* All sockets of these groups take connections, with the settings of this configuration.  False: the
 * fault says why. */
bool listen_groups_listen(const struct config *, struct listen_group *const *, struct fault *);
/* The groups of listen_groups_open() have workers now; all others are closed. */
void listen_groups_enter(struct listen_groups *, struct listen_group *const *, size_t count);
/* What listen_groups_open() has made is closed again. */
void listen_groups_give_up(struct listen_groups *);
/* Nobody will take clients any more from the sockets of this place. */
void listen_groups_leave(struct listen_groups *, size_t place);
/* Nobody will take clients any more; the paths stay until listen_groups_free(). */
void listen_groups_close(struct listen_groups *);

const struct address *listen_group_address(const struct listen_group *);
/* No configuration has entered it yet. */
bool   listen_group_is_new(const struct listen_group *);
size_t listen_group_socket_count(const struct listen_group *);
int    listen_group_socket(const struct listen_group *, size_t place); /* -1: none */

#endif
