/*
 * listener.c — accept4(2) in batches, with a pause instead of a spin.
 *
 *     readable ──▶ accept ... EAGAIN          the usual case
 *                    │ limit reached, EMFILE, ENOMEM
 *                    ▼
 *                  paused ──a client left, or the retry timer──▶ listening again
 */
#include "listener.h"

#include <errno.h>
#include <ev.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/page.h"
#include "config/config.h"
#include "mirror/mirror.h"
#include "mirror/session.h"

#define ACCEPTS_PER_WAKE   64   /* then other sessions get their turn */
#define DRAIN_ACCEPTS      65536 /* as long as a backlog can be */
#define LIMIT_RETRY        0.02 /* seconds; a client of another worker may have left */
#define EXHAUSTED_RETRY    0.1
#define EXHAUSTED_LOG_EVERY 1.0

struct listener {
    struct listeners           *all;
    const struct listen_config *config;
    ev_io                       io; /* its fd is -1 once closed */
};

struct listeners {
    struct mirror   *mirror;
    size_t           max_sessions;
    ev_timer         retry;
    bool             is_paused;
    bool             is_exhausted; /* paused for lack of descriptors or memory, not for the limit */
    struct log_limit exhausted;
    size_t           count;
    struct listener  listeners[];
};

static void pause_accepting(struct listeners *all, double retry_seconds)
{
    struct ev_loop *loop = all->mirror->loop;

    for (size_t i = 0; i < all->count; i++)
        ev_io_stop(loop, &all->listeners[i].io);
    ev_timer_stop(loop, &all->retry);
    ev_timer_set(&all->retry, retry_seconds, 0);
    ev_timer_start(loop, &all->retry);
    if (!all->is_paused)
        cell_add(&all->mirror->slot->counts[COUNT_ACCEPT_PAUSED], 1);
    all->is_paused = true;
}

static bool is_at_limit(const struct listeners *all)
{
    return atomic_load_explicit(&all->mirror->page->clients_open, memory_order_relaxed) >=
           all->max_sessions;
}

static void resume_accepting(struct listeners *all)
{
    if (is_at_limit(all)) {
        pause_accepting(all, LIMIT_RETRY);
        return;
    }
    ev_timer_stop(all->mirror->loop, &all->retry);
    for (size_t i = 0; i < all->count; i++) {
        if (all->listeners[i].io.fd >= 0)
            ev_io_start(all->mirror->loop, &all->listeners[i].io);
    }
    if (all->is_paused)
        cell_add(&all->mirror->slot->counts[COUNT_ACCEPT_PAUSED], (uint64_t)-1);
    all->is_paused = all->is_exhausted = false;
}

static void on_retry(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    resume_accepting(timer->data);
}

void listeners_resume(void *owner)
{
    struct listeners *all = owner;

    if (all->is_paused && !all->is_exhausted)
        resume_accepting(all);
}

static enum counter counter_of(int error)
{
    if (error == EMFILE || error == ENFILE)
        return COUNT_ACCEPT_NO_DESCRIPTOR;
    return error == ENOMEM || error == ENOBUFS ? COUNT_ACCEPT_NO_MEMORY : COUNT_ACCEPT_OTHER;
}

/* True: there may be more to accept.  accept(2) passes on errors of connections that are already
 * gone; those are not ours. */
static bool accept_failed(struct listener *listener, int error)
{
    struct listeners *all = listener->all;
    uint64_t          suppressed;

    if (error == EAGAIN)
        return false;
    cell_add(&all->mirror->slot->counts[counter_of(error)], 1);
    if (counter_of(error) == COUNT_ACCEPT_OTHER)
        return true;
    if (log_limit_passes(&all->exhausted, clock_now(), EXHAUSTED_LOG_EVERY, &suppressed))
        log_error("listener", "accept_failed", "listener=%s why=%s suppressed=%" PRIu64,
                  listener->config->name, strerrordesc_np(error), suppressed);
    all->is_exhausted = true;
    pause_accepting(all, EXHAUSTED_RETRY);
    return false;
}

/* False: nothing more to accept now. */
static bool accept_one(struct listener *listener)
{
    struct sockaddr_storage storage;
    struct address          client;
    socklen_t               length = sizeof storage;
    int socket = accept4(listener->io.fd, (struct sockaddr *)&storage, &length,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (socket < 0)
        return accept_failed(listener, errno);
    address_set(&client, (struct sockaddr *)&storage, length);
    session_open(listener->all->mirror, socket, &client, listener->config);
    return true;
}

static void on_connection(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct listener *listener = watcher->data;

    (void)loop;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_WAKE; i++) {
        if (is_at_limit(listener->all)) {
            pause_accepting(listener->all, LIMIT_RETRY);
            return;
        }
        if (!accept_one(listener))
            return;
    }
}

struct listeners *listeners_new(struct mirror *mirror, const int *sockets, size_t count,
                                size_t max_sessions)
{
    struct listeners *all = xcalloc(1, sizeof *all + count * sizeof all->listeners[0]);

    all->mirror = mirror;
    all->max_sessions = max_sessions;
    all->count = count;
    ev_timer_init(&all->retry, on_retry, 0, 0);
    all->retry.data = all;
    for (size_t i = 0; i < count; i++) {
        struct listener *listener = &all->listeners[i];

        listener->all = all;
        listener->config = &mirror->config->listens[i];
        ev_io_init(&listener->io, on_connection, sockets[i], EV_READ);
        listener->io.data = listener;
        ev_io_start(mirror->loop, &listener->io);
    }
    return all;
}

void listeners_close(struct listeners *all)
{
    for (size_t i = 0; i < all->count; i++) {
        struct listener *listener = &all->listeners[i];

        if (listener->io.fd < 0)
            continue;
        for (int n = 0; n < DRAIN_ACCEPTS && !is_at_limit(all) && accept_one(listener); n++)
            continue;
        ev_io_stop(all->mirror->loop, &listener->io);
        close(listener->io.fd);
        listener->io.fd = -1;
    }
    ev_timer_stop(all->mirror->loop, &all->retry);
}

void listeners_free(struct listeners *all)
{
    if (all == NULL)
        return;
    listeners_close(all);
    free(all);
}
