/*
 * worker.c — builds the loop and what sessions share, serves, and finishes when its lifeline ends.
 *
 *     waiting ──barrier ends──▶ serving ──lifeline ends──▶ draining ──no session left──▶ exit 0
 *                                                             └── the deadline: sessions_drain()
 *
 * Nothing is ever written to the start barrier and the lifeline: their ends are wake-ups, and what
 * to do then stands in the page.  When nothing stands there the supervisor is dead, and the worker
 * drains within --reload-timeout.  Signals reach it, too (Ctrl-C goes to the whole group), and are ignored.
 */
#include "worker.h"

#include <ev.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/sanitized.h"
#include "config/config.h"
#include "dial/dial.h"
#include "dns/dns_cache.h"
#include "listen/listener.h"
#include "mirror/mirror.h"
#include "mirror/sessions.h"
#include "process/limits.h"
#include "process/primaries.h"
#include "process/process.h"
#include "process/stalls.h"
#include "shared/page.h"
#include "socket/watch.h"
#include "stream/pipes.h"
#include "transport/handshake.h"
#include "transport/reactor.h"

#define TICK_SECONDS       1.0  /* how old the counters of a busy session may be */
#define DRAIN_POLL_SECONDS 0.02 /* while draining: are we done, has the deadline moved; */
#define DRAIN_POLL_SLOWER  1.1  /* each time, because it may take hours, */
#define DRAIN_POLL_MAX    0.25 /* but never rarer than this */
#define KEPT_DESCRIPTORS   16   /* standard streams, logs, barrier, lifeline, answers */

struct worker {
    const struct worker_start *start;
    struct mirror              mirror;
    struct dns_cache              *dns_cache;
    struct listeners          *listeners;
    struct watch               start_barrier;
    struct watch               lifeline;
    double                     deadline; /* of our own; 0: none */
    bool                       is_serving;
    bool                       has_emptied;  /* and has said that nobody waits any more */
    bool                       has_answered; /* that it takes no client any more */
    ev_timer                   tick;
    ev_timer                   drain;
    ev_timer                   again;
    bool                       is_booking;   /* not all counters are up to date yet */
    bool is_following; /* a runtime setting has changed; some sessions do not know */
    ev_prepare                 turn_end;
    struct stalls              stalls;
    char                       name[32];
    char                       session_prefix[48];
};

static struct worker worker; /* reachable until the very end, for the leak checker */

/* --- becoming a process of its own ------------------------------------------------------- */

static void keep_only_own_descriptors(const struct worker_start *start)
{
    size_t listeners = start->config->listen_count * start->place_count;
    int   *kept = xcalloc(listeners + KEPT_DESCRIPTORS, sizeof kept[0]);
    size_t count = 0;

    for (int standard = 0; standard <= STDERR_FILENO; standard++)
        kept[count++] = standard;
    count += (size_t)log_descriptors(&kept[count]);
    kept[count++] = start->start_barrier;
    kept[count++] = start->lifeline;
    kept[count++] = start->answers;
    for (size_t i = 0; i < listeners; i++)
        kept[count++] = start->sockets[i];
    process_keep_only(kept, count);
    free(kept);
}

/* --- the end ----------------------------------------------------------------------------- */

static void worker_dismantle(struct worker *w)
{
    struct ev_loop *loop = w->mirror.loop;

    listeners_free(w->listeners);
    dialer_free(w->mirror.dialer);
    handshakes_free(w->mirror.handshakes);
    dns_cache_free(w->dns_cache);
    reactor_free(w->mirror.reactor);
    pipes_free(w->mirror.pipes);
    pool_close(&w->mirror.chunks);
    free(w->mirror.shadow_limits);
    ev_loop_destroy(loop);
}

/* Sanitized builds leave through exit(), which looks for leaks. */
_Noreturn static void leave(int status)
{
#ifdef IS_SANITIZED
    exit(status);
#else
    _exit(status);
#endif
}

static bool is_past(double deadline)
{
    return deadline > 0 && clock_now() >= deadline;
}

