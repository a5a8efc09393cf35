/*
 * resolver.h — names to addresses on the loop, through c-ares.
 *
 * Both address families, /etc/hosts included; numeric hosts and "localhost" are the caller's
 * business (they need no asking).  A name is taken as fully qualified.  One resolver per worker.
 */
#ifndef FLOW_RESOLVER_H
#define FLOW_RESOLVER_H

#include <stddef.h>

#include "base/address.h"

struct ev_loop;
struct fault;
struct lookup;
struct resolver;

/* At most this many addresses of one name are used. */
#define RESOLVER_ADDRESSES 32

/* resolv_conf and hosts: NULL means the system's files.  NULL: the fault says why. */
struct resolver *resolver_new(struct ev_loop *, const char *resolv_conf, const char *hosts,
                              struct fault *);
/* Cancels every lookup; their callbacks stay silent. */
void resolver_free(struct resolver *);

/* count is 0 when it failed: then why_not says so in a few words.  The addresses carry port 0, in
 * the order to try, and live for the call. */
typedef void lookup_done(void *owner, const struct address *addresses, size_t count,
                         const char *why_not);

/* Never calls done before it returns, nor after lookup_cancel(); calls it exactly once otherwise,
 * after which the lookup is gone.  Bounded in time (a few seconds).  NULL: no memory. */
struct lookup *resolver_lookup(struct resolver *, const char *host, lookup_done *, void *owner);
void           lookup_cancel(struct lookup *);

/* For -V: "c-ares 1.18.1, compiled with 1.18.1". */
const char *resolver_version(void);

#endif
