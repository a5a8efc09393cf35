/*
 * crew.h — the wished number of worker processes, kept alive.
 *
 *     place 1 ─ its listening sockets ─ the process in it now
 *     place 2 ─ ...
 *
 * A worker that dies is replaced at once, or with a delay that doubles when it keeps dying.  The
 * sockets of its place stay open here meanwhile, so that what waits in their queues is not reset;
 * every worker has all places' sockets, and another one watches those of a place in delay.  When
 * all of them keep dying, nothing helps: the crew is gone.
 */
#ifndef RUN_CREW_H
#define RUN_CREW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct address;
struct config;
struct crew;
struct ev_loop;
struct limits;
struct page;
struct tls_contexts;

/* Borrowed, must outlive the crew. */
struct crew_settings {
    struct ev_loop       *loop;
    const struct config  *config;
    struct page          *page;
    unsigned              generation;   /* of the configuration, from 1 */
    const uint16_t       *rows;         /* of the configuration's shadows in the page */
    const struct address *bound;        /* where the listeners are */
    const struct limits  *limits;
    struct tls_contexts  *tls;
    void (*on_ready)(void *owner);      /* all workers serve, for the first time */
    void (*on_gone)(void *owner, int status); /* none is left: 0 in good order, 1 otherwise */
    void *owner;
};

struct crew *crew_new(const struct crew_settings *);
/* Takes one listening socket for each place. */
void crew_give_sockets(struct crew *, size_t listener, const int *sockets);
/* False: errno says why; those that did start are killed. */
bool crew_start(struct crew *);
/* Workers take what waits in the queues, close their sockets and finish by the page's drain
 * deadline; nobody is replaced any more. */
void crew_retire(struct crew *);
void crew_kill(struct crew *);
/* Call it after SIGCHLD. */
void crew_reap(struct crew *);
void crew_free(struct crew *);

#endif
