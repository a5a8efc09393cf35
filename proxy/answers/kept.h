/*
 * kept.h — one answer as far as it is kept: a window of bytes, then only hashes of blocks.
 *
 *     bytes ──▶ [ window: at most KEPT_WINDOW ] ──▶ hash, hash, hash ...      4 KiB each (xxHash)
 *
 * What is kept counts against a budget that all answers share.
 */
#ifndef ANSWERS_KEPT_H
#define ANSWERS_KEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#define XXH_STATIC_LINKING_ONLY /* for the size of its state */
#include <xxhash.h>

#define KEPT_WINDOW     (256 * 1024)
#define KEPT_BLOCKS_MAX (64 * 1024) /* hashes of 256 MiB; what lies beyond is not compared */

struct kept_budget {
    uint64_t used;
    uint64_t max; /* bytes */
};

/* A zeroed one is empty. */
struct kept {
    uint8_t     *bytes;
    size_t       length; /* of the window so far */
    size_t       room;
    uint64_t     total;  /* bytes of the answer */
    uint64_t    *blocks;
    size_t       block_count;
    size_t       block_room;
    XXH64_state_t hash; /* of the block that is being filled */
    size_t       in_block;
    bool         is_cut; /* more blocks than are kept */
};

/* False: the budget or memory is exhausted; what was kept stays as it is. */
bool kept_add(struct kept *, struct kept_budget *, const uint8_t *bytes, size_t length);
/* The last block counts although it is not full. */
bool kept_end(struct kept *, struct kept_budget *);
void kept_free(struct kept *, struct kept_budget *);

#endif
