/*
 * policy.h — which sessions a shadow gets.
 *
 *     client's address is known ──▶ policy_for_session() ──▶ bytes are kept for the shadow
 *     primary open, first byte  ──▶ policy_for_dial()    ──▶ it is dialled
 *     it was reached, or not    ──▶ policy_reached(), policy_failed()
 *
 * The answer is the session's result for this shadow when it gets nothing, and RESULT_MIRRORED when
 * it is to go on.  All of it is decided here, from the configuration and the runtime settings.
 */
#ifndef MIRROR_POLICY_H
#define MIRROR_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/stats.h"

struct address;
struct mirror;

/* Before the client's first byte.  shadow: its index in the configuration; now: CLOCK_MONOTONIC
 * seconds. */
enum shadow_result policy_for_session(struct mirror *, size_t shadow, const struct address *client,
                                      double now);
/* Just before the shadow is dialled.  *probe: what to give the next two.  RESULT_MIRRORED: it has one
 * of --shadow-max-sessions until policy_ended(). */
enum shadow_result policy_for_dial(struct mirror *, size_t shadow, double now, uint64_t *probe);
void policy_ended(struct mirror *, size_t shadow);

/* What became of a dialled shadow, said once: it took its first byte, or had none to take; or it was
 * cut off before that, for this reason. */
void policy_reached(struct mirror *, size_t shadow, uint64_t probe);
void policy_failed(struct mirror *, size_t shadow, uint64_t probe, enum shadow_reason, double now);

/* Whether a runtime setting keeps everything from this shadow now. */
bool policy_is_paused(const struct mirror *, size_t shadow);

#endif
