/*
 * conversation.h — one compared session: bytes in, in order; compared exchanges out.
 *
 *     client's bytes   ──▶ request 0 │ request 1 │ ...          by the reader of the protocol
 *     primary's bytes  ──▶ answer  0 │ answer  1 │ ...
 *     candidate's      ──▶ answer  0 │ answer  1 │ ...   ──all legs have one──▶ on_exchange()
 *     control's        ──▶ answer  0 │ answer  1 │ ...
 *
 * The result does not depend on how TCP cut the bytes, nor on which leg is heard first.  Where no
 * reader understands the protocol, the whole session is one exchange; where a reader stops
 * understanding, the rest of the session is one opaque exchange.
 *
 * Pure: no clock, no I/O.  Memory only within the budget; without memory the rest is unfinished.
 */
#ifndef ANSWERS_CONVERSATION_H
#define ANSWERS_CONVERSATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "answers/compare.h"
#include "answers/frames.h"
#include "answers/kept.h"
#include "answers/reply.h"

#define CONVERSATION_SHADOWS 16 /* compared ones of a session */
#define CONVERSATION_AHEAD   4096 /* requests that wait for answers; more make the rest opaque */

/* The primary is leg 0, the shadow n is leg 1 + n. */
#define LEG_OF_SHADOW(n) (1 + (n))

struct exchange {
    size_t            shadow;
    uint64_t          number; /* of the exchange, from 1 */
    const char       *label;  /* "" when it has none */
    struct comparison comparison;
    uint64_t          primary_bytes;
    uint64_t          shadow_bytes;
};

struct conversation_terms {
    enum frames         frames;
    bool                only_sizes; /* compare=size: what was said is not looked at */
    size_t              shadow_count;
    int                 control;    /* the shadow that is the control; -1: none */
    struct kept_budget          *budget;
    struct reply_scratch        *scratch;
    void (*on_exchange)(void *owner, const struct exchange *);
    void *owner;
};

/* How a leg ended. */
enum leg_end {
    LEG_OPEN,
    LEG_CLOSED, /* in good order */
    LEG_RESET,
    LEG_CUT,    /* by doppel: the reason says why its exchanges are unfinished */
};

struct conversation;

/* Borrows the terms' members.  NULL: no memory. */
struct conversation *conversation_new(const struct conversation_terms *);
void conversation_free(struct conversation *); /* NULL is fine; reports nothing more */

void conversation_request(struct conversation *, const uint8_t *bytes, size_t length);
void conversation_answer(struct conversation *, size_t leg, const uint8_t *bytes, size_t length);
/* A leg ends once: what is said of it afterwards, or that it is open, is passed over. */
void conversation_leg_ends(struct conversation *, size_t leg, enum leg_end, enum unfinished_why);
/* The session is over: every exchange that is still open is reported as it stands. */
void conversation_end(struct conversation *);
/* Something was not heard: all that is open, and what would follow, is unfinished for this reason. */
void conversation_give_up(struct conversation *, enum unfinished_why);

#endif
