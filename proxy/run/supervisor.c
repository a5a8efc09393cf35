/*
 * supervisor.c — makes what all share, starts the crew, obeys signals, says the totals.
 *
 *     supervisor ─ shared page, admin endpoint, pid file
 *       └─ crew ─ listening sockets
 *            ║ lifelines (pipes nothing is ever written to)
 *            ╚══▶ worker 1 .. n, each with its own SO_REUSEPORT sockets
 *
 *     starting ──crew ready──▶ serving ──TERM, INT, QUIT──▶ draining ──no worker left──▶ exit 0
 */
#include "supervisor.h"

#include <errno.h>
#include <ev.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/line.h"
#include "base/log.h"
#include "base/page.h"
#include "config/config.h"
#include "flow/origin.h"
#include "flow/socket.h"
#include "flow/tls_contexts.h"
#include "run/admin.h"
#include "run/bind.h"
#include "run/crew.h"
#include "run/knobs.h"
#include "run/limits.h"

#define FIRST_GENERATION   1
#define TICK_SECONDS       1.0
#define KILL_GRACE_SECONDS  1.0     /* beyond the drain deadline */

static const int signals[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD };
#define SIGNAL_COUNT (sizeof signals / sizeof signals[0])

struct supervisor {
    const struct config   *config;
    struct page           *page;
    uint16_t              *rows;      /* of the shadows in the page */
    struct ev_loop        *loop;
    struct crew           *crew;
    struct admin          *admin;
    struct address        *bound;     /* one per listener */
    struct bound_listener *listeners; /* the same for the admin endpoint */
    struct limits          limits;
    struct tls_contexts   *tls;       /* made before any worker, so that all have the same keys */
    bool                   is_ready;
    bool                   is_draining;
    bool                   wrote_pid_file; /* and removes it at the end */
    int                    status;
    ev_signal              signals[SIGNAL_COUNT];
    ev_timer               kill;
    ev_prepare             turn_end;
    ev_timer               tick;
};

/* --- what is made before the first worker ------------------------------------------------ */

static bool open_logs(const struct config *config, struct fault *fault)
{
    struct log_options options = {
        .level = config->log_level,
        .format = config->log_format,
        .file = config->log_file,
        .access_file = config->access_log,
        .access_format = config->access_format,
    };

    return log_open(&options, fault);
}

static bool bind_listener(struct supervisor *sup, size_t index, struct fault *fault)
{
    const struct config        *config = sup->config;
    const struct listen_config *listen = &config->listens[index];
    struct socket_settings settings = { config->tcp_user_timeout, (int)config->sndbuf,
                                        (int)config->rcvbuf };
    struct bind_request request = { &listen->endpoint, &settings, listen->mode,
                                    (int)config->backlog, config->transparent };
    int                        *sockets = xcalloc(config->workers, sizeof sockets[0]);
    bool bound = bind_listeners(&request, sockets, config->workers, &sup->bound[index], fault);

    if (bound)
        crew_give_sockets(sup->crew, index, sockets);
    sup->listeners[index].name = listen->name;
    sup->listeners[index].address = sup->bound[index];
    free(sockets);
    return bound;
}

static bool start_admin(struct supervisor *sup, struct fault *fault)
{
    struct socket_settings settings = { 0 };
    struct bind_request    request = { &sup->config->admin, &settings, 0600, 64, false };
    struct address         bound;
    int                    socket;
    struct admin_view      view = {
        .config = sup->config,
        .page = sup->page,
        .listeners = sup->listeners,
        .listener_count = sup->config->listen_count,
        .ready = &sup->is_ready,
    };

    if (!sup->config->admin_on)
        return true;
    if (!bind_listeners(&request, &socket, 1, &bound, fault))
        return false;
    sup->admin = admin_start(sup->loop, socket, &view, fault);
    if (sup->admin == NULL)
        return false;

    char text[ADDRESS_TEXT];
    address_print(&bound, text);
    log_info("supervisor", "admin", "address=%s", text);
    return true;
}

