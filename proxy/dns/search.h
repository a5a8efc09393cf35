/*
 * search.h — the search list of resolv.conf(5): what a short name may stand for.
 *
 *     search shop.svc.cluster.local svc.cluster.local          db ──▶ db.shop.svc.cluster.local
 *     options ndots:5                                                 db.svc.cluster.local
 *                                                                     db
 *
 * As the C library does it: a name with at least ndots dots is asked for as it is first, any other
 * one last; LOCALDOMAIN and RES_OPTIONS (environ(7)) win over the file.  A name with a final dot is
 * complete.  A domain from this machine's own name is not added.
 */
#ifndef DNS_SEARCH_H
#define DNS_SEARCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/host.h"

#define SEARCH_DOMAINS 16 /* further ones are not used: each may cost two questions */

struct search {
    unsigned ndots;
    size_t   count;
    char     domains[SEARCH_DOMAINS][HOST_TEXT]; /* without a final dot */
};

/* No domains: each name is complete. */
void search_clear(struct search *);
/* Takes what this line of the file says: the last of its search and domain lines counts. */
void search_read_line(struct search *, const char *line);
void search_read_environment(struct search *);
bool search_equal(const struct search *, const struct search *);

/* The next name to ask for, without a final dot; place begins as 0 and is moved on.  False: there is
 * none. */
bool search_next(const struct search *, const char *host, size_t *place, char name[HOST_TEXT]);

#endif
