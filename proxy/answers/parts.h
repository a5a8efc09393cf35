/*
 * parts.h — an answer, taken apart by the rules of its protocol, so that only what counts is compared.
 *
 *     HTTP/1.1 200 OK              status          "200"
 *     Date: ...                    header date     masked: noise by its nature
 *     Content-Length: 5            (not a part: the body's own length says it)
 *     Transfer-Encoding: chunked   (not a part: the body is put together)
 *     X-Shop: a                    header x-shop   "a"
 *
 *     hello                        body            "hello", decoded when it was compressed
 *
 * The parts borrow from the answer's bytes and from the scratch, until the next call with that scratch.
 * Bounded: PARTS_MAX parts, decoded bodies of at most PARTS_DECODED_MAX bytes.
 */
#ifndef ANSWERS_PARTS_H
#define ANSWERS_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "answers/compare.h"

#define PARTS_DECODED_MAX                                                                          \
    (1024 * 1024) /* of a compressed body; larger ones are compared as they are */

struct parts_scratch;
struct parts_scratch *parts_scratch_new(void); /* NULL: no memory */
void                  parts_scratch_free(struct parts_scratch *); /* NULL is fine */

/* One part, the bytes themselves. */
void parts_of_bytes(struct answer *, const struct text *);
/* Of a whole HTTP/1 answer that http1_cut() has cut, interim answers included.  Where it has more parts
 * than PARTS_MAX, or cannot be taken apart, it is one part. */
void parts_of_http1(struct parts_scratch *, struct answer *, const struct text *);
/* Of a RESP answer: its first line says whether it is an error. */
void parts_of_resp(struct answer *, const struct text *);

#endif
