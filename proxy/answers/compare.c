/*
 * compare.c — parts by name, spans by token, blocks by hash; then who differs where the other does not.
 */
#include "compare.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define ORDER_LINES 4096 /* texts with more lines have no order that is looked at */

struct compare_scratch {
    struct spans_scratch *spans;
    struct spans          candidate;
    struct spans          control;
    uint64_t              lines[2][ORDER_LINES]; /* hashes, sorted */
};

struct compare_scratch *compare_scratch_new(void)
{
    struct compare_scratch *scratch = calloc(1, sizeof *scratch);

    if (scratch == NULL)
        return NULL;
    scratch->spans = spans_scratch_new();
    if (scratch->spans == NULL) {
        free(scratch);
        return NULL;
    }
    return scratch;
}

void compare_scratch_free(struct compare_scratch *scratch)
{
    if (scratch == NULL)
        return;
    spans_scratch_free(scratch->spans);
    free(scratch);
}

/* What has been found so far. */
struct findings {
    struct comparison *out;
    bool               has_difference; /* the first one is in out */
    bool               is_noisy;       /* something was masked */
    bool               is_beyond;      /* a block differs in both beyond the window */
    uint64_t           masked_bytes;
    uint64_t           bytes;
};

static enum evidence_class evidence_of(enum difference_class class)
{
    switch (class) {
    case DIFFERENCE_STATUS:
        return EVIDENCE_STATUS;
    case DIFFERENCE_MISSING:
        return EVIDENCE_MISSING;
    case DIFFERENCE_END:
        return EVIDENCE_END;
    case DIFFERENCE_CONTENT:
    case DIFFERENCE_LENGTH:
    case DIFFERENCE_ORDER:
    case DIFFERENCE_EXTRA:
        break;
    }
    return EVIDENCE_ALL;
}

static void candidate_differs(struct findings *findings, enum difference_class class,
                              const char *part, uint64_t at)
{
    struct comparison *out = findings->out;

    out->only_candidate[EVIDENCE_ALL] = true;
    out->only_candidate[evidence_of(class)] = true;
    if (findings->has_difference && class >= out->class)
        return; /* a worse class is told first: the status before the body */
    findings->has_difference = true;
    out->class = class;
    out->part = part;
    out->at = at;
}

static void control_differs(struct findings *findings, enum difference_class class)
{
    findings->out->only_control[EVIDENCE_ALL] = true;
    findings->out->only_control[evidence_of(class)] = true;
}

static const struct part *find_part(const struct answer *answer, const char *name)
{
    for (size_t i = 0; answer != NULL && i < answer->part_count; i++)
        if (strcmp(answer->parts[i].name, name) == 0)
            return &answer->parts[i];
    return NULL;
}

