/*
 * sampler.c — a session's bits against a share of 2^64.
 */
#include "sampler.h"

#include <math.h>
#include <string.h>

#include "base/address.h"
#include "config/config.h"

uint64_t mix64(uint64_t bits)
{
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9U;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebU;
    return bits ^ (bits >> 31);
}

static uint64_t mix_bytes(uint64_t bits, const void *bytes, size_t length)
{
    const uint8_t *byte = bytes;

    for (size_t i = 0; i < length; i++)
        bits = mix64(bits + 0x9e3779b97f4a7c15U + byte[i]);
    return bits;
}

/* The same client chooses differently for shadows of other names. */
static uint64_t bits_of_source(const char *shadow, const struct address *client)
{
    uint64_t bits = mix_bytes(0, shadow, strlen(shadow));

    if (client->any.sa_family == AF_INET)
        return mix_bytes(bits, &client->v4.sin_addr, sizeof client->v4.sin_addr);
    return mix_bytes(bits, &client->v6.sin6_addr, sizeof client->v6.sin6_addr);
}

bool sampler_chooses(const struct shadow_config *shadow, const struct address *client,
                     uint64_t random)
{
    bool has_ip = client->any.sa_family == AF_INET || client->any.sa_family == AF_INET6;

    if (shadow->sample >= 100)
        return true;
    if (shadow->sample <= 0)
        return false;
    if (shadow->sample_by == SAMPLE_BY_SOURCE && has_ip)
        random = bits_of_source(shadow->name, client);
    return (double)(random >> 11) < ldexp(shadow->sample / 100, 53);
}
