/*
 * worker.h — one process, one loop: everything a session borrows is made here.
 */
#ifndef RUN_WORKER_H
#define RUN_WORKER_H

#include <stddef.h>
#include <stdint.h>

struct address;
struct config;
struct ev_loop;
struct limits;
struct page;
struct slot;
struct sources;
struct tls_contexts;

struct worker_start {
    const struct config  *config;
    struct page          *page;
    struct slot          *slot;
    const uint16_t       *rows;           /* of the configuration's shadows in the page */
    uint64_t              serial;         /* of this worker process, from 1 */
    size_t                place;          /* of this worker, from 0 */
    size_t                place_count;
    const int            *sockets;        /* place by place, one listening socket per listener */
    const struct address *bound;          /* where the listeners are, with their real ports */
    const struct limits  *limits;
    struct tls_contexts  *tls;
    struct sources       *sources;        /* NULL: nobody counts them; its table is the place */
    int                   lifeline;       /* end-of-file: finish, by the page's drain deadline */
    int                   ready;          /* takes one byte when the worker serves */
    struct ev_loop       *parents_loop;   /* destroyed first */
};

/* Called in the fresh child process; everything stays the supervisor's, which never sees this
 * process's copy again. */
_Noreturn void worker_run(const struct worker_start *);

#endif
