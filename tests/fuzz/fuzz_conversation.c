/*
 * fuzz_conversation.c — whatever client and servers say, in whatever order and pieces:
 *
 *  - no byte is read that was not given: each piece is a block of its own;
 *  - each exchange is reported once for every shadow, with numbers that count up;
 *  - an exchange in which the candidate alone differs is different, and no other one is;
 *  - memory stays within the budget, and all of it is given back.
 *
 * The input is a list of steps: kind and leg, length, bytes.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "answers/conversation.h"
#include "answers/cut.h"
#include "answers/parts.h"

#define SHADOWS 2
#define BUDGET  65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct reply_scratch scratch;
static uint64_t                    reported[SHADOWS];

static void on_exchange(void *owner, const struct exchange *exchange)
{
    const struct comparison *c = &exchange->comparison;

    (void)owner;
    assert(exchange->shadow < SHADOWS);
    assert(exchange->number == ++reported[exchange->shadow]);
    assert(strlen(exchange->label) < CUT_LABEL);
    assert(c->result < EXCHANGE_RESULTS && c->class < DIFFERENCE_CLASSES);
    assert((c->result == EXCHANGE_DIFFERENT) == c->only_candidate[EVIDENCE_ALL] ||
           c->result == EXCHANGE_UNFINISHED || c->result == EXCHANGE_OPAQUE);
}

static void make_scratch(void)
{
    if (scratch.compare != NULL)
        return;
    scratch.compare = compare_scratch_new();
    for (int i = 0; i < 3; i++)
        scratch.parts[i] = parts_scratch_new();
}

/* Gives the bytes from memory that ends where they end. */
static void say(struct conversation *c, unsigned leg, const uint8_t *bytes, size_t length)
{
    uint8_t *copy = malloc(length > 0 ? length : 1);

    memcpy(copy, bytes, length);
    if (leg == 0)
        conversation_request(c, copy, length);
    else
        conversation_answer(c, leg - 1, copy, length);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kept_budget budget = { .max = BUDGET };

    if (size < 1)
        return 0;
    make_scratch();
    const struct conversation_terms terms = {
        .frames = data[0] % 4,
        .only_sizes = (data[0] & 4) != 0,
        .shadow_count = SHADOWS,
        .control = data[0] & 8 ? 1 : -1,
        .budget = &budget,
        .scratch = &scratch,
        .on_exchange = on_exchange,
    };
    struct conversation *c = conversation_new(&terms);
    reported[0] = reported[1] = 0;
    for (size_t at = 1; at + 2 <= size;) {
        unsigned kind = data[at] % 16, leg = data[at] / 16;
        size_t   length = data[at + 1];
        at += 2;
        if (kind == 15) {
            conversation_leg_ends(c, leg % (1 + SHADOWS), length % 4,
                                  length / 4 % UNFINISHED_REASONS);
            continue;
        }
        length = length < size - at ? length : size - at;
        say(c, leg % (2 + SHADOWS), data + at, length);
        at += length;
        assert(budget.used <= BUDGET);
    }
    conversation_end(c);
    assert(reported[0] == reported[1]);
    conversation_free(c);
    assert(budget.used == 0);
    return 0;
}
