/*
 * sampler.c — a session's bits against a share of 2^64.
 */
#include "sampler.h"

#include <math.h>
#include <string.h>

#include "base/address.h"

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

bool sampler_knows(const struct address *client)
{
    return client->any.sa_family == AF_INET || client->any.sa_family == AF_INET6;
}

uint64_t sampler_seed(const char *name)
{
    return mix_bytes(0, name, strlen(name));
}

uint64_t sampler_bits(uint64_t seed, const struct address *client)
{
    if (client->any.sa_family == AF_INET)
        return mix_bytes(seed, &client->v4.sin_addr, sizeof client->v4.sin_addr);
    return mix_bytes(seed, &client->v6.sin6_addr, sizeof client->v6.sin6_addr);
}

bool sampler_takes(double percent, uint64_t bits)
{
    return (double)(bits >> 11) < ldexp(percent / 100, 53);
}
