/*
 * request_head.h — whether a request to the admin endpoint says one thing only.
 *
 *     POST /drain?x=1 HTTP/1.1\r\n        1 + 1 + 2 bytes beside method, target and version
 *     Host: localhost\r\n                 2 + 2 beside name and value
 *     \r\n                                2
 *
 * libmicrohttpd takes more than RFC 9112 allows: it answers the first of several Host headers, joins
 * folded lines, keeps "Transfer-Encoding " as some other header, and ends a text at a NUL.  A proxy in
 * front may read the same bytes in another way.  So a request is refused when a header that may come
 * once comes twice, when a name or value holds what it cannot, and when the head is larger than all
 * that was read from it: then something has been dropped.
 */
#ifndef ADMIN_REQUEST_HEAD_H
#define ADMIN_REQUEST_HEAD_H

#include <stddef.h>

struct MHD_Connection;

/* The words of the request line, as the library read them. */
struct request_line {
    const char *method;
    const char *path;
    size_t      target_bytes; /* the path and the query, as they came, up to a NUL */
    const char *version;
};

/* NULL: it is unambiguous; else a sentence that says what is wrong. */
const char *request_head_refuses(struct MHD_Connection *, const struct request_line *);

#endif
