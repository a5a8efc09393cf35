/*
 * turns.c — a queue for each source, and a ring of the sources that have one.
 */
#include "transport/turns.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/fault.h"
#include "base/ranks.h"
#include "shared/sources.h"

#define BUCKETS 4096 /* so that 65,536 sessions, each of its own source, make chains of 16 */
#define TRIES   16   /* sources that are asked for one that may begin; the others next time */

struct turn_source {
    struct turn_source *next; /* in its bucket */
    uint64_t            key;
    size_t              under_way;
    size_t              waiting;
    double              moved_at; /* when one began, or the first one came */
    struct link         queue; /* the first that came is the last one */
    struct link         ring;  /* in no list: nobody waits */
    struct link         rank;  /* by how many wait */
};

struct turns {
    size_t              max;
    size_t              under_way;
    uint64_t            seed; /* nobody can choose addresses that meet in one bucket */
    struct link         ring; /* who is asked next is the last one */
    struct ranks        ranks;
    struct turn_source *buckets[BUCKETS];
};

struct turns *turns_new(size_t max)
{
    struct turns *turns = xcalloc(1, sizeof *turns);

    turns->max = max;
    if (getrandom(&turns->seed, sizeof turns->seed, 0) != sizeof turns->seed)
        die(1, "cannot get random numbers");
    list_start(&turns->ring);
    ranks_start(&turns->ranks);
    return turns;
}

void turns_free(struct turns *turns)
{
    if (turns == NULL)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        assert(turns->buckets[i] == NULL);
    free(turns);
}

/* --- sources ----------------------------------------------------------------------------- */

/* What points to the source of this key, or would. */
static struct turn_source **find(struct turns *turns, uint64_t key)
{
    uint64_t             bits = (key ^ turns->seed) * 0x9e3779b97f4a7c15U;
    struct turn_source **found = &turns->buckets[(bits ^ bits >> 32) * 0xbf58476d1ce4e5b9U >> 52];

    _Static_assert(BUCKETS == 1 << (64 - 52), "the highest bits are a bucket's number");
    while (*found != NULL && (*found)->key != key)
        found = &(*found)->next;
    return found;
}

static struct turn_source *find_or_add(struct turns *turns, uint64_t key)
{
    struct turn_source **found = find(turns, key);

    if (*found != NULL)
        return *found;
    struct turn_source *source = calloc(1, sizeof *source);
    if (source == NULL)
        return NULL;
    source->key = key;
    list_start(&source->queue);
    *found = source;
    return source;
}

static void forget_if_idle(struct turns *turns, struct turn_source *source)
{
    if (source->under_way > 0 || source->waiting > 0)
        return;
    *find(turns, source->key) = source->next;
    free(source);
}

static void count_waiting(struct turns *turns, struct turn_source *source, size_t waiting)
{
    ranks_change(&turns->ranks, &source->rank, source->waiting, waiting);
    source->waiting = waiting;
    if (waiting == 0)
        list_remove(&source->ring);
}

static bool may_begin(const struct turns *turns, const struct turn_source *source)
{
    return source->under_way < turns->max - turns->under_way;
}

/* --- turns ------------------------------------------------------------------------------- */

bool turns_enter(struct turns *turns, struct turn *turn, const struct address *address, double now)
{
    struct turn_source *source = find_or_add(turns, source_of(address));

    if (source == NULL)
        return false;
    *turn = (struct turn){ .source = source };
    list_add(&source->queue, &turn->waiting);
    if (source->waiting == 0) {
        source->moved_at = now;
        /* Whoever has nothing under way is asked first. */
        list_add(source->under_way == 0 ? turns->ring.previous : &turns->ring, &source->ring);
    }
    count_waiting(turns, source, source->waiting + 1);
    return true;
}

void turns_leave(struct turns *turns, struct turn *turn)
{
    struct turn_source *source = turn->source;

    if (source == NULL)
        return;
    turn->source = NULL;
    if (list_holds(&turn->waiting)) {
        list_remove(&turn->waiting);
        count_waiting(turns, source, source->waiting - 1);
    } else {
        source->under_way--;
        turns->under_way--;
    }
    forget_if_idle(turns, source);
}

static struct turn *begin(struct turns *turns, struct turn_source *source, double now)
{
    struct turn *turn = LIST_MEMBER(source->queue.previous, struct turn, waiting);

    list_remove(&turn->waiting);
    count_waiting(turns, source, source->waiting - 1);
    source->moved_at = now;
    source->under_way++;
    turns->under_way++;
    return turn;
}

struct turn *turns_next(struct turns *turns, double now)
{
    for (int i = 0; i < TRIES && !list_is_empty(&turns->ring); i++) {
        struct turn_source *source = LIST_MEMBER(turns->ring.previous, struct turn_source, ring);

        list_remove(&source->ring);
        list_add(&turns->ring, &source->ring);
        if (may_begin(turns, source))
            return begin(turns, source, now);
    }
    return NULL;
}

struct turn *turns_stuck(const struct turns *turns, double since)
{
    struct link *top = ranks_top(&turns->ranks);

    if (top == NULL)
        return NULL;
    struct turn_source *source = LIST_MEMBER(top, struct turn_source, rank);
    if (source->moved_at > since)
        return NULL;
    return LIST_MEMBER(source->queue.previous, struct turn, waiting);
}
