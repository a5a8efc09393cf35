/*
 * sampler.h — is this session mirrored to this shadow?
 *
 * Decided once per session.  By session the choice is random; by source the same client addresses
 * are always in or always out, in every worker and after every restart.
 */
#ifndef MIRROR_SAMPLER_H
#define MIRROR_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

struct address;
struct shadow_config;

/* random: 64 fresh random bits.  A client without an IP address (unix socket) is sampled by session. */
bool sampler_chooses(const struct shadow_config *, const struct address *client, uint64_t random);

/* A well mixed 64-bit number: the finaliser of SplitMix64 (Steele, Lea, Flood 2014). */
uint64_t mix64(uint64_t);

#endif
