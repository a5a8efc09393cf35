/*
 * resp.h — where requests and answers of the Redis protocol end (RESP2 and RESP3), and what a request
 * is called.
 *
 *     *2 $3 GET $1 a        request, label "GET"        (or an inline command: one line)
 *     $1 x                  its answer
 *     >3 +message ...       a push: belongs to no request
 *
 * Source: https://redis.io/docs/latest/develop/reference/protocol-spec/.  Incremental and strict:
 * what is no RESP is CUT_OPAQUE, and so is what follows a request after which answers no longer come
 * one for one (SUBSCRIBE, MONITOR, SYNC, CLIENT REPLY).  Bounded: no allocation, RESP_DEPTH levels.
 */
#ifndef ANSWERS_RESP_H
#define ANSWERS_RESP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "answers/cut.h"

#define RESP_DEPTH    16
#define RESP_LINE_MAX 65536 /* of an inline command, a status or an error */
#define RESP_WORD     32    /* bytes of the first words that are looked at */

struct resp_cut {
    enum {
        RESP_TYPE, /* a value begins */
        RESP_LINE, /* up to CR LF */
        RESP_BULK, /* left bytes, then CR LF */
        RESP_BULK_END,
        RESP_IS_OPAQUE,
    } state;
    bool               is_answer;
    bool               is_push;  /* answers: what was just cut, or is being read, is one */
    bool               is_error; /* likewise: its first value is an error */
    struct cut_request request;
    bool               ends_pairs; /* the request is the last one that is understood */
    char               type;       /* of the value that is being read */
    bool               after_cr;
    bool               has_digits;
    bool               is_negative;
    uint64_t           number;
    uint64_t           left;
    size_t             line_length;
    unsigned           depth;
    uint64_t           pending[RESP_DEPTH]; /* values that are still to come on each level */
    unsigned           words;      /* of the request that have begun */
    size_t             word_length;
    char               word[2][RESP_WORD];
};

void resp_requests_start(struct resp_cut *);
void resp_answers_start(struct resp_cut *);

/* As http1_cut(): CUT_WHOLE at the end of a request, an answer or a push. */
enum cut resp_cut(struct resp_cut *, const uint8_t *bytes, size_t length, size_t *taken);

#endif
