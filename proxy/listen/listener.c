/*
 * listener.c — accept4(2) in batches, with a pause instead of a spin.
 *
 *     readable ──▶ accept one                 the usual case; more, while they keep coming
 *                    │ limit reached, EMFILE, ENOMEM
 *                    ▼
 *                  paused ──a client left, or the retry timer──▶ listening again
 *
 * Draining goes the same way, except that EAGAIN closes the socket.
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
#include "config/config.h"
#include "mirror/admission.h"
#include "mirror/mirror.h"
#include "mirror/session.h"
#include "shared/page.h"
#include "socket/watch.h"
#include "transport/handshake.h"

#define ACCEPTS_PER_WAKE   64   /* then other sessions get their turn */
#define LIMIT_RETRY        0.02 /* seconds; a client of another worker may have left */
#define EXHAUSTED_RETRY    0.1
#define FAILURES_MAX      64   /* in a row; more are no longer about single connections */
#define EXHAUSTED_LOG_EVERY 1.0

struct listener {
    struct listeners           *all;
    const struct listen_config *config;
    size_t                      place;
    struct watch                watch; /* its fd is -1 once closed */
    bool                        is_left; /* nobody will take its queue after us */
    bool                        is_empty; /* nobody waited there, once, while draining */
    unsigned                    failures; /* to accept, in a row */
    unsigned                    batch;  /* how many the latest wake-up was to accept */
    unsigned                    latest; /* the loop's iteration then */
};

struct listeners {
    struct listeners_settings settings;
    struct mirror            *mirror;
    ev_timer                  retry;
    bool                      is_draining;
    bool                      keeps_empty; /* until listeners_leave() */
    bool                      is_paused;
    bool                      is_exhausted; /* paused for lack of something, not for the limit */
    struct log_limit          exhausted;
    size_t                    count;
    struct listener           listeners[];
};

static bool is_at_own_limit(const struct listeners *all)
{
    return cell_get(&all->mirror->slot->counts[COUNT_CLIENTS_OPEN]) >=
           all->settings.max_own_sessions;
}

/* By the supervisor: our own place, and those without a worker that are left to us. */
static bool is_assigned(const struct listener *listener)
{
    const struct listeners *all = listener->all;

    return atomic_load(&all->settings.roster->watchers[listener->place]) == all->settings.place;
}

/* The next worker that has room stands in for one that is full. */
static bool is_ours(const struct listener *listener)
{
    const struct listeners *all = listener->all;
    const struct roster    *roster = all->settings.roster;
    size_t                  workers = all->mirror->config->workers;
    size_t                  watcher = atomic_load(&roster->watchers[listener->place]);

    for (size_t i = 0; i < workers; i++) {
        size_t candidate = (watcher + i) % workers;

        if (!atomic_load(&roster->is_full[candidate]))
            return candidate == all->settings.place;
    }
    return watcher == all->settings.place;
}

/* What is watched follows from the roster, and from whether we may accept. */
static void rearm(struct listener *listener)
{
    if (listener->watch.io.fd < 0)
        return;
    if (is_ours(listener) && !listener->all->is_paused)
        watch_start(&listener->watch, EV_READ);
    else
        watch_stop(&listener->watch);
}

void listeners_watch(struct listeners *all)
{
    atomic_store(&all->settings.roster->is_full[all->settings.place], is_at_own_limit(all));
    for (size_t i = 0; i < all->count && !all->is_draining; i++)
        rearm(&all->listeners[i]);
}

static void pause_accepting(struct listeners *all, double retry_seconds)
{
    struct ev_loop *loop = all->mirror->loop;

    if (!all->is_paused)
        cell_add(&all->mirror->slot->counts[COUNT_ACCEPT_PAUSED], 1);
    all->is_paused = true;
    for (size_t i = 0; i < all->count; i++)
        rearm(&all->listeners[i]);
    ev_timer_stop(loop, &all->retry);
    ev_timer_set(&all->retry, retry_seconds, 0);
    ev_timer_start(loop, &all->retry);
}

void listeners_back_off(void *owner)
{
    struct listeners *all = owner;

    all->is_exhausted = true;
    pause_accepting(all, EXHAUSTED_RETRY);
}

