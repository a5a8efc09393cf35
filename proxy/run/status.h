/*
 * status.h — what doppel is doing now, as JSON: the answer to GET /status.
 *
 * It names listeners, workers, primaries and shadows, with the same sums as the metrics page.  No
 * client is named in it.
 */
#ifndef RUN_STATUS_H
#define RUN_STATUS_H

struct admin_view;

/* The text, which the caller frees; NULL when there is no memory. */
char *status_print(const struct admin_view *, double uptime_seconds);

#endif