static bool is_past_deadline(const struct worker *w)
{
    return is_past(w->deadline) || is_past(atomic_load(&w->start->roster->deadline)) ||
           is_past(atomic_load(&w->start->page->drain_deadline));
}

static bool is_idle(const struct worker *w)
{
    return list_is_empty(&w->mirror.sessions) && listeners_are_closed(w->listeners) &&
           reactor_closing(w->mirror.reactor) == 0;
}

/* The supervisor closes its own descriptors of our sockets then, and would start another worker in our
 * place until it has heard that.  It has until the next poll. */
static void leave_when_empty(struct worker *w)
{
    if (w->has_emptied) {
        listeners_leave(w->listeners);
        return;
    }
    if (!listeners_are_empty(w->listeners))
        return;
    w->has_emptied = true;
    if (write(w->start->answers, ANSWER_EMPTY, 1) != 1)
        listeners_leave(w->listeners); /* the supervisor is gone */
}

/* Whoever connects now meets somebody else. */
static void answer_when_closed(struct worker *w)
{
    if (w->has_answered || !listeners_are_closed(w->listeners))
        return;
    w->has_answered = true;
    die_tells(NULL);
    close(w->start->answers);
}

static void on_drain_poll(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct worker *w = timer->data;
    bool           late = is_past_deadline(w);

    (void)events;
    if (late) {
        listeners_close(w->listeners); /* or each session that ends would let the next one in */
        sessions_drain(&w->mirror);
    }
    if (!w->has_answered)
        leave_when_empty(w);
    answer_when_closed(w);
    if (late || is_idle(w))
        ev_break(loop, EVBREAK_ALL);
    else if (timer->repeat < DRAIN_POLL_MAX)
        timer->repeat *= DRAIN_POLL_SLOWER;
}

/* Nobody else will tell when it is enough. */
static void set_own_deadline(struct worker *w)
{
    double timeout = w->start->config->reload_timeout;

    log_warning(w->name, "supervisor_gone", "timeout=%.3f", timeout);
    w->deadline = timeout > 0 ? clock_now() + timeout : 0;
}

static void close_start_barrier(struct worker *w)
{
    watch_stop(&w->start_barrier);
    if (w->start_barrier.io.fd >= 0)
        close(w->start_barrier.io.fd);
    w->start_barrier.io.fd = -1;
}

static void on_lifeline(void *owner, int events)
{
    struct worker *w = owner;

    (void)events;
    watch_stop(&w->lifeline);
    close(w->lifeline.io.fd);
    close_start_barrier(w);
    atomic_store(&w->start->slot->state, WORKER_DRAINING);
    switch ((enum order)atomic_load(&w->start->roster->order)) {
    case ORDER_RETIRE:
        listeners_retire(w->listeners);
        break;
    case ORDER_WAIT: /* it has never served */
        listeners_close(w->listeners);
        break;
    case ORDER_SERVE:
        set_own_deadline(w);
        listeners_drain(w->listeners);
        break;
    case ORDER_DRAIN:
        listeners_drain(w->listeners);
        break;
    }
    answer_when_closed(w);
    ev_timer_init(&w->drain, on_drain_poll, 0, DRAIN_POLL_SECONDS);
    w->drain.data = w;
    ev_timer_start(w->mirror.loop, &w->drain);
}

/* --- serving ----------------------------------------------------------------------------- */

static void serve(struct worker *w)
{
    w->is_serving = true;
    listeners_watch(w->listeners);
}

static void on_start_barrier(void *owner, int events)
{
    struct worker *w = owner;

    (void)events;
    close_start_barrier(w);
    if (atomic_load(&w->start->roster->order) == ORDER_SERVE)
        serve(w);
}

