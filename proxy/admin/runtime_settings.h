/*
 * runtime_settings.h — what changes while workers run: pause, sample, all mirroring.
 *
 *     supervisor ──▶ settings in the page, then the epoch ──▶ every worker, at the end of its turn
 *
 * A change reaches new sessions at once.  Sessions that are being mirrored to a shadow that is now
 * paused lose it, with RST and the reason admin (mirror/sessions.h).  Only the supervisor calls.
 */
#ifndef ADMIN_RUNTIME_SETTINGS_H
#define ADMIN_RUNTIME_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

struct page;
struct shadow_config;

/* A configuration knows this row's shadow: what its file says counts, as far as it is not what the
 * file said before; otherwise what somebody has set at runtime stays.  A new --shadow-ramp or
 * --shadow-for counts from now, in CLOCK_MONOTONIC seconds, on; a new --shadow-for, or none, also
 * resumes the shadow if the former one has paused it. */
void runtime_offer(struct page *, size_t row, const struct shadow_config *, double now);
/* Once a second: pauses shadows whose --shadow-for is over. */
void runtime_tick(struct page *, double now);

void runtime_pause(struct page *, size_t row, bool paused);
/* percent: 0 to 100. */
void runtime_set_sample(struct page *, size_t row, double percent);
/* Says so in the log; by is who asked: "USR2", "tcp" or "unix". */
void runtime_set_mirroring(struct page *, bool on, const char *by);

bool   runtime_is_paused(const struct page *, size_t row);
double runtime_sample(const struct page *, size_t row);
bool   runtime_mirroring_is_on(const struct page *);

#endif
