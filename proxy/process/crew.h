/*
 * crew.h — the wished number of worker processes of one generation, kept alive.
 *
 *     place 1 ─ its listening sockets ─ the process in it now
 *     place 2 ─ ...
 *
 *     starting ──all ready──▶ ready ──crew_open──▶ serving ──crew_finish──▶ finishing ──▶ gone
 *
 * A worker that dies is replaced at once, or with a delay that doubles when it keeps dying.  The
 * sockets of its place stay open in the supervisor meanwhile, so that what waits in their queues is
 * not reset; every worker has all places' sockets, and another one watches those of a place in
 * delay.  When all of them keep dying, nothing helps: the crew has failed, unless another crew, of a
 * former configuration, still has sessions; then it is tried again and again.
 */
#ifndef PROCESS_CREW_H
#define PROCESS_CREW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct address;
struct config;
struct crew;
struct ev_loop;
struct fault;
struct limits;
struct log_change;
struct page;
struct roster;
struct sources;
struct tls_contexts;

/* Each but the question and on_emptied() is called at most once, and may free nothing of the crew. */
struct crew_events {
    void (*on_ready)(void *owner);    /* all workers could serve: crew_open() lets them */
    void (*on_failed)(void *owner, const char *why); /* one died before that, or all of them again
                                                        and again */
    void (*on_released)(void *owner); /* crew_finish(): no worker takes a new client any more */
    /* Drained: nobody will take a client any more from the sockets of this place. */
    void (*on_emptied)(void *owner, size_t place);
    bool (*is_alone)(void *owner);    /* asked at any time: no other crew has a worker */
    void *owner;
};

/* Borrowed, must outlive the crew. */
struct crew_settings {
    struct ev_loop       *loop;
    const struct config  *config;
    struct page          *page;
    struct roster        *roster;
    unsigned              generation;   /* of the configuration, from 1 */
    const uint16_t       *rows;         /* of the configuration's shadows in the page */
    const int            *sockets;      /* place by place, one per listener; -1: none there */
    size_t                place_count;  /* of the sockets: as many as workers, or more */
    const struct address *bound;        /* where the listeners are */
    const struct limits  *limits;
    struct tls_contexts  *tls;
    struct sources       *sources;      /* NULL: nobody counts them; one table for each slot */
    struct log_change *const *logs;     /* of workers, as long as there is one */
    struct crew_events    events;
};

struct crew *crew_new(const struct crew_settings *);
/* False: the fault says why, and those that did start are killed. */
bool crew_start(struct crew *, struct fault *);
/* Its workers take clients from now on. */
void crew_open(struct crew *);
/* Workers finish as the roster's order says, which is set already.  Nobody is replaced any more, but
 * for one thing: with ORDER_DRAIN clients that wait at the sockets of a worker that has died are served
 * by another one. */
void crew_finish(struct crew *);
void crew_kill(struct crew *);
/* The same, and no event or line tells of it. */
void crew_give_up(struct crew *);
/* This process has ended with that status of waitpid(2).  False: it is none of ours. */
bool crew_reap(struct crew *, pid_t, int status);
/* Nobody lives. */
bool crew_is_gone(const struct crew *);
void crew_free(struct crew *);

#endif