static void on_tick(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct worker *w = timer->data;

    (void)loop;
    (void)events;
    if (list_is_empty(&w->mirror.moved)) /* nobody is there who would wait for it */
        handshakes_tidy(w->mirror.handshakes);
    w->is_booking = true;
    listeners_make_room(w->listeners);
    if (w->is_serving)
        listeners_watch(w->listeners);
    w->mirror.memory_is_short |=
        atomic_load(&w->start->page->shadow_memory) > w->mirror.config->shadow_memory;
}

/* What is not done in this turn is done in the next, which comes at once. */
static void apply_runtime(struct worker *w)
{
    bool more = w->is_following;

    if (more || atomic_load(&w->start->page->epoch) != w->mirror.epoch)
        more = sessions_apply_runtime(&w->mirror);
    w->is_following = more;
    if (more)
        ev_timer_start(w->mirror.loop, &w->again);
}

/* Wakes the loop. */
static void on_again(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)timer;
    (void)events;
}

static void on_turn_end(struct ev_loop *loop, ev_prepare *watcher, int events)
{
    struct worker *w = watcher->data;

    (void)loop;
    (void)events;
    if (w->mirror.memory_is_short && sessions_shed_memory(&w->mirror))
        ev_timer_start(w->mirror.loop, &w->again);
    w->is_booking = w->is_booking && sessions_book(&w->mirror);
    if (w->is_booking)
        ev_timer_start(w->mirror.loop, &w->again);
    apply_runtime(w);
    log_flush();
}

/* Both limits are shared out.  So many handshakes never take all places of clients: a source has at
 * most half of them under way, and those that wait give way (handshakes_shed()). */
static struct handshakes *make_handshakes(const struct worker *w)
{
    const struct worker_start *start = w->start;
    size_t                     clients = start->limits->sessions / start->config->workers;
    size_t                     wished = start->config->max_handshakes / start->config->workers;
    size_t                     max = wished < clients ? wished : clients;
    struct handshake_settings  settings = {
        .reactor = w->mirror.reactor,
        .contexts = start->tls,
        .slot = start->slot,
        .max = max > 0 ? max : 1,
        .timeout = start->config->handshake_timeout,
    };

    return handshakes_new(&settings);
}

static struct dialer *make_dialer(const struct worker *w)
{
    const struct worker_start *start = w->start;
    const struct config       *config = start->config;
    struct dial_settings       settings = {
        .listeners = start->bound,
        .listener_count = config->listen_count,
        .allow_loop = config->allow_loop,
        .family = config->dns_family,
        .source = config->source,
        .sockets = { config->tcp_user_timeout, (int)config->sndbuf, (int)config->rcvbuf },
        .handshakes = w->mirror.handshakes,
    };

    return dialer_new(w->mirror.reactor, w->dns_cache, &settings);
}

/* The loop, and what moves bytes on it. */
static void make_flow(struct worker *w)
{
    const struct worker_start *start = w->start;
    const struct config       *config = start->config;
    struct mirror             *mirror = &w->mirror;
    struct fault               fault;

    mirror->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (mirror->loop == NULL)
        die(1, "cannot make an event loop");
    mirror->reactor = reactor_new(mirror->loop, &fault);
    if (mirror->reactor == NULL)
        die(1, "%s", fault.text);
    mirror->handshakes = make_handshakes(w);
    w->dns_cache =
        dns_cache_new(mirror->loop, config, start->slot, &start->page->shared_dns, &fault);
    if (w->dns_cache == NULL)
        die(1, "%s", fault.text);
    mirror->dialer = make_dialer(w);
    if (start->limits->pipes_per_worker > 0)
        mirror->pipes =
            pipes_new(start->slot, start->limits->pipes_per_worker, config->io == IO_MODE_SPLICE);
}

