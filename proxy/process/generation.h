/*
 * generation.h — one configuration, and everything that was made from it.
 *
 *     generation ─ configuration, TLS contexts, limits, rows, roster, sockets
 *       └─ crew ─ its workers
 *
 * It is made whole or not at all: whatever can fail has been tried before its first worker starts,
 * and until it is opened nobody else notices that it exists.
 */
#ifndef PROCESS_GENERATION_H
#define PROCESS_GENERATION_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "admin/authorization.h"
#include "process/crew.h"
#include "process/limits.h"

struct bound_listener;
struct listen_group;
struct listen_groups;
struct sources;

enum generation_state {
    GENERATION_STARTING,
    GENERATION_SERVING,
    GENERATION_FINISHING,
};

struct generation {
    struct generation    *older;      /* in the list of whoever owns them */
    const struct generation_settings *settings;
    struct config        *config;
    unsigned              number;     /* from 1 */
    enum generation_state state;
    struct listen_group *
        *own_groups; /* one per listener; only while it is the newest that serves */
    struct bound_listener *listeners; /* likewise: where they are */
    struct address       *bound;      /* the same for workers */
    int                  *sockets;    /* place by place, one per listener */
    uint16_t             *rows;       /* of its shadows in the page */
    struct limits         limits;
    struct tls_contexts  *tls;        /* made before any worker, so that all have the same keys */
    struct token          token;      /* what changes at the admin endpoint need */
    struct log_change    *logs;       /* in effect here when it is opened; NULL from then on */
    struct roster        *roster;
    struct crew          *crew;
    ev_timer              killing;    /* of those that do not finish in time */
};

/* Borrowed, must outlive the generations. */
struct generation_settings {
    struct ev_loop    *loop;
    struct page       *page;
    struct listen_groups      *groups;
    struct sources    *sources;     /* NULL: nobody counts them */
    size_t             descriptors; /* that a process may open */
    struct crew_events events;      /* of their crews; the owner they get is the generation */
    void              *owner;       /* of the generations */
};

/* Makes what can fail, and takes the configuration when it succeeds.  NULL: the fault says why, and
 * nothing has changed. */
struct generation *generation_new(const struct generation_settings *, struct config *,
                                  unsigned number, struct fault *);
/* Says what it cannot give although the configuration asks for it. */
void generation_warn(const struct generation *);
/* Starts its workers; the event of its crew that follows says whether it can be opened.  False: the
 * fault says why, and those that did start are about to end. */
bool generation_start(struct generation *, struct fault *);
/* Its workers take clients from now on; the one it follows, if any, does not listen any more where
 * it does not listen.  False: the fault says why, and the other still listens everywhere. */
bool generation_open(struct generation *, struct generation *former, struct fault *);
/* Its workers leave the sockets to a newer generation that has been opened, and finish within so
 * many seconds; 0: when their sessions do. */
void generation_retire(struct generation *, double timeout);
/* Its workers take what waits, and finish by the page's deadline. */
void generation_drain(struct generation *);
/* Nobody will take clients any more from the sockets of this place: closes them. */
void generation_leave(struct generation *, size_t place);
/* It cannot be opened: its workers are killed, and what it would have listened on is closed. */
void generation_give_up(struct generation *);
void generation_kill(struct generation *);
void generation_free(struct generation *); /* NULL is fine; not before crew_is_gone() */

#endif