static bool write_pid_file(struct supervisor *sup, struct fault *fault)
{
    const char *path = sup->config->pid_file;

    if (path == NULL)
        return true;
    FILE *file = fopen(path, "we");
    sup->wrote_pid_file = file != NULL;
    bool written = file != NULL && fprintf(file, "%d\n", (int)getpid()) > 0;
    if (file != NULL)
        written = fclose(file) == 0 && written;
    return written ||
           fault_set(fault, "cannot write the pid file %s: %s", path, strerrordesc_np(errno));
}

static bool make_page(struct supervisor *sup, struct fault *fault)
{
    sup->page = page_new(sup->config->workers);
    if (sup->page == NULL)
        return fault_set(fault, "no memory for the shared page");
    sup->page->generation = FIRST_GENERATION;
    for (size_t i = 0; i < sup->config->shadow_count; i++) {
        const char *name = sup->config->shadows[i].name;

        if (!page_find_row(sup->page, name, &sup->rows[i]))
            return fault_set(fault, "no room for the shadow %s: there have been %d names", name,
                             PAGE_SHADOWS);
        knobs_offer(sup->page, sup->rows[i], &sup->config->shadows[i], clock_now());
    }
    atomic_store(&sup->page->slots[0].pid, getpid());
    log_count_drops(&sup->page->slots[0].counts[COUNT_LOG_DROPPED]);
    return true;
}

/* --- serving ----------------------------------------------------------------------------- */

static void announce(struct supervisor *sup)
{
    char text[ADDRESS_TEXT];

    for (size_t i = 0; i < sup->config->listen_count; i++) {
        address_print(&sup->bound[i], text);
        log_info("supervisor", "listening", "listener=%s address=%s", sup->config->listens[i].name,
                 text);
    }
    for (size_t i = 0; i < sup->config->shadow_count; i++) {
        const struct shadow_config *shadow = &sup->config->shadows[i];

        log_info("supervisor", "shadow", "shadow=%s address=%s sample=%.3f", shadow->name,
                 shadow->target.name, shadow->sample);
    }
}

static void stop_with(struct supervisor *sup, int status)
{
    sup->status = status;
    ev_break(sup->loop, EVBREAK_ALL);
}

static void on_crew_ready(void *owner)
{
    struct supervisor *sup = owner;

    sup->is_ready = true;
    announce(sup);
}

static void on_crew_gone(void *owner, int status)
{
    struct supervisor *sup = owner;

    stop_with(sup, status != 0 ? status : sup->status);
}

static bool start_crew(struct supervisor *sup, struct fault *fault)
{
    return crew_start(sup->crew) ||
           fault_set(fault, "cannot start a worker: %s", strerrordesc_np(errno));
}

/* --- signals and the end ----------------------------------------------------------------- */

static void on_kill(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct supervisor *sup = timer->data;

    (void)loop;
    (void)events;
    log_error("supervisor", "workers_killed", "why=%s", "they did not finish in time");
    crew_kill(sup->crew);
    sup->status = 1;
}

/* timeout 0: without limit. */
static void set_drain_deadline(struct supervisor *sup, double timeout)
{
    ev_timer_stop(sup->loop, &sup->kill);
    atomic_store(&sup->page->drain_deadline, timeout > 0 ? clock_now() + timeout : 0);
    if (timeout <= 0)
        return;
    ev_timer_set(&sup->kill, timeout + KILL_GRACE_SECONDS, 0);
    ev_timer_start(sup->loop, &sup->kill);
}

static void start_draining(struct supervisor *sup, double timeout)
{
    sup->is_draining = true;
    sup->is_ready = false;
    set_drain_deadline(sup, timeout);
    crew_retire(sup->crew);
}

/* QUIT drains without limit, TERM and INT within --drain-timeout; a TERM or INT after another one
 * hurries. */
