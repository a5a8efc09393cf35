/*
 * turns.h — who may begin, when not all may at once, so that no source keeps the others waiting.
 *
 *     turns_enter ──▶ waiting, in the queue of its source ──turns_next──▶ under way ──▶ turns_leave
 *
 * A source (shared/sources.h) may begin while it has fewer under way than there are places left.  So
 * one that is alone gets half of them, two get a third each, and one that has none under way may
 * always begin while a single place is left.  Sources whose turn it is take turns; within a source
 * the first comes first.
 */
#ifndef TRANSPORT_TURNS_H
#define TRANSPORT_TURNS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"

struct address;
struct turn_source;
struct turns;

/* Embedded in its owner. */
struct turn {
    struct link         waiting; /* in its source's queue; in no list: under way */
    struct turn_source *source;  /* NULL: it has left */
};

/* most: places, at least 1. */
struct turns *turns_new(size_t max);
void          turns_free(struct turns *);

/* It waits now.  now: CLOCK_MONOTONIC seconds.  False: no memory, and it does not. */
bool turns_enter(struct turns *, struct turn *, const struct address *source, double now);
/* It is over, or does not want to begin any more. */
void turns_leave(struct turns *, struct turn *);
/* One that may begin, and is under way from now on; NULL: nobody may before somebody leaves or
 * enters.  With very many sources it may answer NULL too early, but not when nobody is under way. */
struct turn *turns_next(struct turns *, double now);
/* The one that waits longest in about the longest queue of a source; NULL: nobody waits, or somebody
 * of that source has begun since then (CLOCK_MONOTONIC seconds), so that the queue moves on. */
struct turn *turns_stuck(const struct turns *, double since);

#endif
