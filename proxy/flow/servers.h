/*
 * servers.h — which name servers to ask, and for what: those that were given, or a resolv.conf.
 */
#ifndef FLOW_SERVERS_H
#define FLOW_SERVERS_H

#include <stdbool.h>
#include <stddef.h>

#include "flow/search.h"

struct address_list;

struct servers {
    size_t count;
    /* "10.0.0.2:53,[2001:db8::2]:53", as far as whole servers fit; "" without any. */
    char text[600];
    struct search search;
};

/* Who gives servers gives complete names. */
void servers_set(struct servers *, const struct address_list *);
/* The nameserver lines of a resolv.conf (resolv.conf(5)), whose addresses may have a port here, and
 * its search list.
 * False: it cannot be read; errno says why. */
bool servers_read(struct servers *, const char *path);
bool servers_are_equal(const struct servers *, const struct servers *);

#endif
