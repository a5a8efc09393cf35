/*
 * reply.c — equal bytes need no reader; all else is taken apart and compared.
 */
#include "reply.h"

#include <string.h>

#include "answers/parts.h"

/* which: of the scratch: 0 the primary, 1 the candidate, 2 the control. */
static const struct answer *answer_of(const struct reply_terms *terms, const struct reply *reply,
                                      int which)
{
    struct parts_scratch *parts = terms->scratch->parts[which];
    struct answer        *answer = &terms->scratch->answers[which];
    const struct text     text = { reply->kept.bytes, reply->kept.length };

    answer->is_there = reply->is_there;
    answer->part_count = answer->block_count = 0;
    if (!answer->is_there)
        return answer;
    answer->end = reply->end;
    answer->length = reply->kept.total;
    answer->blocks = reply->kept.blocks;
    answer->block_count = reply->kept.block_count;
    if (terms->frames == FRAMES_HTTP1 && !reply->is_opaque)
        parts_of_http1(parts, answer, &text);
    else if (terms->frames == FRAMES_RESP && !reply->is_opaque)
        parts_of_resp(answer, &text);
    else
        parts_of_bytes(answer, &text);
    return answer;
}

/* Sizes and ends alone. */
static void compare_sizes(const struct answer *primary, const struct answer *candidate,
                          struct comparison *out)
{
    *out = (struct comparison){ .result = EXCHANGE_EQUAL, .part = "" };
    if (!primary->is_there) {
        out->result = EXCHANGE_UNFINISHED;
        out->why = UNFINISHED_NO_ANSWER;
        return;
    }
    if (!candidate->is_there)
        out->class = DIFFERENCE_MISSING;
    else if (candidate->length != primary->length)
        out->class = DIFFERENCE_LENGTH;
    else if (candidate->end != primary->end)
        out->class = DIFFERENCE_END;
    else
        return;
    out->result = EXCHANGE_DIFFERENT;
    out->only_candidate[EVIDENCE_ALL] = true;
    out->only_candidate[EVIDENCE_MISSING] = out->class == DIFFERENCE_MISSING;
    out->only_candidate[EVIDENCE_END] = out->class == DIFFERENCE_END;
}

static bool same_bytes(const struct reply *one, const struct reply *other)
{
    const struct kept *a = &one->kept, *b = &other->kept;

    return one->is_there && other->is_there && one->end == other->end && a->total == b->total &&
           a->block_count == b->block_count &&
           (a->length == 0 || memcmp(a->bytes, b->bytes, a->length) == 0) &&
           (a->block_count == 0 ||
            memcmp(a->blocks, b->blocks, a->block_count * sizeof *a->blocks) == 0);
}

void replies_compare(const struct reply_terms *terms, const struct reply *primary,
                     const struct reply *candidate, const struct reply *control,
                     struct comparison *out)
{
    if (same_bytes(primary, candidate) && (control == NULL || same_bytes(primary, control))) {
        *out = (struct comparison){ .result = EXCHANGE_EQUAL };
        return;
    }
    const struct answer *of_primary = answer_of(terms, primary, 0);
    const struct answer *of_candidate = answer_of(terms, candidate, 1);
    if (terms->only_sizes)
        compare_sizes(of_primary, of_candidate, out);
    else
        compare_answers(terms->scratch->compare, of_primary, of_candidate,
                        control != NULL ? answer_of(terms, control, 2) : NULL, out);
}
