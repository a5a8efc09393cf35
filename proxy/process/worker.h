/*
 * worker.h — one process, one loop: everything a session borrows is made here.
 */
#ifndef PROCESS_WORKER_H
#define PROCESS_WORKER_H

#include <stddef.h>
#include <stdint.h>

struct address;
struct config;
struct ev_loop;
struct limits;
struct log_change;
struct page;
struct roster;
struct slot;
struct sources;
struct tls_contexts;

#define ANSWER_READY "\1" /* it could serve */
#define ANSWER_EMPTY "\2" /* while draining: nobody waits any more at its sockets */

struct worker_start {
    const struct config  *config;
    struct page          *page;
    struct roster        *roster;         /* of its generation */
    struct slot          *slot;
    const uint16_t       *rows;           /* of the configuration's shadows in the page */
    uint64_t              serial;         /* of this worker process, from 1 */
    size_t                place;          /* of this worker, from 0 */
    size_t                place_count;    /* of the sockets: as many as workers, or more */
    const int *sockets; /* place by place, one listening socket per listener; -1: none there */
    const struct address *bound;          /* where the listeners are, with their real ports */
    const struct limits  *limits;
    struct tls_contexts  *tls;
    struct log_change    *logs;           /* taken; NULL: as they are */
    struct sources       *sources;        /* NULL: nobody counts them */
    size_t                sources_table;  /* of this worker there */
    int                   start_barrier;           /* end-of-file: take clients; -1: at once */
    int                   lifeline;       /* end-of-file: finish, as the roster says */
    int                   answers;        /* takes ANSWER_..., or a sentence that says why it dies;
                                             closed: takes no client any more */
    struct ev_loop       *parents_loop;   /* destroyed first */
};

/* Called in the fresh child process; everything stays the supervisor's, which never sees this
 * process's copy again. */
_Noreturn void worker_run(const struct worker_start *);

#endif
