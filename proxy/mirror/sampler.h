/*
 * sampler.h — is this session mirrored to this shadow?
 *
 * By session the bits are random; by source they are the client's, so that the same clients are always
 * in or always out, in every worker and after every restart.  A larger share only adds clients.
 */
#ifndef MIRROR_SAMPLER_H
#define MIRROR_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

struct address;

/* Whether this client can be told from others: one of a unix socket cannot. */
bool sampler_knows(const struct address *client);
/* A seed from a name. */
uint64_t sampler_seed(const char *name);
/* The bits of a client's IP address: others with another seed, always the same with the same. */
uint64_t sampler_bits(uint64_t seed, const struct address *client);
/* Whether bits, drawn evenly from all 64-bit numbers, are in this share: 0 to 100 percent. */
bool sampler_takes(double percent, uint64_t bits);

/* A well mixed 64-bit number: the finaliser of SplitMix64 (Steele, Lea, Flood 2014). */
uint64_t mix64(uint64_t);

#endif
