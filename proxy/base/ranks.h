/*
 * ranks.h — members by size: who is among the largest is found without a walk over all.
 *
 *     rank 1 ─ 1            each rank is a list; a member belongs to the rank of its size, which has
 *     rank 2 ─ 2 .. 3       half the range of the next one, so that the top is no less than half of
 *     rank 3 ─ 4 .. 7       the largest member
 */
#ifndef BASE_RANKS_H
#define BASE_RANKS_H

#include <stdint.h>

#include "base/list.h"

#define RANKS 65

struct ranks {
    struct link lists[RANKS]; /* the first is not used: whoever has nothing is in no list */
};

static inline unsigned rank_of(uint64_t size)
{
    return size == 0 ? 0 : 64 - (unsigned)__builtin_clzll(size);
}

static inline void ranks_start(struct ranks *ranks)
{
    for (unsigned i = 0; i < RANKS; i++)
        list_start(&ranks->lists[i]);
}

/* The member's size has become this; 0 takes it out.  One that stays in its rank costs a comparison. */
static inline void ranks_change(struct ranks *ranks, struct link *member, uint64_t before,
                                uint64_t now)
{
    if (rank_of(before) == rank_of(now))
        return;
    list_remove(member);
    if (now > 0)
        list_add(&ranks->lists[rank_of(now)], member);
}

/* Of those in the highest rank the one that came there first; NULL: there is none. */
static inline struct link *ranks_top(const struct ranks *ranks)
{
    for (unsigned i = RANKS - 1; i > 0; i--) {
        if (!list_is_empty(&ranks->lists[i]))
            return ranks->lists[i].previous;
    }
    return NULL;
}

#endif
