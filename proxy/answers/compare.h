/*
 * compare.h — one exchange: the primary's answer, the candidate's and the control's in; result out.
 *
 *     primary    status 200 │ header etag "8f3a" │ body {"price": 17, "id": "x1"}
 *     control    status 200 │ header etag "91bc" │ body {"price": 17, "id": "x2"}     what varies by itself
 *     candidate  status 200 │ header etag "77aa" │ body {"price": 18, "id": "x3"}     different: content, body
 *
 * Answers come as parts, which readers have made (parts.h); an answer that nobody understands is one
 * part.  Parts are compared by name, so their order is no difference.  Where the control differs from
 * the primary, nothing is known about the candidate: that span of this answer is masked.  Only what the
 * candidate does outside the masks counts, and likewise only what the control does outside the spans in
 * which the candidate differs: swapping the two swaps the counts.
 *
 * Pure: no clock, no I/O; memory only in the scratch.
 */
#ifndef ANSWERS_COMPARE_H
#define ANSWERS_COMPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "answers/spans.h"
#include "answers/verdict.h"

enum exchange_result {
    EXCHANGE_EQUAL,
    EXCHANGE_MASKED,    /* differs only where the control does */
    EXCHANGE_IGNORED, /* differs only where a pattern of --shadow-ignore says so, or a built-in one */
    EXCHANGE_ACCEPTED,  /* different, of a kind that somebody has accepted */
    EXCHANGE_DIFFERENT,
    EXCHANGE_UNFINISHED,
    EXCHANGE_OPAQUE,    /* not understood: only size and time */
};
#define EXCHANGE_RESULTS 7

enum difference_class {
    DIFFERENCE_STATUS,  /* another status, or an error instead of none */
    DIFFERENCE_CONTENT,
    DIFFERENCE_LENGTH,  /* one answer is the beginning of the other */
    DIFFERENCE_ORDER,   /* the same lines in another order */
    DIFFERENCE_MISSING, /* the primary answered, the shadow did not */
    DIFFERENCE_EXTRA,   /* the shadow said something where the primary said nothing more */
    DIFFERENCE_END,     /* the connection ended in another way */
};
#define DIFFERENCE_CLASSES 7

enum unfinished_why {
    UNFINISHED_LAG,
    UNFINISHED_ABORTED,
    UNFINISHED_WINDOW, /* they differ beyond the window, and the control does there, too */
    UNFINISHED_DESYNC,
    UNFINISHED_CLOSED_EARLY,
    UNFINISHED_MERGED,
    UNFINISHED_NO_ANSWER, /* the primary did not answer */
    UNFINISHED_CONTROL,   /* the control has no answer to compare with */
    UNFINISHED_MEMORY,
    UNFINISHED_BUSY,
    UNFINISHED_ADMIN,
};
#define UNFINISHED_REASONS 11

enum answer_end {
    ANSWER_WHOLE,  /* and the connection goes on */
    ANSWER_CLOSED, /* the server ended its side behind these bytes */
    ANSWER_RESET,
};

#define PARTS_MAX 128

struct part {
    const char *name;      /* "status", "header etag", "body"; "": the answer is one part */
    bool        is_status;
    bool        is_masked; /* noise by its nature, as Date is */
    struct text text;
};

/* Bytes beyond the window are known by the hashes of their blocks alone. */
#define BLOCK_BYTES 4096

struct answer {
    bool            is_there; /* false: the server said nothing */
    enum answer_end end;
    uint64_t        length;   /* of all of it */
    size_t          part_count;
    struct part     parts[PARTS_MAX];
    const uint64_t *blocks;   /* hashes, beginning at the end of the window */
    size_t          block_count;
};

struct comparison {
    enum exchange_result  result;
    enum difference_class class; /* different, accepted */
    enum unfinished_why   why;   /* unfinished */
    const char *part; /* different: where; lives as long as the primary's or candidate's answer */
    uint64_t              at;    /* different: offset in the primary's part */
    bool                  is_mostly_masked; /* more than half of the answer */
    bool only_candidate[EVIDENCE_CLASSES];
    bool only_control[EVIDENCE_CLASSES];
};

struct compare_scratch;
struct compare_scratch *compare_scratch_new(void); /* NULL: no memory */
void                    compare_scratch_free(struct compare_scratch *); /* NULL is fine */

/* control: NULL: there is none. */
void compare_answers(struct compare_scratch *, const struct answer *primary,
                     const struct answer *candidate, const struct answer *control,
                     struct comparison *);

const char *exchange_result_word(enum exchange_result);
const char *difference_class_word(enum difference_class);
const char *unfinished_why_word(enum unfinished_why);

#endif
