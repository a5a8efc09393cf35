/*
 * pages.h — what a GET of the admin endpoint shows.
 *
 *     /metrics  /healthz  /readyz    open: they may be asked for under any name
 *     /status                        tells addresses and the configuration
 */
#ifndef ADMIN_PAGES_H
#define ADMIN_PAGES_H

#include <stdbool.h>

#include "admin/admin.h"
#include "admin/response.h"

/* What pages are made of; embedded in its owner, which writes view alone. */
struct pages {
    struct admin_view view;
    char             *configuration; /* in effect, as text */
    char             *metrics;       /* of this turn; NULL: nobody has asked yet */
    double            started;       /* CLOCK_MONOTONIC seconds */
};

struct page_row {
    const char *path;
    struct response (*make)(struct pages *);
    bool is_open; /* it tells nothing that somebody else's page in a browser could want */
};

/* NULL: there is no such page. */
const struct page_row *pages_find(const char *path);

/* What they show from now on.  Dies when there is no memory. */
void pages_show(struct pages *, const struct admin_view *);
/* The end of a turn: who asked in it for the metrics got the same text. */
void pages_forget_turn(struct pages *);
void pages_free(struct pages *);

#endif