static void on_stop(struct supervisor *sup, int number)
{
    bool   patient = number == SIGQUIT;
    bool   has_deadline = atomic_load(&sup->page->drain_deadline) > 0;
    double timeout = patient ? 0 : sup->config->drain_timeout;

    if (!sup->is_draining) {
        log_info("supervisor", "draining", "signal=%s timeout=%.3f", sigabbrev_np(number), timeout);
        start_draining(sup, timeout);
    } else if (!patient && !has_deadline && timeout > 0) {
        log_info("supervisor", "draining", "signal=%s timeout=%.3f", sigabbrev_np(number), timeout);
        set_drain_deadline(sup, timeout);
    } else if (!patient) {
        log_warning("supervisor", "hurried", "signal=%s", sigabbrev_np(number));
        crew_kill(sup->crew);
        stop_with(sup, 1);
    }
}

/* The kill switch. */
static void toggle_mirroring(struct supervisor *sup)
{
    bool on = !knobs_mirroring_is_on(sup->page);

    knobs_mirroring(sup->page, on);
    if (on)
        log_info("supervisor", "mirroring", "state=on signal=USR2");
    else
        log_warning("supervisor", "mirroring", "state=off signal=USR2");
}

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
    struct supervisor *sup = watcher->data;

    (void)loop;
    (void)events;
    switch (watcher->signum) {
    case SIGCHLD:
        crew_reap(sup->crew);
        break;
    case SIGTERM:
    case SIGINT:
    case SIGQUIT:
        on_stop(sup, watcher->signum);
        break;
    case SIGUSR2:
        toggle_mirroring(sup);
        break;
    default:
        log_warning("supervisor", "signal_ignored", "signal=%s why=%s",
                    sigabbrev_np(watcher->signum), "it does nothing in this version");
        break;
    }
}

static void say_totals(const struct supervisor *sup)
{
    const struct page *page = sup->page;
    struct line        line;

    if (!log_is_on(LEVEL_INFO))
        return;
    log_line_start(&line, LEVEL_INFO, "supervisor", "totals");
    line_number(&line, "sessions", page_sum(page, COUNT_SESSIONS));
    line_number(&line, "request_bytes", page_sum(page, COUNT_REQUEST_BYTES));
    line_number(&line, "response_bytes", page_sum(page, COUNT_RESPONSE_BYTES));
    line_list(&line, "shadows");
    for (size_t i = 0; i < page->row_count; i++) {
        line_item(&line);
        line_text(&line, "name", page->rows[i].name);
        line_number(&line, "offered_bytes", page_sum_shadow(page, i, SHADOW_COUNT_OFFERED));
        line_number(&line, "sent_bytes", page_sum_shadow(page, i, SHADOW_COUNT_SENT));
        line_number(&line, "lost_bytes", page_sum_shadow(page, i, SHADOW_COUNT_LOST));
        line_number(&line, "skipped_bytes", page_sum_shadow(page, i, SHADOW_COUNT_SKIPPED));
    }
    line_list_end(&line);
    log_line_write(&line);
}

/* Also wakes the loop, whose turn ends with log_flush(): lines that nobody took get another try. */
static void on_tick(struct ev_loop *loop, ev_timer *timer, int events)
{
    const struct supervisor *sup = timer->data;

    (void)loop;
    (void)events;
    knobs_tick(sup->page, clock_now());
}

static void on_turn_end(struct ev_loop *loop, ev_prepare *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events;
    log_flush();
}

/* --- the supervisor's own life ----------------------------------------------------------- */

static struct supervisor *supervisor_new(const struct config *config)
{
    struct supervisor *sup = xcalloc(1, sizeof *sup);

    sup->config = config;
    sup->rows = xcalloc(config->shadow_count + 1, sizeof sup->rows[0]);
    sup->bound = xcalloc(config->listen_count, sizeof sup->bound[0]);
    sup->listeners = xcalloc(config->listen_count, sizeof sup->listeners[0]);
    return sup;
}

static void make_crew(struct supervisor *sup)
{
    struct crew_settings settings = {
        .loop = sup->loop,
        .config = sup->config,
        .page = sup->page,
        .generation = FIRST_GENERATION,
        .rows = sup->rows,
        .bound = sup->bound,
        .limits = &sup->limits,
        .tls = sup->tls,
        .on_ready = on_crew_ready,
        .on_gone = on_crew_gone,
        .owner = sup,
    };

    sup->crew = crew_new(&settings);
}

