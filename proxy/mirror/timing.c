/*
 * timing.c — one timer for everything that may last too long.
 *
 * It is moved only when it would ring too late; ringing too early costs one look.
 */
#include "timing.h"

#include <math.h>

#include "base/clock.h"
#include "config/config.h"
#include "mirror/legs.h"
#include "mirror/mirror.h"
#include "mirror/session_parts.h"
#include "mirror/shadow.h"
#include "stream/stream.h"

#define LOST_CLIENT_SECONDS 5.0 /* how long a primary may take the rest of a reset client's bytes */

static bool is_half_closed(const struct session *s)
{
    return stream_ending(s->request) != NOT_ENDED || stream_ending(s->response) != NOT_ENDED;
}

static double relaying_deadline(const struct session *s)
{
    const struct config *config = s->mirror->config;
    double limit = is_half_closed(s) ? config->half_close_timeout : config->idle_timeout;
    double               deadline = limit > 0 ? s->moved_at + limit : INFINITY;

    if (s->lost_at > 0 && s->lost_at + LOST_CLIENT_SECONDS < deadline)
        deadline = s->lost_at + LOST_CLIENT_SECONDS;
    return deadline;
}

static double session_deadline(const struct session *s)
{
    double deadline = s->state == SESSION_RELAYING ? relaying_deadline(s) : INFINITY;

    for (size_t i = 0; i < s->shadow_count; i++)
        deadline = fmin(deadline, shadow_deadline(&s->shadows[i]));
    return deadline;
}

static void session_expire(struct session *s, double now)
{
    struct shadow_turn turn = legs_turn(s, now);

    for (size_t i = 0; i < s->shadow_count; i++)
        shadow_expire(&s->shadows[i], &turn);
    if (s->state == SESSION_RELAYING && now >= relaying_deadline(s))
        session_cut(s, is_half_closed(s) ? SESSION_HALF_CLOSE : SESSION_IDLE);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct session *s = timer->data;

    (void)loop;
    (void)events;
    s->armed_for = 0;
    session_catch_up(s, clock_now());
    session_expire(s, clock_now());
    session_advance(s);
}

void timing_begin(struct session *s)
{
    ev_timer_init(&s->timer, on_timer, 0, 0);
    s->timer.data = s;
}

void timing_arm(struct session *s, double now)
{
    double deadline = session_deadline(s);

    if (isinf(deadline) || (s->armed_for > 0 && s->armed_for <= deadline))
        return;
    ev_timer_stop(s->mirror->loop, &s->timer);
    ev_timer_set(&s->timer, fmax(deadline - now, 0), 0);
    ev_timer_start(s->mirror->loop, &s->timer);
    s->armed_for = deadline;
}

void timing_stop(struct session *s)
{
    ev_timer_stop(s->mirror->loop, &s->timer);
}
