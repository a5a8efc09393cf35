/*
 * reply.h — what one server said in one exchange, as far as it is kept, and comparing three of them.
 *
 *     replies of primary, candidate, control ──parts by the reader──▶ answers ──compare.h──▶ comparison
 */
#ifndef ANSWERS_REPLY_H
#define ANSWERS_REPLY_H

#include <stdbool.h>

#include "answers/compare.h"
#include "answers/frames.h"
#include "answers/kept.h"

struct parts_scratch;

/* Whole, or as far as it came.  A zeroed one: the server said nothing. */
struct reply {
    struct reply   *next;
    struct kept     kept;
    enum answer_end end;
    bool            is_there;
    bool            is_opaque; /* the reader does not understand it */
};

/* Memory for comparing; one serves any number of comparisons, one after another. */
struct reply_scratch {
    struct compare_scratch *compare;
    struct parts_scratch   *parts[3]; /* of primary, candidate and control */
    struct answer           answers[3];
};

struct reply_terms {
    enum frames           frames;     /* decided: which reader takes the answers apart */
    bool                  only_sizes; /* what was said is not looked at */
    struct reply_scratch *scratch;
};

/* control: NULL: there is none; one that said nothing is no agreement. */
void replies_compare(const struct reply_terms *, const struct reply *primary,
                     const struct reply *candidate, const struct reply *control,
                     struct comparison *);

#endif
