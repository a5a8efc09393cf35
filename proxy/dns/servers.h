/*
 * servers.h — which name servers to ask, and for what: those that were given, or a resolv.conf.
 */
#ifndef DNS_SERVERS_H
#define DNS_SERVERS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"
#include "dns/search.h"

#define SERVERS_SYSTEM_FILE "/etc/resolv.conf" /* when the operator names no other one */

#define SERVERS_TEXT  600
#define SERVERS_ZONED 8 /* link-local servers whose interface is kept */

struct address_list;

struct servers {
    size_t count;
    /* "10.0.0.2:53,[fe80::2%eth0]:53", as far as whole servers fit; "" without any. */
    char text[SERVERS_TEXT];
    struct search search;
    struct address zoned[SERVERS_ZONED]; /* those with an interface, without their port */
    size_t zoned_count;
};

/* Who gives servers gives complete names. */
void servers_set(struct servers *, const struct address_list *);
/* The nameserver lines of a resolv.conf (resolv.conf(5)), whose addresses may have a port here, and
 * its search list.
 * False: it cannot be read; errno says why. */
bool servers_read(struct servers *, const char *path);
/* The text as c-ares reads it (ares_set_servers_csv(3)), with interfaces behind the ports,
 * "[fe80::2]:53%eth0", or without them, for a c-ares that does not know them. */
void servers_write(const struct servers *, bool zones, char text[SERVERS_TEXT]);
/* Gives a link-local server's address the interface that was named with it. */
void servers_set_zone(const struct servers *, struct address *);
bool servers_are_equal(const struct servers *, const struct servers *);

#endif
