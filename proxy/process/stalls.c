/*
 * stalls.c — notices when a loop stands still.
 *
 * The look at a turn's end comes after all other watchers', so that the log's flush belongs to the
 * turn: a disk may take its time.
 */
#include "process/stalls.h"

#include <inttypes.h>

#include "base/clock.h"
#include "shared/page.h"

#define STALL_SECONDS     1.0
#define LOG_EVERY_SECONDS 10.0

static void note(struct stalls *stalls, const char *what, double seconds, double now)
{
    uint64_t suppressed;

    if (seconds <= STALL_SECONDS)
        return;
    cell_add(stalls->count, 1);
    if (log_limit_passes(&stalls->limit, now, LOG_EVERY_SECONDS, &suppressed))
        log_warning(stalls->whose, "loop_stalled", "what=%s seconds=%.3f suppressed=%" PRIu64, what,
                    seconds, suppressed);
}

static void on_turn_start(struct ev_loop *loop, ev_check *watcher, int events)
{
    struct stalls *stalls = watcher->data;
    double         now = clock_now();

    (void)loop;
    (void)events;
    note(stalls, "stopped", now - stalls->slept - stalls->longest_sleep, now);
    stalls->woke = now;
}

static void on_turn_end(struct ev_loop *loop, ev_prepare *watcher, int events)
{
    struct stalls *stalls = watcher->data;
    double         now = clock_now();

    (void)loop;
    (void)events;
    note(stalls, "busy", now - stalls->woke, now);
    stalls->slept = now;
}

void stalls_watch(struct stalls *stalls, struct ev_loop *loop, const char *whose,
                  double longest_sleep, _Atomic uint64_t *count)
{
    *stalls = (struct stalls){
        .longest_sleep = longest_sleep,
        .woke = clock_now(),
        .whose = whose,
        .count = count,
    };
    stalls->slept = stalls->woke;
    ev_check_init(&stalls->turn_start, on_turn_start);
    ev_prepare_init(&stalls->turn_end, on_turn_end);
    ev_set_priority(&stalls->turn_start, EV_MAXPRI);
    ev_set_priority(&stalls->turn_end, EV_MINPRI);
    stalls->turn_start.data = stalls->turn_end.data = stalls;
    ev_check_start(loop, &stalls->turn_start);
    ev_prepare_start(loop, &stalls->turn_end);
}
