/*
 * kept.c — growing by doubling, within the budget.
 */
#include "kept.h"

#include <stdlib.h>
#include <string.h>

#include "answers/compare.h"

#define FIRST_BYTES  512
#define FIRST_BLOCKS 16

static bool grow(void **memory, size_t *room, size_t wanted, size_t size,
                 struct kept_budget *budget)
{
    if (wanted <= *room)
        return true;
    uint64_t more = (uint64_t)(wanted - *room) * size;
    if (budget->used + more > budget->max)
        return false;
    void *grown = reallocarray(*memory, wanted, size);
    if (grown == NULL)
        return false;
    budget->used += more;
    *memory = grown;
    *room = wanted;
    return true;
}

static size_t next_room(size_t room, size_t wanted, size_t first, size_t max)
{
    size_t next = room == 0 ? first : room;

    while (next < wanted)
        next *= 2;
    return next < max ? next : max;
}

static bool add_to_window(struct kept *kept, struct kept_budget *budget, const uint8_t *bytes,
                          size_t length)
{
    size_t wanted = kept->length + length;
    size_t room = next_room(kept->room, wanted, FIRST_BYTES, KEPT_WINDOW);

    if (!grow((void **)&kept->bytes, &kept->room, room, 1, budget))
        return false;
    memcpy(kept->bytes + kept->length, bytes, length);
    kept->length = wanted;
    return true;
}

static bool end_block(struct kept *kept, struct kept_budget *budget)
{
    if (kept->block_count == KEPT_BLOCKS_MAX) {
        kept->is_cut = true;
        return true;
    }
    size_t room = next_room(kept->block_room, kept->block_count + 1, FIRST_BLOCKS, KEPT_BLOCKS_MAX);
    if (!grow((void **)&kept->blocks, &kept->block_room, room, sizeof *kept->blocks, budget))
        return false;
    kept->blocks[kept->block_count++] = XXH64_digest(&kept->hash);
    kept->in_block = 0;
    return true;
}

static bool add_to_blocks(struct kept *kept, struct kept_budget *budget, const uint8_t *bytes,
                          size_t length)
{
    while (length > 0) {
        size_t room = BLOCK_BYTES - kept->in_block;
        size_t now = length < room ? length : room;
        if (kept->in_block == 0)
            XXH64_reset(&kept->hash, 0);
        XXH64_update(&kept->hash, bytes, now);
        kept->in_block += now;
        bytes += now;
        length -= now;
        if (kept->in_block == BLOCK_BYTES && !end_block(kept, budget))
            return false;
    }
    return true;
}

bool kept_add(struct kept *kept, struct kept_budget *budget, const uint8_t *bytes, size_t length)
{
    size_t left = KEPT_WINDOW - kept->length;
    size_t first = length < left ? length : left;

    kept->total += length;
    if (first > 0 && !add_to_window(kept, budget, bytes, first))
        return false;
    return add_to_blocks(kept, budget, bytes + first, length - first);
}

bool kept_end(struct kept *kept, struct kept_budget *budget)
{
    return kept->in_block == 0 || end_block(kept, budget);
}

void kept_free(struct kept *kept, struct kept_budget *budget)
{
    budget->used -= kept->room + kept->block_room * sizeof *kept->blocks;
    free(kept->bytes);
    free(kept->blocks);
    *kept = (struct kept){ 0 };
}
