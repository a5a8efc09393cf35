/*
 * hosts.h — what the hosts file says about a name.
 */
#ifndef DNS_HOSTS_H
#define DNS_HOSTS_H

#include <stddef.h>

#include "base/address.h"

/* Every address of the name in that file (hosts(5)), with port 0, in the file's order: answers how
 * many, at most this many.  Reads the file each time, since it may change at any moment; one that
 * cannot be read says nothing.  path NULL: the system's. */
size_t hosts_find(const char *path, const char *host, struct address *addresses, size_t max);

#endif
