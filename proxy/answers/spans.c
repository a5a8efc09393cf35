/*
 * spans.c — tokens, equal ends, place by place or by edits; and sets of spans.
 */
#include "spans.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct token {
    uint64_t hash;
    uint32_t begin;
    uint32_t end;
};

struct tokens {
    struct token *all;
    size_t        count;
    size_t        room;
};

/* The furthest places on each diagonal after each number of edits, for finding the way back. */
#define ROWS      (SPANS_EDITS + 1)
#define DIAGONALS (2 * SPANS_EDITS + 1)

struct spans_scratch {
    struct tokens first;
    struct tokens other;
    int32_t       furthest[ROWS][DIAGONALS + 2];
};

struct spans_scratch *spans_scratch_new(void)
{
    return calloc(1, sizeof(struct spans_scratch));
}

void spans_scratch_free(struct spans_scratch *scratch)
{
    if (scratch == NULL)
        return;
    free(scratch->first.all);
    free(scratch->other.all);
    free(scratch);
}

/* Inside numbers, times, ids and words of any language (UTF-8). */
static bool is_inside(uint8_t byte)
{
    static const char more[] = "._:+-";

    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte >= 0x80 ||
           (byte != 0 && strchr(more, byte) != NULL);
}

static bool add_token(struct tokens *tokens, struct token token)
{
    if (tokens->count == tokens->room) {
        size_t        room = tokens->room == 0 ? 256 : 2 * tokens->room;
        struct token *all = reallocarray(tokens->all, room, sizeof *all);
        if (all == NULL)
            return false;
        tokens->all = all;
        tokens->room = room;
    }
    tokens->all[tokens->count++] = token;
    return true;
}

static bool tokenize(struct tokens *tokens, const struct text *text)
{
    tokens->count = 0;
    for (size_t i = 0; i < text->length;) {
        size_t begin = i++;
        if (is_inside(text->bytes[begin]))
            while (i < text->length && is_inside(text->bytes[i]))
                i++;
        struct token token = { XXH64(text->bytes + begin, i - begin, 0), (uint32_t)begin,
                               (uint32_t)i };
        if (!add_token(tokens, token))
            return false;
    }
    return true;
}

/* The part of both texts that is still to be compared: tokens begin to end. */
struct range {
    const struct token *first;
    const struct token *other;
    int32_t             first_count;
    int32_t             other_count;
    const struct text  *first_text;
    const struct text  *other_text;
};

static bool same_token(const struct range *range, int32_t i, int32_t j)
{
    const struct token *a = &range->first[i];
    const struct token *b = &range->other[j];
    size_t              length = a->end - a->begin;

    return a->hash == b->hash && length == b->end - b->begin &&
           memcmp(range->first_text->bytes + a->begin, range->other_text->bytes + b->begin,
                  length) == 0;
}

static void cut_equal_ends(struct range *range)
{
    while (range->first_count > 0 && range->other_count > 0 && same_token(range, 0, 0)) {
        range->first++;
        range->other++;
        range->first_count--;
        range->other_count--;
    }
    while (range->first_count > 0 && range->other_count > 0 &&
           same_token(range, range->first_count - 1, range->other_count - 1)) {
        range->first_count--;
        range->other_count--;
    }
}

/* In order; one that touches the last is joined to it, and so is whatever is too many. */
static void add_span(struct spans *spans, uint32_t begin, uint32_t end)
{
    struct span *last = spans->count == 0 ? NULL : &spans->at[spans->count - 1];

    if (last != NULL && (begin <= last->end || spans->count == SPANS_MAX)) {
        spans->is_coarse |= begin > last->end;
        last->end = end > last->end ? end : last->end;
        return;
    }
    spans->at[spans->count++] = (struct span){ begin, end };
}

/* Where a token begins; behind the last one, where the range ends in the text. */
static uint32_t begin_of(const struct range *range, int32_t i)
{
    if (i < range->first_count)
        return range->first[i].begin;
    return range->first_count > 0 ? range->first[range->first_count - 1].end
                                  : range->first[0].begin;
}

static bool compare_places(const struct range *range, struct spans *spans)
{
    int32_t different = 0;

    if (range->first_count != range->other_count)
        return false;
    for (int32_t i = 0; i < range->first_count; i++)
        different += !same_token(range, i, i);
    if (different > range->first_count / 2 && range->first_count > 2)
        return false;
    for (int32_t i = 0; i < range->first_count; i++)
        if (!same_token(range, i, i))
            add_span(spans, range->first[i].begin, range->first[i].end);
    return true;
}

/* As far as both go on alike on diagonal k, where j = i - k. */
static int32_t follow(const struct range *range, int32_t i, int32_t k)
{
    while (i < range->first_count && i - k < range->other_count && same_token(range, i, i - k))
        i++;
    return i;
}

/* The furthest place in the first text on diagonal k after one more edit than in the row before. */
static int32_t step(const int32_t *before, int32_t edits, int32_t k)
{
    int32_t down = before[k + 1 + SPANS_EDITS + 1];
    int32_t right = before[k - 1 + SPANS_EDITS + 1];

    if (k == -edits || (k != edits && right < down))
        return down; /* one more token of the other */
    return right + 1; /* one token of the first is left out */
}

