/*
 * watch.c — an ev_io and the timer that starts it again.
 *
 * epoll_ctl(2) fails with ENOMEM, and with ENOSPC at fs.epoll.max_user_watches.  libev then stops the
 * watcher and feeds EV_ERROR together with all other events, once.  It does so just before it waits, so
 * the callback comes after the wait: within a second, because each loop has a tick.
 */
#include "socket/watch.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"

#define RETRY_SECONDS     0.1
#define LOG_EVERY_SECONDS 1.0

static void say_refused(const struct watch *w)
{
    static struct log_limit limit;
    uint64_t                suppressed;

    if (log_limit_passes(&limit, clock_now(), LOG_EVERY_SECONDS, &suppressed))
        log_error(
            "loop", "not_watched", "what=%s why=%s retry_seconds=%.3f suppressed=%" PRIu64, w->what,
            "epoll_ctl failed: no memory in the kernel, or fs.epoll.max_user_watches is reached",
            RETRY_SECONDS, suppressed);
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
    struct watch *w = io->data;

    if (!(events & EV_ERROR)) {
        w->on_ready(w->owner, events);
        return;
    }
    ev_timer_set(&w->again, RETRY_SECONDS, 0);
    ev_timer_start(loop, &w->again);
    say_refused(w);
}

static void on_again(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct watch *w = timer->data;

    (void)events;
    ev_io_start(loop, &w->io);
}

void watch_init(struct watch *w, struct ev_loop *loop, int fd, watch_ready *on_ready, void *owner,
                const char *what)
{
    *w = (struct watch){ .loop = loop, .on_ready = on_ready, .owner = owner, .what = what };
    ev_io_init(&w->io, on_io, fd, 0);
    ev_timer_init(&w->again, on_again, RETRY_SECONDS, 0);
    w->io.data = w->again.data = w;
}

void watch_start(struct watch *w, int events)
{
    bool was_refused = ev_is_pending(&w->io) || ev_is_active(&w->again);

    if (!ev_is_active(&w->io) && !was_refused)
        watch_change(w, w->io.fd, events);
}

void watch_change(struct watch *w, int fd, int events)
{
    watch_stop(w);
    ev_io_set(&w->io, fd, events);
    ev_io_start(w->loop, &w->io);
}

void watch_stop(struct watch *w)
{
    ev_io_stop(w->loop, &w->io);
    ev_timer_stop(w->loop, &w->again);
}