/* One of --max-sessions, over all workers; the session gives it back when its client has left. */
static bool take_free_place(struct listeners *all)
{
    return !is_at_own_limit(all) && admission_take_place(all->mirror, all->settings.max_sessions);
}

/* Whoever waits for a handshake with many others of its address does not keep everybody out. */
static bool take_place(struct listeners *all)
{
    if (take_free_place(all) || (handshakes_shed(all->mirror->handshakes) && take_free_place(all)))
        return true;
    if (is_at_own_limit(all))
        atomic_store(&all->settings.roster->is_full[all->settings.place], true);
    return false;
}

static bool is_at_limit(const struct listeners *all)
{
    return is_at_own_limit(all) ||
           atomic_load_explicit(&all->mirror->page->clients_open, memory_order_relaxed) >=
               all->settings.max_sessions;
}

static void take_queue(struct listener *listener);

static void unpause(struct listeners *all)
{
    ev_timer_stop(all->mirror->loop, &all->retry);
    if (all->is_paused)
        cell_add(&all->mirror->slot->counts[COUNT_ACCEPT_PAUSED], (uint64_t)-1);
    all->is_paused = all->is_exhausted = false;
}

static void resume_accepting(struct listeners *all)
{
    if (is_at_limit(all)) {
        pause_accepting(all, LIMIT_RETRY);
        return;
    }
    unpause(all);
    atomic_store(&all->settings.roster->is_full[all->settings.place], false);
    for (size_t i = 0; i < all->count; i++) {
        if (all->is_draining)
            take_queue(&all->listeners[i]);
        else
            rearm(&all->listeners[i]);
    }
}

static void on_retry(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct listeners *all = timer->data;

    (void)loop;
    (void)events;
    if (is_at_limit(all))
        handshakes_shed(all->mirror->handshakes); /* and listeners_resume() may have followed */
    if (all->is_paused)
        resume_accepting(all);
}

void listeners_make_room(struct listeners *all)
{
    struct mirror *mirror = all->mirror;
    uint64_t       waiting = page_sum(mirror->page, COUNT_ACCEPT_PAUSED);

    for (int n = 0; n < ACCEPTS_PER_WAKE && waiting > 0 && is_at_limit(all); n++) {
        if (!handshakes_shed(mirror->handshakes))
            return;
    }
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
    return error_is_shortage(error) ? COUNT_ACCEPT_NO_MEMORY : COUNT_ACCEPT_OTHER;
}

/* True: there may be more to accept.  accept(2) passes on errors of connections that are already
 * gone, and which those are depends on protocols; they are not ours, unless they do not end. */
static bool accept_failed(struct listener *listener, int error)
{
    struct listeners *all = listener->all;
    uint64_t          suppressed;

    if (error == EAGAIN || error == EINVAL) /* EINVAL: of a generation that was never opened */
        return false;
    if (error == EINTR)
        return true;
    cell_add(&all->mirror->slot->counts[counter_of(error)], 1);
    if (counter_of(error) == COUNT_ACCEPT_OTHER && ++listener->failures < FAILURES_MAX)
        return true;
    if (log_limit_passes(&all->exhausted, clock_now(), EXHAUSTED_LOG_EVERY, &suppressed))
        log_error("listener", "accept_failed", "listener=%s why=%s suppressed=%" PRIu64,
                  listener->config->name, strerrordesc_np(error), suppressed);
    listeners_back_off(all);
    return false;
}