/* Fills the rows; answers how many edits it takes, or -1 when it takes too many. */
static int32_t count_edits(struct spans_scratch *scratch, const struct range *range)
{
    for (int32_t edits = 0; edits <= SPANS_EDITS; edits++) {
        int32_t *row = scratch->furthest[edits];
        for (int32_t k = -edits; k <= edits; k += 2) {
            int32_t i = edits == 0 ? 0 : step(scratch->furthest[edits - 1], edits, k);
            i = follow(range, i, k);
            row[k + SPANS_EDITS + 1] = i;
            if (i >= range->first_count && i - k >= range->other_count)
                return edits;
        }
    }
    return -1;
}

/* Goes the way back from the end, and adds the spans from there: the last one first. */
static void walk_back(struct spans_scratch *scratch, const struct range *range, int32_t edits,
                      struct spans *reversed)
{
    int32_t k = range->first_count - range->other_count;

    for (; edits > 0; edits--) {
        const int32_t *before = scratch->furthest[edits - 1];
        int32_t        down = before[k + 1 + SPANS_EDITS + 1];
        int32_t        right = before[k - 1 + SPANS_EDITS + 1];
        bool           is_insertion = k == -edits || (k != edits && right < down);
        int32_t        i = is_insertion ? down : right;
        uint32_t       begin = begin_of(range, i);
        uint32_t       end = is_insertion ? begin : range->first[i].end;
        struct span   *last = reversed->count == 0 ? NULL : &reversed->at[reversed->count - 1];

        if (last != NULL && end >= last->begin)
            last->begin = begin < last->begin ? begin : last->begin;
        else
            reversed->at[reversed->count++] = (struct span){ begin, end };
        k += is_insertion ? 1 : -1;
    }
}

_Static_assert(SPANS_EDITS <= SPANS_MAX, "each edit is at most one span");

static bool compare_edits(struct spans_scratch *scratch, const struct range *range,
                          struct spans *spans)
{
    int32_t edits = count_edits(scratch, range);

    if (edits < 0)
        return false;
    walk_back(scratch, range, edits, spans);
    for (size_t i = 0; i < spans->count / 2; i++) {
        struct span span = spans->at[i];
        spans->at[i] = spans->at[spans->count - 1 - i];
        spans->at[spans->count - 1 - i] = span;
    }
    return true;
}

bool spans_find(struct spans_scratch *scratch, const struct text *first, const struct text *other,
                struct spans *spans)
{
    spans->count = 0;
    spans->is_coarse = false;
    if (first->length == other->length && memcmp(first->bytes, other->bytes, first->length) == 0)
        return true;
    if (!tokenize(&scratch->first, first) || !tokenize(&scratch->other, other)) {
        add_span(spans, 0, (uint32_t)first->length);
        spans->is_coarse = true;
        return false;
    }
    if (scratch->first.count == 0 || scratch->other.count == 0) {
        add_span(spans, 0, (uint32_t)first->length);
        return true;
    }
    struct range range = { scratch->first.all,
                           scratch->other.all,
                           (int32_t)scratch->first.count,
                           (int32_t)scratch->other.count,
                           first,
                           other };
    cut_equal_ends(&range);
    if (range.first_count == 0) {
        uint32_t at = range.first == scratch->first.all ? 0 : range.first[-1].end;
        add_span(spans, at, at);
    } else if (!compare_places(&range, spans) && !compare_edits(scratch, &range, spans)) {
        add_span(spans, range.first[0].begin, range.first[range.first_count - 1].end);
        spans->is_coarse = true;
    }
    return true;
}

void spans_join(struct spans *spans, const struct spans *more)
{
    struct spans old = *spans;
    size_t       i = 0, j = 0;

    spans->count = 0;
    spans->is_coarse = old.is_coarse || more->is_coarse;
    while (i < old.count || j < more->count) {
        bool take_old = j == more->count || (i < old.count && old.at[i].begin <= more->at[j].begin);
        const struct span *next = take_old ? &old.at[i++] : &more->at[j++];
        add_span(spans, next->begin, next->end);
    }
}

bool spans_outside(const struct spans *spans, const struct spans *noise, struct span *outside)
{
    size_t j = 0;

    for (size_t i = 0; i < spans->count; i++) {
        struct span span = spans->at[i];
        while (j < noise->count && noise->at[j].end < span.begin)
            j++;
        for (size_t n = j; n < noise->count && noise->at[n].begin <= span.begin; n++)
            if (noise->at[n].end >= span.begin)
                span.begin = noise->at[n].end > span.begin ? noise->at[n].end : span.begin;
        bool is_covered =
            j < noise->count && noise->at[j].begin <= spans->at[i].begin && span.begin >= span.end;
        if (!is_covered) {
            *outside = span;
            return true;
        }
    }
    return false;
}

uint64_t spans_bytes(const struct spans *spans)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < spans->count; i++)
        bytes += spans->at[i].end - spans->at[i].begin;
    return bytes;
}