static void make_mirror(struct worker *w)
{
    const struct worker_start *start = w->start;
    const struct config       *config = start->config;
    struct mirror             *mirror = &w->mirror;

    make_flow(w);
    mirror->config = config;
    mirror->page = start->page;
    mirror->slot = start->slot;
    mirror->rows = start->rows;
    mirror->shadow_limits = xcalloc(config->shadow_count + 1, sizeof mirror->shadow_limits[0]);
    mirror->session_prefix = w->session_prefix;
    mirror->shadows_max = start->limits->shadows_per_worker;
    mirror->sources = start->sources;
    mirror->sources_table = start->sources_table;
    list_start(&mirror->sessions);
    list_start(&mirror->moved);
    ranks_start(&mirror->hungry);
    if (getrandom(&mirror->random, sizeof mirror->random, 0) != sizeof mirror->random)
        die(1, "cannot get random numbers");
}

static struct listeners *make_listeners(struct worker *w)
{
    const struct worker_start *start = w->start;
    struct listeners_settings  settings = {
        .mirror = &w->mirror,
        .roster = start->roster,
        .place = start->place,
        .place_count = start->place_count,
        .sockets = start->sockets,
        .max_sessions = start->limits->sessions,
        .max_own_sessions = start->limits->sessions_per_worker,
    };

    return listeners_new(&settings);
}

static void start_watching(struct worker *w)
{
    struct ev_loop *loop = w->mirror.loop;

    watch_init(&w->start_barrier, loop, w->start->start_barrier, on_start_barrier, w,
               "start barrier");
    watch_init(&w->lifeline, loop, w->start->lifeline, on_lifeline, w, "lifeline");
    ev_timer_init(&w->tick, on_tick, TICK_SECONDS, TICK_SECONDS);
    ev_timer_init(&w->again, on_again, 0, 0);
    ev_prepare_init(&w->turn_end, on_turn_end);
    w->tick.data = w->turn_end.data = w;
    if (w->start->start_barrier >= 0)
        watch_start(&w->start_barrier, EV_READ);
    else
        serve(w);
    watch_start(&w->lifeline, EV_READ);
    ev_timer_start(loop, &w->tick);
    ev_prepare_start(loop, &w->turn_end);
    stalls_watch(&w->stalls, loop, w->name, TICK_SECONDS,
                 &w->start->slot->counts[COUNT_LOOP_STALLS]);
}

/* In the log there, wherever that is. */
static void tell_supervisor(const char *why)
{
    ssize_t ignored = write(worker.start->answers, why, strlen(why));

    (void)ignored;
}

static void say_ready(const struct worker *w)
{
    atomic_store(&w->start->slot->state, WORKER_READY);
    if (write(w->start->answers, ANSWER_READY, 1) != 1)
        die(1, "cannot tell the supervisor that a worker is ready");
}

/* Later ones replace a worker that died. */
static bool is_first_of_its_generation(const struct worker_start *start)
{
    return start->place == 0 && start->start_barrier >= 0;
}

_Noreturn void worker_run(const struct worker_start *start)
{
    struct worker *w = &worker;

    process_ignore_signals();
    ev_loop_destroy(start->parents_loop);
    log_after_fork();
    if (start->logs != NULL)
        log_change(start->logs);
    keep_only_own_descriptors(start);
    atomic_store(&start->slot->pid, getpid());
    log_count_drops(&start->slot->counts[COUNT_LOG_DROPPED]);

    w->start = start;
    die_tells(tell_supervisor);
    snprintf(w->name, sizeof w->name, "worker %" PRIu64, start->serial);
    snprintf(w->session_prefix, sizeof w->session_prefix, "%" PRIx64 "-%" PRIx64,
             (uint64_t)(start->page->started * 1000), start->serial);
    make_mirror(w);
    w->listeners = make_listeners(w);
    w->mirror.on_client_gone = listeners_resume;
    w->mirror.on_exhausted = listeners_back_off;
    w->mirror.owner = w->listeners;
    start_watching(w);
    say_ready(w);
    log_debug(w->name, "ready", "pid=%d", (int)getpid());
    if (is_first_of_its_generation(start))
        primaries_look(start->config, w->dns_cache);

    ev_run(w->mirror.loop, 0);

    log_debug(w->name, "finished", "sessions=%" PRIu64, w->mirror.session_count);
    worker_dismantle(w);
    log_flush();
    leave(0);
}