/* False: nothing more to accept now. */
static bool accept_one(struct listener *listener)
{
    struct sockaddr_storage storage;
    struct address          client;
    socklen_t               length = sizeof storage;

    if (!take_place(listener->all)) {
        pause_accepting(listener->all, LIMIT_RETRY);
        return false;
    }
    int socket = accept4(listener->watch.io.fd, (struct sockaddr *)&storage, &length,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (socket < 0) {
        int error = errno;

        admission_give_place_back(listener->all->mirror);
        return accept_failed(listener, error);
    }
    listener->failures = 0;
    address_set(&client, (struct sockaddr *)&storage, length);
    session_open(listener->all->mirror, socket, &client, listener->config);
    return !listener->all->is_paused; /* it may have found that ports have run out */
}

static void close_listener(struct listener *listener)
{
    if (listener->watch.io.fd < 0)
        return;
    watch_stop(&listener->watch);
    close(listener->watch.io.fd);
    listener->watch.io.fd = -1;
}

/* While draining: what waits is served, as far as the limit lets it in by and by; then nobody new
 * comes. */
static void take_queue(struct listener *listener)
{
    if (!listener->is_left)
        close_listener(listener);
    for (int n = 0; n < ACCEPTS_PER_WAKE && listener->watch.io.fd >= 0; n++) {
        if (accept_one(listener))
            continue;
        if (listener->all->is_paused)
            return;
        listener->is_empty = true;
        if (listener->all->keeps_empty)
            break;
        close_listener(listener);
    }
    if (listener->watch.io.fd >= 0) /* the rest in later turns */
        watch_start(&listener->watch, EV_READ);
}

/* To ask for one more and hear that there is none costs as much as half a connection; the loop asks
 * for nothing.  So a wake-up takes one, and more only if the last one left somebody waiting. */
static unsigned next_batch(const struct listener *listener, unsigned iteration)
{
    if (iteration != listener->latest + 1 || listener->batch == 0)
        return 1;
    return listener->batch < ACCEPTS_PER_WAKE ? listener->batch * 2 : ACCEPTS_PER_WAKE;
}

static void on_connection(void *owner, int events)
{
    struct listener *listener = owner;
    unsigned         iteration = ev_iteration(listener->all->mirror->loop);

    (void)events;
    if (listener->all->is_draining) {
        take_queue(listener);
        return;
    }
    listener->batch = next_batch(listener, iteration);
    listener->latest = iteration;
    for (unsigned i = 0; i < listener->batch; i++) {
        if (accept_one(listener))
            continue;
        listener->batch = 0;
        return;
    }
}

struct listeners *listeners_new(const struct listeners_settings *settings)
{
    const struct config *config = settings->mirror->config;
    size_t               count = settings->place_count * config->listen_count;
    struct listeners    *all = xcalloc(1, sizeof *all + count * sizeof all->listeners[0]);

    all->settings = *settings;
    all->mirror = settings->mirror;
    all->count = count;
    ev_timer_init(&all->retry, on_retry, 0, 0);
    all->retry.data = all;
    for (size_t i = 0; i < count; i++) {
        struct listener *listener = &all->listeners[i];

        listener->all = all;
        listener->config = &config->listens[i % config->listen_count];
        listener->place = i / config->listen_count;
        watch_init(&listener->watch, all->mirror->loop, settings->sockets[i], on_connection,
                   listener, listener->config->name);
    }
    return all;
}

bool listeners_are_closed(const struct listeners *all)
{
    for (size_t i = 0; i < all->count; i++) {
        if (all->listeners[i].watch.io.fd >= 0)
            return false;
    }
    return true;
}

static void finish(struct listeners *all)
{
    all->is_draining = true;
    for (size_t i = 0; i < all->count; i++)
        take_queue(&all->listeners[i]);
    if (listeners_are_closed(all))
        unpause(all);
}

void listeners_drain(struct listeners *all)
{
    all->keeps_empty = true;
    for (size_t i = 0; i < all->count; i++)
        all->listeners[i].is_left = is_assigned(&all->listeners[i]);
    finish(all);
}

bool listeners_are_empty(const struct listeners *all)
{
    for (size_t i = 0; i < all->count; i++) {
        if (all->listeners[i].watch.io.fd >= 0 && !all->listeners[i].is_empty)
            return false;
    }
    return true;
}

void listeners_leave(struct listeners *all)
{
    if (!all->keeps_empty)
        return;
    all->keeps_empty = false;
    finish(all);
}

/* Whoever else has the sockets of a removed listener takes from their queues, too. */
void listeners_retire(struct listeners *all)
{
    size_t each = all->mirror->config->listen_count;

    for (size_t i = 0; i < all->count; i++)
        all->listeners[i].is_left = atomic_load(&all->settings.roster->is_removed[i % each]);
    finish(all);
}

void listeners_close(struct listeners *all)
{
    ev_timer_stop(all->mirror->loop, &all->retry);
    for (size_t i = 0; i < all->count; i++)
        close_listener(&all->listeners[i]);
}

void listeners_free(struct listeners *all)
{
    if (all == NULL)
        return;
    listeners_close(all);
    free(all);
}
