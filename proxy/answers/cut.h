/*
 * cut.h — what readers of protocols say: where a message ends, and what a request is called.
 */
#ifndef ANSWERS_CUT_H
#define ANSWERS_CUT_H

#include <stdbool.h>

enum cut {
    CUT_MORE,   /* the message goes on behind these bytes */
    CUT_WHOLE,  /* it ends with the last byte that was taken */
    CUT_OPAQUE, /* not understood: from here on only sizes and times are compared */
};

#define CUT_LABEL 65 /* with the NUL: a label is cut at 64 bytes */

/* What the reader of answers must know of the request. */
struct cut_request {
    char label[CUT_LABEL]; /* "GET /cart": no query, digits become #, no control characters */
    bool is_head;          /* its answer has no body, whatever the head says */
    bool is_connect;
    bool asks_upgrade;
};

#endif
