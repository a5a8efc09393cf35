/*
 * drain.c — one deadline in the shared page, and a timer a little behind it.
 */
#include "process/drain.h"

#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "listen/inherit.h"
#include "process/generation.h"
#include "process/notify.h"
#include "process/succession.h"
#include "shared/page.h"

#define KILL_GRACE_SECONDS 1.0 /* beyond the deadline */
#define ONE_MOMENT_SECONDS 1.0 /* nobody has seen yet what the first signal did */

static const struct config *config_of(const struct drain *drain)
{
    return succession_newest(drain->settings.succession)->config;
}

/* 0: without limit. */
static double timeout_of(const struct drain *drain)
{
    return drain->is_patient ? 0 : config_of(drain)->drain_timeout;
}

static void set_deadline(struct drain *drain)
{
    double timeout = timeout_of(drain);

    ev_timer_stop(drain->settings.loop, &drain->kill);
    atomic_store(&drain->settings.page->drain_deadline, timeout > 0 ? clock_now() + timeout : 0);
    if (timeout <= 0)
        return;
    ev_timer_set(&drain->kill, timeout + KILL_GRACE_SECONDS, 0);
    ev_timer_start(drain->settings.loop, &drain->kill);
}

static void on_kill(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct drain *drain = timer->data;

    (void)loop;
    (void)events;
    log_error("supervisor", "workers_killed", "why=%s", "they did not finish in time");
    succession_kill(drain->settings.succession);
    drain->was_cut = true;
}

static void stop_accepting(struct drain *drain)
{
    set_deadline(drain);
    inherit_close();
    succession_drain(drain->settings.succession);
}

static void on_delay(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    stop_accepting(timer->data);
}

static void say_draining(const struct drain *drain, int number, double delay)
{
    log_info("supervisor", "draining", "signal=%s delay=%.3f timeout=%.3f", sigabbrev_np(number),
             delay, timeout_of(drain));
}

static void begin(struct drain *drain, int number)
{
    double delay = config_of(drain)->drain_delay;

    drain->has_begun = true;
    drain->is_patient = number == SIGQUIT;
    drain->settings.on_begun(drain->settings.owner);
    succession_end(drain->settings.succession);
    say_draining(drain, number, delay);
    notify_stopping("draining");
    if (delay > 0) {
        ev_timer_set(&drain->delay, delay, 0);
        ev_timer_start(drain->settings.loop, &drain->delay);
    } else {
        stop_accepting(drain);
    }
}

/* The time counts from now on, or from the end of the delay. */
static void limit(struct drain *drain, int number)
{
    drain->is_patient = false;
    say_draining(drain, number, 0);
    if (!ev_is_active(&drain->delay))
        set_deadline(drain);
}

static void hurry(struct drain *drain, int number)
{
    log_warning("supervisor", "hurried", "signal=%s", sigabbrev_np(number));
    succession_kill(drain->settings.succession);
    drain->settings.on_hurried(drain->settings.owner);
}

void drain_prepare(struct drain *drain, const struct drain_settings *settings)
{
    *drain = (struct drain){ .settings = *settings };
    ev_timer_init(&drain->delay, on_delay, 0, 0);
    ev_timer_init(&drain->kill, on_kill, 0, 0);
    drain->delay.data = drain->kill.data = drain;
}

/* Notes it when it is not. */
static bool is_the_same_request(struct drain *drain)
{
    double now = clock_now();

    if (drain->asked > 0 && now - drain->asked < ONE_MOMENT_SECONDS)
        return true;
    drain->asked = now;
    return false;
}

void drain_signal(struct drain *drain, int number)
{
    if (number != SIGQUIT && is_the_same_request(drain))
        return;
    if (!drain->has_begun)
        begin(drain, number);
    else if (number != SIGQUIT && drain->is_patient && config_of(drain)->drain_timeout > 0)
        limit(drain, number);
    else if (number != SIGQUIT)
        hurry(drain, number);
}

bool drain_has_begun(const struct drain *drain)
{
    return drain->has_begun;
}

bool drain_was_cut(const struct drain *drain)
{
    return drain->was_cut;
}
