/*
 * status.h — what doppel is doing now, as JSON: the answer to GET /status.
 *
 * It names the configuration in effect, listeners, workers, primaries and shadows, with the same sums
 * as the metrics page.  No client and no secret is named in it.  Its fields are a contract:
 * ../docs/admin.md describes each, and a test compares.
 */
#ifndef ADMIN_STATUS_H
#define ADMIN_STATUS_H

#include <stddef.h>

struct admin_view;

/* Each answers a text, which the caller frees; NULL when there is no memory. */
char *status_print(const struct admin_view *, const char *configuration, double uptime_seconds);
/* The part of it that is about this shadow of the configuration. */
char *status_print_shadow(const struct admin_view *, size_t shadow);

#endif
