/*
 * pool.c — slabs of chunks, and a free list threaded through the chunks of each.
 *
 *     slab (1 MiB, aligned to its size)
 *     ┌────────┬─────────┬─────────┬─────┬──────────┐
 *     │ header │ chunk 1 │ chunk 2 │ ... │ chunk 63 │
 *     └────────┴─────────┴─────────┴─────┴──────────┘
 *
 * The alignment leads from a chunk to its slab without a search.
 */
#include "pool.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h> /* the macros do nothing in other builds */
#else
#define ASAN_POISON_MEMORY_REGION(start, size)   ((void)(start), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(start, size) ((void)(start), (void)(size))
#endif

#define SLAB_SIZE ((size_t)1 << 20)

struct slab {
    struct slab *next;
    struct slab *previous;
    void        *free;  /* returned chunks */
    size_t       fresh; /* offset of the first chunk never lent */
    size_t       lent;
};

static struct slab *slab_of(char *chunk)
{
    return (struct slab *)(chunk - ((uintptr_t)chunk & (SLAB_SIZE - 1)));
}

/* Maps twice the size and cuts what lies outside the aligned middle. */
static struct slab *slab_map(void)
{
    char *mapped =
        mmap(NULL, 2 * SLAB_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (mapped == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)mapped & (SLAB_SIZE - 1);
    char  *slab = mapped + before;

    if (before > 0)
        munmap(mapped, before);
    munmap(slab + SLAB_SIZE, SLAB_SIZE - before);
    madvise(slab, SLAB_SIZE, MADV_DONTDUMP); /* payload stays out of core files */
    return (struct slab *)slab;
}

static void slab_unmap(struct slab *slab)
{
    ASAN_UNPOISON_MEMORY_REGION(slab, SLAB_SIZE);
    munmap(slab, SLAB_SIZE);
}

static bool slab_is_full(const struct slab *slab)
{
    return slab->free == NULL && slab->fresh == SLAB_SIZE;
}

static void pool_link(struct pool *pool, struct slab *slab)
{
    slab->previous = NULL;
    slab->next = pool->open;
    if (slab->next != NULL)
        slab->next->previous = slab;
    pool->open = slab;
}

static void pool_unlink(struct pool *pool, struct slab *slab)
{
    if (slab->previous != NULL)
        slab->previous->next = slab->next;
    else
        pool->open = slab->next;
    if (slab->next != NULL)
        slab->next->previous = slab->previous;
}

static struct slab *pool_grow(struct pool *pool)
{
    struct slab *slab = slab_map();

    if (slab == NULL)
        return NULL;
    slab->fresh = CHUNK_SIZE;
    pool_link(pool, slab);
    pool->empty++;
    return slab;
}

char *pool_take(struct pool *pool)
{
    struct slab *slab = pool->open != NULL ? pool->open : pool_grow(pool);
    char        *chunk;

    if (slab == NULL)
        return NULL;
    if (slab->free != NULL) {
        chunk = slab->free;
        ASAN_UNPOISON_MEMORY_REGION(chunk, CHUNK_SIZE);
        slab->free = *(void **)chunk;
    } else {
        chunk = (char *)slab + slab->fresh;
        slab->fresh += CHUNK_SIZE;
    }
    pool->empty -= slab->lent == 0;
    slab->lent++;
    pool->lent++;
    if (slab_is_full(slab))
        pool_unlink(pool, slab);
    return chunk;
}

void pool_return(struct pool *pool, char *chunk)
{
    struct slab *slab = slab_of(chunk);

    assert(slab->lent > 0);
    if (slab_is_full(slab))
        pool_link(pool, slab);
    *(void **)chunk = slab->free;
    slab->free = chunk;
    ASAN_POISON_MEMORY_REGION(chunk, CHUNK_SIZE);
    slab->lent--;
    pool->lent--;
    if (slab->lent > 0)
        return;
    if (pool->empty == 0) {
        pool->empty++;
    } else {
        pool_unlink(pool, slab);
        slab_unmap(slab);
    }
}

void pool_close(struct pool *pool)
{
    assert(pool->lent == 0);
    while (pool->open != NULL) {
        struct slab *slab = pool->open;

        pool_unlink(pool, slab);
        slab_unmap(slab);
    }
    pool->empty = 0;
}
