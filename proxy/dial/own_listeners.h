/*
 * own_listeners.h — does an address lead back to ourselves?
 *
 *     target ──connect(2)──▶ one of our own listeners ──▶ dialled again ──▶ ...      a loop
 */
#ifndef DIAL_OWN_LISTENERS_H
#define DIAL_OWN_LISTENERS_H

#include <stdbool.h>
#include <stddef.h>

struct address;

/* Whether connecting there would lead to one of these listeners of ours: the port is the same, and
 * the listener's host is, or is a wildcard and the address is this machine's. */
bool address_is_own_listener(const struct address *, const struct address *listeners, size_t count);

/* Whether it is one of this machine's, or a wildcard: a socket can be bound to it (bind(2)). */
bool address_is_local(const struct address *);
/* Whether the kernel says that this machine does not have it; false also when nobody can tell. */
bool address_is_elsewhere(const struct address *);

#endif
