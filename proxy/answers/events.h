/*
 * events.h — what a worker tells the judge of compared sessions, through a ring of shared memory.
 *
 *     worker ──event_write──▶ [ event │ event │ event ]  ──event_read──▶ judge
 *                 no room: false, and the worker goes on
 *
 * One writer and one reader, in two processes.  An event is published whole or not at all, so a worker
 * that is killed leaves none by half, and its successor goes on behind it.  The writer never waits and
 * makes no system call; the reader may die at any time.
 */
#ifndef ANSWERS_EVENTS_H
#define ANSWERS_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EVENT_BYTES_MAX 65536 /* that one event carries */
#define EVENT_SHADOWS   16    /* compared ones of one session: CONVERSATION_SHADOWS */

enum event_type {
    EVENT_WORKER_BEGINS, /* whatever the ring's former worker had open is over */
    EVENT_BEGIN,         /* a compared session; carries a struct event_session */
    EVENT_REQUEST,       /* bytes of the client */
    EVENT_ANSWER,        /* bytes of a leg */
    EVENT_LEG_ENDS,      /* how: enum leg_end; why: enum unfinished_why */
    EVENT_END,           /* of the session */
    EVENT_GAP,           /* events of this session were left out: there was no room */
};
#define EVENT_TYPES 7

struct event {
    uint32_t length;  /* bytes behind it */
    uint32_t session; /* its number at this worker, modulo 2^32 */
    uint8_t  type;
    uint8_t  leg;     /* 0: the primary; 1 + n: compared shadow n of the session */
    uint8_t  how;
    uint8_t  why;
    uint32_t padding;
};

/* What EVENT_BEGIN carries. */
struct event_session {
    uint8_t  frames;     /* enum frames */
    uint8_t  only_sizes;
    int8_t   control;    /* which of the shadows; -1: none */
    uint8_t  shadow_count;
    uint32_t padding;
    uint16_t rows[EVENT_SHADOWS]; /* of the shadows in the shared page */
};

struct event_ring;

/* Memory for a ring that holds this many bytes, a power of two of at least 4 * EVENT_BYTES_MAX. */
size_t event_ring_memory(size_t bytes);
/* Zeroed memory of that size becomes an empty ring. */
void   event_ring_init(struct event_ring *, size_t bytes);

/* False: there is no room, and nothing was written.  length is at most EVENT_BYTES_MAX. */
bool event_write(struct event_ring *, struct event, const void *bytes);
/* The next event, its bytes copied to room for EVENT_BYTES_MAX; false: there is none.  An event that
 * no writer of ours would write empties the ring: false. */
bool event_read(struct event_ring *, struct event *, uint8_t *bytes);

#endif
