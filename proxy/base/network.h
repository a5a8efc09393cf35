/*
 * network.h — networks in CIDR notation, and who is in them.
 *
 *     10.0.0.0/8   2001:db8::/32   10.0.0.9 (a bare address: that one alone)
 */
#ifndef BASE_NETWORK_H
#define BASE_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct address;
struct fault;

struct network {
    int     family;
    int     prefix; /* bits */
    uint8_t bytes[16];
};
#define NETWORK_TEXT 64

/* False: the fault, which may be NULL, says what is wrong and what would be right. */
bool network_parse(struct network *, const char *text, struct fault *);
/* The canonical text, which parses to the same network. */
void network_print(const struct network *, char text[NETWORK_TEXT]);
/* Unix addresses are in no network. */
bool network_contains(const struct network *, const struct address *);
/* Whether one of these networks contains it; none of none. */
bool networks_contain(const struct network *, size_t count, const struct address *);

#endif
