/*
 * host.h — one spelling for each host.
 *
 *     "Prod.Internal."   ──▶ "Prod.Internal"      the final dot is DNS's way to write a name
 *     "::FFFF:10.0.0.9"  ──▶ "10.0.0.9"           inet_ntop(3)'s way to write an address
 *
 * SNI and certificates know no final dot (RFC 6066, 3); it matters to the search list alone, and
 * struct endpoint says that it was there.  So nobody else behind host_parse() ever sees one.
 */
#ifndef BASE_HOST_H
#define BASE_HOST_H

#include <stdbool.h>
#include <stddef.h>

struct fault;

#define HOST_TEXT 256 /* the longest name (RFC 1035), and the final zero */

/* Reads a name or a numeric address.  False: it is neither; the fault says what would be right. */
bool host_parse(char host[HOST_TEXT], const char *text, struct fault *);
/* How long the name is without its final dot. */
size_t host_length(const char *name);
/* The same name: letters of both cases are the same (RFC 4343), and the final dot does not count. */
bool host_equal(const char *a, const char *b);

#endif