static int by_hash(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* A hash of each line, sorted; answers how many, 0 when there are too many. */
static size_t line_hashes(const struct text *text, uint64_t *hashes)
{
    size_t         count = 0;
    const uint8_t *line = text->bytes, *end = text->bytes + text->length;

    while (line < end) {
        const uint8_t *lf = memchr(line, '\n', (size_t)(end - line));
        size_t         length = (size_t)((lf != NULL ? lf : end) - line);
        if (count == ORDER_LINES)
            return 0;
        hashes[count++] = XXH64(line, length, 0);
        line += length + (lf != NULL);
    }
    qsort(hashes, count, sizeof *hashes, by_hash);
    return count;
}

static bool is_another_order(struct compare_scratch *scratch, const struct text *one,
                             const struct text *other)
{
    if (one->length != other->length)
        return false;
    size_t count = line_hashes(one, scratch->lines[0]);
    return count > 1 && count == line_hashes(other, scratch->lines[1]) &&
           memcmp(scratch->lines[0], scratch->lines[1], count * sizeof scratch->lines[0][0]) == 0;
}

static enum difference_class class_of(struct compare_scratch *scratch, const struct part *primary,
                                      const struct part *shadow)
{
    const struct text *one = &primary->text, *other = &shadow->text;
    size_t             both = one->length < other->length ? one->length : other->length;

    if (primary->is_status)
        return DIFFERENCE_STATUS;
    if (one->length != other->length && memcmp(one->bytes, other->bytes, both) == 0)
        return DIFFERENCE_LENGTH;
    return is_another_order(scratch, one, other) ? DIFFERENCE_ORDER : DIFFERENCE_CONTENT;
}

/* All of the text differs: the part is not there. */
static void whole_span(struct spans *spans, const struct text *text)
{
    spans->count = 1;
    spans->is_coarse = false;
    spans->at[0] = (struct span){ 0, (uint32_t)text->length };
}

static void find_spans(struct compare_scratch *scratch, const struct part *primary,
                       const struct part *shadow, struct spans *spans)
{
    if (shadow == NULL)
        whole_span(spans, &primary->text);
    else
        spans_find(scratch->spans, &primary->text, &shadow->text, spans);
}

/* A status is one thing: a digit of it is no span of its own. */
static void widen_status(const struct part *primary, struct spans *spans)
{
    if (primary->is_status && spans->count > 0)
        whole_span(spans, &primary->text);
}

/* A part that the primary has; the others have it or not. */
static void compare_part(struct compare_scratch *scratch, const struct part *primary,
                         const struct answer *candidate, const struct answer *control,
                         struct findings *findings)
{
    const struct part *other = find_part(candidate, primary->name);
    const struct part *twin = find_part(control, primary->name);
    struct span        outside;

    findings->bytes += primary->text.length;
    find_spans(scratch, primary, other, &scratch->candidate);
    scratch->control.count = 0;
    if (control != NULL)
        find_spans(scratch, primary, twin, &scratch->control);
    widen_status(primary, &scratch->candidate);
    widen_status(primary, &scratch->control);
    if (primary->is_masked) {
        findings->is_noisy |= scratch->candidate.count > 0;
        return;
    }
    findings->masked_bytes += spans_bytes(&scratch->control);
    findings->is_noisy |= scratch->candidate.count > 0;
    if (spans_outside(&scratch->candidate, &scratch->control, &outside))
        candidate_differs(findings,
                          other != NULL ? class_of(scratch, primary, other) : DIFFERENCE_CONTENT,
                          primary->name, outside.begin);
    if (spans_outside(&scratch->control, &scratch->candidate, &outside))
        control_differs(findings,
                        twin != NULL ? class_of(scratch, primary, twin) : DIFFERENCE_CONTENT);
}

/* Parts that only the candidate or only the control has, and the primary has not. */
static void compare_further_parts(const struct answer *primary, const struct answer *candidate,
                                  const struct answer *control, struct findings *findings)
{
    for (size_t i = 0; i < candidate->part_count; i++) {
        const struct part *part = &candidate->parts[i];
        if (find_part(primary, part->name) != NULL)
            continue;
        findings->is_noisy = true;
        if (!part->is_masked && find_part(control, part->name) == NULL)
            candidate_differs(findings, DIFFERENCE_CONTENT, part->name, 0);
    }
    for (size_t i = 0; control != NULL && i < control->part_count; i++) {
        const struct part *part = &control->parts[i];
        if (!part->is_masked && find_part(primary, part->name) == NULL &&
            find_part(candidate, part->name) == NULL)
            control_differs(findings, DIFFERENCE_CONTENT);
    }
}

static bool same_block(const struct answer *one, const struct answer *other, size_t i)
{
    bool has_one = i < one->block_count, has_other = i < other->block_count;

    return has_one == has_other && (!has_one || one->blocks[i] == other->blocks[i]);
}

/* Beyond the window: equal stays exact, the place gets coarse. */
static void compare_blocks(const struct answer *primary, const struct answer *candidate,
                           const struct answer *control, struct findings *findings)
{
    size_t count = primary->block_count > candidate->block_count ? primary->block_count
                                                                 : candidate->block_count;

    if (control != NULL && control->block_count > count)
        count = control->block_count;
    for (size_t i = 0; i < count; i++) {
        bool candidate_is_same = same_block(primary, candidate, i);
        bool control_is_same = control == NULL || same_block(primary, control, i);
        if (!candidate_is_same && !control_is_same)
            findings->is_beyond = true;
        else if (!candidate_is_same)
            candidate_differs(findings, DIFFERENCE_CONTENT, "beyond the window", i * BLOCK_BYTES);
        else if (!control_is_same)
            control_differs(findings, DIFFERENCE_CONTENT);
    }
}

static void compare_ends(const struct answer *primary, const struct answer *candidate,
                         const struct answer *control, struct findings *findings)
{
    bool candidate_is_same = candidate->end == primary->end;
    bool control_is_same = control == NULL || control->end == primary->end;

    findings->is_noisy |= !candidate_is_same;
    if (!candidate_is_same && control_is_same)
        candidate_differs(findings, DIFFERENCE_END, "end", primary->length);
    if (candidate_is_same && !control_is_same)
        control_differs(findings, DIFFERENCE_END);
}

static void unfinished(struct comparison *out, enum unfinished_why why)
{
    out->result = EXCHANGE_UNFINISHED;
    out->why = why;
}

/* Somebody has no answer at all.  True: that decides. */
static bool decide_by_presence(const struct answer *primary, const struct answer *candidate,
                               const struct answer *control, struct findings *findings)
{
    struct comparison *out = findings->out;

    if (!primary->is_there && !candidate->is_there)
        unfinished(out, UNFINISHED_NO_ANSWER);
    else if (control != NULL && !control->is_there)
        unfinished(out, UNFINISHED_CONTROL);
    else if (!primary->is_there)
        unfinished(out, UNFINISHED_NO_ANSWER);
    else if (!candidate->is_there) {
        candidate_differs(findings, DIFFERENCE_MISSING, "", 0);
        out->result = EXCHANGE_DIFFERENT;
    } else
        return false;
    return true;
}

void compare_answers(struct compare_scratch *scratch, const struct answer *primary,
                     const struct answer *candidate, const struct answer *control,
                     struct comparison *out)
{
    struct findings findings = { .out = out };

    *out = (struct comparison){ .result = EXCHANGE_EQUAL };
    if (decide_by_presence(primary, candidate, control, &findings))
        return;
    for (size_t i = 0; i < primary->part_count; i++)
        compare_part(scratch, &primary->parts[i], candidate, control, &findings);
    compare_further_parts(primary, candidate, control, &findings);
    compare_blocks(primary, candidate, control, &findings);
    compare_ends(primary, candidate, control, &findings);
    out->is_mostly_masked = 2 * findings.masked_bytes > findings.bytes;
    if (findings.has_difference)
        out->result = EXCHANGE_DIFFERENT;
    else if (findings.is_beyond)
        unfinished(out, UNFINISHED_WINDOW);
    else if (findings.is_noisy)
        out->result = EXCHANGE_MASKED;
}

const char *exchange_result_word(enum exchange_result result)
{
    static const char *const words[EXCHANGE_RESULTS] = {
        "equal", "masked", "ignored", "accepted", "different", "unfinished", "opaque",
    };
    return words[result];
}

const char *difference_class_word(enum difference_class class)
{
    static const char *const words[DIFFERENCE_CLASSES] = {
        "status", "content", "length", "order", "missing", "extra", "end",
    };
    return words[class];
}

const char *unfinished_why_word(enum unfinished_why why)
{
    static const char *const words[UNFINISHED_REASONS] = {
        "lag", "aborted", "window", "desync", "closed_early", "merged",
        "no_answer", "control", "memory", "busy", "admin",
    };
    return words[why];
}