static void watch_signals(struct supervisor *sup)
{
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        ev_signal_init(&sup->signals[i], on_signal, signals[i]);
        sup->signals[i].data = sup;
        ev_signal_start(sup->loop, &sup->signals[i]);
    }
    ev_timer_init(&sup->kill, on_kill, 0, 0);
    sup->kill.data = sup;
    ev_prepare_init(&sup->turn_end, on_turn_end);
    ev_prepare_start(sup->loop, &sup->turn_end);
    ev_timer_init(&sup->tick, on_tick, TICK_SECONDS, TICK_SECONDS);
    sup->tick.data = sup;
    ev_timer_start(sup->loop, &sup->tick);
}

static void log_start(const struct supervisor *sup)
{
    const struct config *config = sup->config;

    tls_contexts_warn(config);
    log_info("supervisor", "starting",
             "version=%s workers=%" PRIu64 " max_sessions=%zu most_buffer_bytes=%.0f shadows=%zu",
             stats_version(), config->workers, sup->limits.sessions,
             limits_worst_memory(config, &sup->limits), config->shadow_count);
    if (sup->limits.is_lowered)
        log_warning("supervisor", "max_sessions_lowered",
                    "wished=%" PRIu64 " max_sessions=%zu why=%s", config->max_sessions,
                    sup->limits.sessions, "each session needs two descriptors; raise ulimit -n");
    if (sup->limits.shadows_per_worker < sup->limits.sessions_per_worker * config->shadow_count)
        log_warning("supervisor", "shadows_lowered", "shadows_per_worker=%zu why=%s",
                    sup->limits.shadows_per_worker,
                    "the descriptors of sessions come first; raise ulimit -n");
}

static bool supervisor_start(struct supervisor *sup, struct fault *fault)
{
    const struct config *config = sup->config;

    sup->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (sup->loop == NULL)
        return fault_set(fault, "cannot make an event loop");
    if (!origin_check(config, fault) || !open_logs(config, fault) || !make_page(sup, fault))
        return false;
    sup->tls = tls_contexts_new(config, fault);
    if (sup->tls == NULL)
        return false;
    sup->limits = limits_choose(config, limits_raise_descriptors());
    make_crew(sup);
    for (size_t i = 0; i < config->listen_count; i++) {
        if (!bind_listener(sup, i, fault))
            return false;
    }
    if (!start_admin(sup, fault) || !write_pid_file(sup, fault))
        return false;
    log_start(sup);
    watch_signals(sup);
    return start_crew(sup, fault);
}

static void remove_paths(const struct supervisor *sup)
{
    for (size_t i = 0; i < sup->config->listen_count; i++) {
        if (sup->bound[i].length > 0)
            bind_remove(&sup->config->listens[i].endpoint);
    }
    if (sup->admin != NULL)
        bind_remove(&sup->config->admin);
    if (sup->wrote_pid_file)
        unlink(sup->config->pid_file);
}

static void supervisor_free(struct supervisor *sup)
{
    crew_free(sup->crew);
    admin_stop(sup->admin);
    if (sup->loop != NULL)
        ev_loop_destroy(sup->loop);
    page_free(sup->page);
    tls_contexts_free(sup->tls);
    free(sup->listeners);
    free(sup->bound);
    free(sup->rows);
    free(sup);
}

bool supervisor_check(const struct config *config, struct fault *fault)
{
    struct tls_contexts *tls = tls_contexts_new(config, fault);

    tls_contexts_free(tls);
    return tls != NULL;
}

int supervisor_run(const struct config *config)
{
    struct supervisor *sup = supervisor_new(config);
    struct fault       fault = { { 0 } };

    if (supervisor_start(sup, &fault)) {
        ev_run(sup->loop, 0);
        say_totals(sup);
    } else {
        fprintf(stderr, "doppel: %s\n", fault.text);
        sup->status = 1;
    }
    int status = sup->status;
    remove_paths(sup);
    log_count_drops(NULL);
    log_flush();
    supervisor_free(sup);
    return status;
}
