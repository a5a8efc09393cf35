/*
 * spans.h — where one text differs from another: spans of the first, bounded in number and work.
 *
 *     primary   HTTP/1.1 200 OK   id: [8f3a-11]   total: [17] EUR
 *     control   HTTP/1.1 200 OK   id: [91bc-20]   total:  17  EUR      spans: the id
 *     candidate HTTP/1.1 200 OK   id: [77aa-31]   total: [18] EUR      spans: the id, the total
 *
 * The unit is the token: a run of letters, digits and what stands inside numbers, times and ids, or
 * any other single byte.  So two random ids differ as a whole, whatever bytes they share.
 *
 * Equal ends are cut off first.  Texts with equally many tokens are compared place by place, when most
 * places agree; others by Myers' algorithm ("An O(ND) Difference Algorithm and Its Variations", 1986)
 * up to SPANS_EDITS edits.  Beyond that, all between the equal ends is one coarse span.
 *
 * Knows nothing of protocols, sockets or processes.
 */
#ifndef ANSWERS_SPANS_H
#define ANSWERS_SPANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPANS_MAX   1024 /* of one text; further ones are joined to the last */
#define SPANS_EDITS 256

/* Bytes begin to end of the first text; begin == end: the other one has something more there. */
struct span {
    uint32_t begin;
    uint32_t end;
};

struct spans {
    size_t      count; /* in order, none touches the next */
    bool        is_coarse; /* where they differ is known only roughly */
    struct span at[SPANS_MAX];
};

struct text {
    const uint8_t *bytes;
    size_t         length; /* below 4 GiB */
};

/* Memory for spans_find(); one serves any number of calls, one after another. */
struct spans_scratch;
struct spans_scratch *spans_scratch_new(void); /* NULL: no memory */
void                  spans_scratch_free(struct spans_scratch *); /* NULL is fine */

/* Where the first text differs from the other.  False: no memory for the tokens, and the spans are one
 * coarse span over the whole first text. */
bool spans_find(struct spans_scratch *, const struct text *first, const struct text *other,
                struct spans *);

/* Adds all of these spans to others, which stay in order. */
void spans_join(struct spans *, const struct spans *more);

/* The first span, or part of one, that noise does not cover; false: noise covers all of them.  A span
 * without length is covered by noise that it lies in or touches. */
bool spans_outside(const struct spans *, const struct spans *noise, struct span *outside);

/* How many bytes of the text they cover. */
uint64_t spans_bytes(const struct spans *);

#endif
