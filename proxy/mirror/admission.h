/*
 * admission.h — who may come, who is mirrored, and the places that clients take.
 */
#ifndef MIRROR_ADMISSION_H
#define MIRROR_ADMISSION_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/stats.h"

struct mirror;
struct session;

/* Whether the client's address is known, but nothing was decided yet. */
bool admission_is_due(const struct session *);
/* Decides everything that depends on the client's address, before its first byte. */
void admission_decide(struct session *, double now);
/* Over before it began: nobody is told the end, so closing resets. */
void admission_refuse(struct session *, enum session_reason);
/* The client has gone: it no longer counts for its address. */
void admission_leave(struct session *);

/* One of the places among --max-sessions, over all workers.  False: all are taken. */
bool admission_take_place(struct mirror *, size_t max_sessions);
void admission_give_place_back(struct mirror *);

#endif
