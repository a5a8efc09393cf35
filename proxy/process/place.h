/*
 * place.h — one place for a worker: the process in it changes, its listening sockets stay.
 *
 *     supervisor                                        worker
 *        barrier   closed: take clients        ───▶     one for the whole crew, until it is open
 *        lifeline  closed: finish              ───▶     one for each
 *        answers   ready; empty; why it dies   ◀───     closed: takes no client any more
 *
 * For crew.c alone, which decides who is started when.
 */
#ifndef PROCESS_PLACE_H
#define PROCESS_PLACE_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/fault.h"
#include "socket/watch.h"

struct crew;
struct crew_settings;
struct slot;

struct place {
    struct crew *crew;       /* its owner */
    const struct crew_settings *settings;
    size_t       index;
    struct slot *slot;     /* NULL: no process */
    pid_t        pid;      /* 0: no process */
    uint64_t     serial;   /* of that process */
    int          lifeline; /* the write end; -1: closed */
    struct watch answers;  /* its fd is -1 when the worker has said everything */
    bool         is_ready;
    bool         is_empty; /* while draining: so are its sockets' queues, it says */
    bool         has_emptied; /* and everybody knows, or it was never said */
    struct fault why;      /* it dies, in its own words; "": it says nothing */
    ev_timer     restart;
    double       started;
    unsigned     quick_deaths; /* in a row */
    unsigned     failed_starts; /* likewise */
};

/* Without a process; answers and restart are the caller's to initialise. */
void place_init(struct place *, const struct crew_settings *, size_t index);
/* Starts a process; -1: the start barrier is open.  False: errno. */
bool place_start(struct place *, int start_barrier);
/* Hears what it has to say.  False: nothing now. */
bool place_hear(struct place *);
void place_forget_answers(struct place *);
/* Its process is to finish. */
void place_finish(struct place *);
/* Its process is gone: its counters are settled. */
void place_reap(struct place *);

#endif
