/*
 * choice.h — which sessions a shadow gets.
 *
 *     client's address is known ──▶ choice_of_session() ──▶ bytes are kept for the shadow
 *     primary open, first byte  ──▶ choice_of_dial()    ──▶ it is dialled
 *
 * The answer is the session's result for this shadow when it gets nothing, and RESULT_MIRRORED when
 * it is to go on.  All of it is decided here, from the configuration and the live knobs.
 */
#ifndef MIRROR_CHOICE_H
#define MIRROR_CHOICE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/stats.h"

struct address;
struct mirror;

/* Before the client's first byte.  shadow: its index in the configuration. */
enum shadow_result choice_of_session(struct mirror *, size_t shadow, const struct address *client);
/* Just before the shadow is dialled. */
enum shadow_result choice_of_dial(const struct mirror *, size_t shadow);
/* Whether a live knob keeps everything from this shadow now. */
bool choice_is_paused(const struct mirror *, size_t shadow);

#endif
