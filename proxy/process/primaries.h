/*
 * primaries.h — one look at the primaries when a configuration begins to serve.
 *
 * It asks for their names and looks at what stands in the way (dial/reach.h), and warns: a primary
 * that is not there yet may come, so nothing is refused and nobody waits.  It does not connect: a
 * server that counts connections, or takes only one, must not notice us.
 */
#ifndef PROCESS_PRIMARIES_H
#define PROCESS_PRIMARIES_H

struct config;
struct dns_cache;

/* Borrows both for as long as the cache lives. */
void primaries_look(const struct config *, struct dns_cache *);

#endif
