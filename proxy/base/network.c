/*
 * network.c — an address whose last bits are anybody's.
 *
 *     10.0.0.0/8    00001010 │ 00000000 00000000 00000000
 *                   prefix   │ must be zero in the text, and may be anything in a member
 */
#include "base/network.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/fault.h"

#define QUOTED "\"%.120s\"" /* enough to recognise what was typed */

static int bits_of(int family) { return family == AF_INET ? 32 : 128; }

/* The address's bytes in network order, and how many. */
static size_t host_bytes(const struct address *address, const uint8_t **bytes)
{
    if (address->any.sa_family == AF_INET) {
        *bytes = (const uint8_t *)&address->v4.sin_addr;
        return sizeof address->v4.sin_addr;
    }
    *bytes = address->v6.sin6_addr.s6_addr;
    return sizeof address->v6.sin6_addr;
}

/* True: the bits from here on are zero; they are made zero. */
static bool clear_host_bits(struct network *network)
{
    bool were_zero = true;

    for (int bit = network->prefix; bit < bits_of(network->family); bit++) {
        uint8_t mask = (uint8_t)(0x80 >> bit % 8);
        if (network->bytes[bit / 8] & mask)
            were_zero = false;
        network->bytes[bit / 8] &= (uint8_t)~mask;
    }
    return were_zero;
}

static bool parse_prefix(int *prefix, const char *digits, int max)
{
    size_t length = strlen(digits);

    if (length == 0 || length > 3 || strspn(digits, "0123456789") != length)
        return false;
    *prefix = atoi(digits);
    return *prefix <= max;
}

bool network_parse(struct network *network, const char *text, struct fault *fault)
{
    char host[INET6_ADDRSTRLEN] = "";
    char corrected[NETWORK_TEXT];
    const uint8_t *bytes;
    struct address address;
    size_t length = strcspn(text, "/");

    if (length < sizeof host)
        memcpy(host, text, length);
    if (strchr(host, '%') != NULL || !address_parse(&address, host, 0))
        return fault_set(
            fault, QUOTED " is not a network; write one as in 10.0.0.0/8 or 2001:db8::/32", text);
    *network = (struct network){ .family = address.any.sa_family };
    network->prefix = bits_of(network->family);
    size_t size = host_bytes(&address, &bytes);
    memcpy(network->bytes, bytes, size);
    if (text[length] == '/' && !parse_prefix(&network->prefix, text + length + 1, network->prefix))
        return fault_set(fault, QUOTED " has no usable prefix; write /0 to /%d", text,
                         bits_of(network->family));
    if (!clear_host_bits(network)) {
        network_print(network, corrected);
        return fault_set(fault, QUOTED " has bits behind its prefix; write %s", text, corrected);
    }
    return true;
}

void network_print(const struct network *network, char text[NETWORK_TEXT])
{
    inet_ntop(network->family, network->bytes, text, NETWORK_TEXT);
    size_t length = strlen(text);
    if (network->prefix < bits_of(network->family))
        snprintf(text + length, NETWORK_TEXT - length, "/%d", network->prefix);
}

bool network_contains(const struct network *network, const struct address *address)
{
    const uint8_t *bytes;

    if (address->length == 0 || address->any.sa_family != network->family)
        return false;
    host_bytes(address, &bytes);
    int whole = network->prefix / 8;
    if (memcmp(bytes, network->bytes, (size_t)whole) != 0)
        return false;
    unsigned mask = 0xffu << (8 - network->prefix % 8) & 0xffu;
    return network->prefix % 8 == 0 || (bytes[whole] & mask) == network->bytes[whole];
}

bool networks_contain(const struct network *networks, size_t count, const struct address *address)
{
    for (size_t i = 0; i < count; i++) {
        if (network_contains(&networks[i], address))
            return true;
    }
    return false;
}
