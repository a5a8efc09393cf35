/*
 * sources.c — set-associative counting: a bucket is searched whole, so a cell may simply be emptied.
 */
#include "sources.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "base/address.h"

#define BUCKETS  4096
#define CELLS    16 /* in a bucket: two cache lines */

/* tag << 32 | sessions; 0: free. */
struct table {
    _Atomic uint64_t cells[BUCKETS][CELLS];
};

struct sources {
    size_t         count;
    _Atomic size_t used; /* tables behind were never entered, and cost nothing */
    struct table   tables[];
};

static size_t bytes_of(size_t tables)
{
    return sizeof(struct sources) + tables * sizeof(struct table);
}

struct sources *sources_new(size_t tables)
{
    struct sources *sources = mmap(NULL, bytes_of(tables), PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (sources == MAP_FAILED)
        return NULL;
    sources->count = tables;
    return sources;
}

void sources_free(struct sources *sources)
{
    if (sources != NULL)
        munmap(sources, bytes_of(sources->count));
}

uint64_t source_of(const struct address *address)
{
    uint8_t  bytes[8] = { 0, 1 }; /* no IPv6 network begins like that (RFC 4291) */
    uint64_t source;

    if (address->any.sa_family == AF_INET)
        memcpy(bytes + 4, &address->v4.sin_addr, 4);
    else if (address->any.sa_family != AF_INET6)
        return 0;
    else
        memcpy(bytes, &address->v6.sin6_addr, sizeof bytes);
    memcpy(&source, bytes, sizeof source);
    return source != 0 ? source : 1; /* [::]/64, of [::1] */
}

/* FNV-1a; 0: an address that is not counted. */
static uint64_t hash_of(const struct address *address)
{
    uint64_t source = source_of(address);
    uint64_t hash = 0xcbf29ce484222325U;

    if (source == 0)
        return 0;
    for (size_t i = 0; i < sizeof source; i++)
        hash = (hash ^ (source >> 8 * i & 0xff)) * 0x100000001b3U;
    hash ^= hash >> 29;
    return hash != 0 ? hash : 1;
}

static _Atomic uint64_t *bucket_of(struct table *table, uint64_t hash)
{
    return table->cells[hash % BUCKETS];
}

static uint64_t tag_of(uint64_t hash)
{
    return (hash >> 32) | 1; /* never 0, which would be a free cell */
}

/* The cell of this tag, else a free one; NULL: neither. */
static _Atomic uint64_t *find_cell(_Atomic uint64_t *bucket, uint64_t tag)
{
    _Atomic uint64_t *found = NULL;

    for (size_t i = 0; i < CELLS; i++) {
        uint64_t cell = atomic_load_explicit(&bucket[i], memory_order_relaxed);

        if (cell >> 32 == tag)
            return &bucket[i];
        if (cell == 0 && found == NULL)
            found = &bucket[i];
    }
    return found;
}

static size_t sessions_of(struct sources *sources, uint64_t hash)
{
    size_t sum = 0;

    for (size_t i = 0; i < atomic_load_explicit(&sources->used, memory_order_relaxed); i++) {
        const _Atomic uint64_t *cell =
            find_cell(bucket_of(&sources->tables[i], hash), tag_of(hash));
        if (cell != NULL)
            sum += (uint32_t)atomic_load_explicit(cell, memory_order_relaxed);
    }
    return sum;
}

static void note_use(struct sources *sources, size_t table)
{
    size_t used = atomic_load_explicit(&sources->used, memory_order_relaxed);

    while (table >= used && !atomic_compare_exchange_weak(&sources->used, &used, table + 1))
        continue;
}

enum source_entry sources_enter(struct sources *sources, size_t table,
                                const struct address *address, size_t max)
{
    uint64_t hash = hash_of(address);

    if (hash == 0)
        return SOURCE_UNCOUNTED;
    note_use(sources, table);
    if (sessions_of(sources, hash) >= max)
        return SOURCE_REFUSED;
    _Atomic uint64_t *cell = find_cell(bucket_of(&sources->tables[table], hash), tag_of(hash));
    if (cell == NULL)
        return SOURCE_UNCOUNTED;
    uint64_t sessions = (uint32_t)atomic_load_explicit(cell, memory_order_relaxed);
    atomic_store_explicit(cell, tag_of(hash) << 32 | (sessions + 1), memory_order_relaxed);
    return SOURCE_COUNTED;
}

void sources_leave(struct sources *sources, size_t table, const struct address *address)
{
    uint64_t          hash = hash_of(address);
    _Atomic uint64_t *cell =
        hash != 0 ? find_cell(bucket_of(&sources->tables[table], hash), tag_of(hash)) : NULL;
    uint64_t before = cell != NULL ? atomic_load_explicit(cell, memory_order_relaxed) : 0;

    if (before == 0)
        return;
    bool is_last = (uint32_t)before <= 1;
    atomic_store_explicit(cell, is_last ? 0 : before - 1, memory_order_relaxed);
}

void sources_forget(struct sources *sources, size_t table)
{
    if (table < atomic_load(&sources->used))
        memset(sources->tables[table].cells, 0, sizeof sources->tables[table].cells);
}
