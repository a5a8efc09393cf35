/*
 * http1.h — where HTTP/1 messages begin and end (RFC 9112), and what a request is called.
 *
 *     bytes of the client  ──http1_cut──▶ request │ request │ ...     label "GET /cart"
 *     bytes of a server    ──http1_cut──▶ answer  │ answer  │ ...     each knows its request
 *
 * Incremental: takes bytes as they come, cut anywhere, and never changes one.  Strict: whatever two
 * programs might read in two ways (a bare LF, folded lines, blanks before a colon, two lengths, a
 * length beside chunks) is CUT_OPAQUE, and so is what follows an upgrade or CONNECT.  A reader that has
 * said so is not asked again.  Bounded: memory for one line of a head, work in proportion to the bytes.
 */
#ifndef ANSWERS_HTTP1_H
#define ANSWERS_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "answers/cut.h"

#define HTTP1_LINE_MAX 16384  /* bytes of one line */
#define HTTP1_HEAD_MAX 131072 /* of a request's or answer's head, and of trailers */

struct http1_cut {
    enum {
        HTTP1_START, /* the request line or the status line */
        HTTP1_FIELDS,
        HTTP1_BODY,  /* left bytes of it */
        HTTP1_CHUNK_SIZE,
        HTTP1_CHUNK, /* left bytes of it, then CR LF */
        HTTP1_CHUNK_END,
        HTTP1_TRAILERS,
        HTTP1_UNTIL_END, /* of the connection */
        HTTP1_OPAQUE,
    } state;
    bool               is_answer;
    struct cut_request request;    /* being read; or the one that is answered */
    unsigned           status;     /* of the answer being read; 0: not known yet */
    bool               has_length;
    bool               is_chunked;
    bool               is_upgrade; /* the request asks for one */
    uint64_t           left;
    size_t             head_bytes;
    char              *line;        /* being read; NULL between heads */
    size_t             line_length;
    size_t             line_room;
};

/* Begins with a struct that is zeroed, or was used before. */
void http1_requests_start(struct http1_cut *);
/* Likewise; the next answer is for this request. */
void http1_answer_start(struct http1_cut *, const struct cut_request *);

/* Takes bytes up to the end of the message; *taken of them.  CUT_WHOLE: the message ends there; a
 * request is in cut->request then, and the next one begins with the next call.  An answer that is whole
 * wants http1_answer_start() first.  One without a length goes on until the connection ends
 * (HTTP1_UNTIL_END). */
enum cut http1_cut(struct http1_cut *, const uint8_t *bytes, size_t length, size_t *taken);
/* Gives its memory back; a zeroed one has none. */
void http1_free(struct http1_cut *);

#endif
