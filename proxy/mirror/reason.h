/*
 * reason.h — what a leg's failure is called in logs and metrics.
 *
 * FAILURE_NONE with a failed call means that memory was missing: nothing else fails without the
 * socket.
 */
#ifndef MIRROR_REASON_H
#define MIRROR_REASON_H

#include <stdbool.h>

#include "shared/stats.h"
#include "socket/socket.h"

enum session_reason reason_of_client(enum failure);
enum session_reason reason_of_primary(enum failure);
enum shadow_reason  reason_of_shadow(enum failure);
/* Neither the shadow's fault nor that of our limits. */
bool reason_is_from_outside(enum shadow_reason);

#endif
