/*
 * supervisor.c — binds, forks, watches, restarts, drains, and says the totals.
 *
 *     supervisor ─ listening sockets, shared page, admin endpoint, pid file
 *       ║ lifeline (a pipe nothing is ever written to)
 *       ╚══▶ worker 1 .. n, each with its own SO_REUSEPORT sockets
 *
 *     STARTING ──all ready──▶ SERVING ──TERM, INT, QUIT──▶ DRAINING ──no worker left──▶ exit 0
 *
 * The listening sockets stay open here while a worker is replaced, so that what waits in their
 * queues is not reset.  Draining means closing the lifelines; how long it may take stands in the
 * page.
 */
#include "supervisor.h"

#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/line.h"
#include "base/log.h"
#include "base/page.h"
#include "config/config.h"
#include "flow/dial.h"
#include "flow/transport.h"
#include "run/admin.h"
#include "run/bind.h"
#include "run/worker.h"

#define SPARE_DESCRIPTORS   64      /* of a worker: listeners, logs, pipes, epoll sets, DNS */
#define MOST_DESCRIPTORS    1048576 /* a container's limit may be 10^9; never size by it */
#define MOST_PER_WORKER     65536   /* sessions */
#define QUICK_DEATH_SECONDS 2.0
#define QUICK_DEATHS        3       /* in a row; then restarts are delayed */
#define FIRST_RESTART_DELAY 0.5     /* seconds, doubled up to the last */
#define LAST_RESTART_DELAY  30.0
#define KILL_GRACE_SECONDS  1.0     /* beyond the drain deadline */

enum supervisor_state {
    SUPERVISOR_STARTING,
    SUPERVISOR_SERVING,
    SUPERVISOR_DRAINING,
};

static const int signals[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD };
#define SIGNAL_COUNT (sizeof signals / sizeof signals[0])

/* One place for a worker: the process in it changes, its listening sockets stay. */
struct place {
    struct supervisor *supervisor;
    int               *sockets;     /* one per listener; -1: closed */
    struct slot       *slot;        /* NULL: no process */
    pid_t              pid;
    int                lifeline;    /* the write end; -1: closed */
    ev_io              ready;       /* its fd is -1 when the worker has answered */
    ev_timer           restart;
    double             started;
    unsigned           quick_deaths;
};

struct supervisor {
    const struct config   *config;
    struct page           *page;
    struct ev_loop        *loop;
    struct admin          *admin;
    struct address        *bound;     /* one per listener */
    struct bound_listener *listeners; /* the same for the admin endpoint */
    struct place          *places;    /* one per worker */
    uint64_t               worker_serial; /* workers ever started */
    size_t                 max_sessions;
    enum supervisor_state  state;
    bool                   is_ready;
    int                    status;
    ev_signal              signals[SIGNAL_COUNT];
    ev_timer               kill;
    ev_prepare             turn_end;
};

/* --- loops ------------------------------------------------------------------------------- */

static bool listener_address(const struct endpoint *endpoint, struct address *address)
{
    struct address known[2];
    bool           everywhere = endpoint->kind == ENDPOINT_TCP && endpoint->host[0] == '\0';

    if (endpoint->kind == ENDPOINT_TCP && endpoint->port == 0)
        return false;
    if (everywhere)
        return address_parse(address, "::", endpoint->port);
    if (endpoint_known_addresses(endpoint, known) == 0)
        return false;
    *address = known[0];
    return true;
}

static bool check_target(const struct config *config, const char *flag,
                         const struct target_config *target, struct fault *fault)
{
    struct address known[2];
    size_t         count = endpoint_known_addresses(&target->endpoint, known);

    for (size_t i = 0; i < config->listen_count; i++) {
        struct address listener;

        if (!listener_address(&config->listens[i].endpoint, &listener))
            continue;
        for (size_t j = 0; j < count; j++) {
            if (address_is_ours(&known[j], &listener, 1))
                return fault_set(
                    fault,
                    "%s %s is our own listener %s: a loop; give another address, or --allow-loop",
                    flag, target->name, config->listens[i].name);
        }
    }
    return true;
}

bool supervisor_check_loops(const struct config *config, struct fault *fault)
{
    if (config->allow_loop)
        return true;
    for (size_t i = 0; i < config->primary_count; i++) {
        if (!check_target(config, "--primary", &config->primaries[i], fault))
            return false;
    }
    for (size_t i = 0; i < config->shadow_count; i++) {
        if (!check_target(config, "--shadow", &config->shadows[i].target, fault))
            return false;
    }
    return true;
}

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

/* Raises the descriptor limit as far as it goes; answers what a worker may open. */
static size_t raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1024;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max < MOST_DESCRIPTORS ? limit.rlim_max : MOST_DESCRIPTORS;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    return limit.rlim_cur < MOST_DESCRIPTORS ? limit.rlim_cur : MOST_DESCRIPTORS;
}

/* What the descriptors of all workers allow, where the operator did not say. */
static size_t choose_max_sessions(const struct config *config)
{
    size_t descriptors = raise_descriptor_limit();
    size_t each = 2 + config->shadow_count;
    size_t usable = descriptors > SPARE_DESCRIPTORS + each ? descriptors - SPARE_DESCRIPTORS : each;
    size_t per_worker = usable / each < MOST_PER_WORKER ? usable / each : MOST_PER_WORKER;

    return config->max_sessions > 0 ? config->max_sessions : per_worker * config->workers;
}

static bool bind_listener(struct supervisor *sup, size_t index, struct fault *fault)
{
    const struct config        *config = sup->config;
    const struct listen_config *listen = &config->listens[index];
    struct socket_settings settings = { config->tcp_user_timeout, (int)config->sndbuf,
                                        (int)config->rcvbuf };
    struct bind_request request = { &listen->endpoint, &settings, listen->mode,
                                    (int)config->backlog };
    int                        *sockets = xcalloc(config->workers, sizeof sockets[0]);
    bool bound = bind_listeners(&request, sockets, config->workers, &sup->bound[index], fault);

    for (size_t i = 0; bound && i < config->workers; i++)
        sup->places[i].sockets[index] = sockets[i];
    sup->listeners[index].name = listen->name;
    sup->listeners[index].address = sup->bound[index];
    free(sockets);
    return bound;
}

static bool start_admin(struct supervisor *sup, struct fault *fault)
{
    struct socket_settings settings = { 0 };
    struct bind_request    request = { &sup->config->admin, &settings, 0600, 64 };
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

static bool write_pid_file(const struct config *config, struct fault *fault)
{
    if (config->pid_file == NULL)
        return true;
    FILE *file = fopen(config->pid_file, "we");
    bool  written = file != NULL && fprintf(file, "%d\n", (int)getpid()) > 0;

    if (file != NULL)
        written = fclose(file) == 0 && written;
    return written || fault_set(fault, "cannot write the pid file %s: %s", config->pid_file,
                                strerrordesc_np(errno));
}

static bool make_page(struct supervisor *sup, struct fault *fault)
{
    sup->page = page_new(sup->config->workers);
    if (sup->page == NULL)
        return fault_set(fault, "no memory for the shared page");
    sup->page->shadow_count = sup->config->shadow_count;
    for (size_t i = 0; i < sup->config->shadow_count; i++)
        snprintf(sup->page->shadow_names[i], PAGE_SHADOW_NAME, "%s", sup->config->shadows[i].name);
    atomic_store(&sup->page->slots[0].pid, getpid());
    log_count_drops(&sup->page->slots[0].counts[COUNT_LOG_DROPPED]);
    return true;
}

/* --- workers ----------------------------------------------------------------------------- */

static void close_and_forget(int *descriptor)
{
    if (*descriptor >= 0)
        close(*descriptor);
    *descriptor = -1;
}

static void on_worker_ready(struct ev_loop *loop, ev_io *watcher, int events);

/* In the child: nothing of the supervisor is used any more but what the start hands over. */
_Noreturn static void become_worker(struct place *place, int lifeline, int ready)
{
    struct supervisor  *sup = place->supervisor;
    struct worker_start start = {
        .config = sup->config,
        .page = sup->page,
        .slot = place->slot,
        .serial = sup->worker_serial,
        .sockets = place->sockets,
        .bound = sup->bound,
        .max_sessions = sup->max_sessions,
        .lifeline = lifeline,
        .ready = ready,
        .parents_loop = sup->loop,
    };

    worker_run(&start);
}

static bool start_worker(struct place *place)
{
    struct supervisor *sup = place->supervisor;
    int                lifeline[2];
    int                ready[2];

    place->slot = page_take_slot(sup->page);
    if (place->slot == NULL || pipe2(lifeline, O_CLOEXEC) != 0)
        return false;
    if (pipe2(ready, O_CLOEXEC) != 0) {
        close(lifeline[0]);
        close(lifeline[1]);
        return false;
    }
    sup->worker_serial++;
    log_flush();
    place->started = clock_now();
    place->pid = fork();
    if (place->pid == 0)
        become_worker(place, lifeline[0], ready[1]);
    close(lifeline[0]);
    close(ready[1]);
    place->lifeline = lifeline[1];
    atomic_store(&place->slot->pid, place->pid);
    ev_io_set(&place->ready, ready[0], EV_READ);
    ev_io_start(sup->loop, &place->ready);
    return place->pid > 0;
}

static void forget_ready_pipe(struct place *place)
{
    ev_io_stop(place->supervisor->loop, &place->ready);
    close_and_forget(&place->ready.fd);
}

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

static void on_worker_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct place      *place = watcher->data;
    struct supervisor *sup = place->supervisor;
    char               byte;

    (void)loop;
    (void)events;
    bool answered = read(watcher->fd, &byte, 1) == 1;
    forget_ready_pipe(place);
    if (!answered || sup->state != SUPERVISOR_STARTING)
        return;
    for (size_t i = 0; i < sup->config->workers; i++) {
        if (sup->places[i].ready.fd >= 0)
            return;
    }
    sup->state = SUPERVISOR_SERVING;
    sup->is_ready = true;
    announce(sup);
}

static size_t workers_alive(const struct supervisor *sup)
{
    size_t alive = 0;

    for (size_t i = 0; i < sup->config->workers; i++)
        alive += sup->places[i].pid > 0;
    return alive;
}

static void signal_workers(const struct supervisor *sup, int number)
{
    for (size_t i = 0; i < sup->config->workers; i++) {
        if (sup->places[i].pid > 0)
            kill(sup->places[i].pid, number);
    }
}

static void stop_with(struct supervisor *sup, int status)
{
    sup->status = status;
    ev_break(sup->loop, EVBREAK_ALL);
}

static void on_restart(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct place *place = timer->data;

    (void)loop;
    (void)events;
    if (place->supervisor->state == SUPERVISOR_DRAINING || start_worker(place))
        return;
    log_error("supervisor", "worker_not_started", "why=%s", strerrordesc_np(errno));
    stop_with(place->supervisor, 1);
}

/* At once, unless it keeps dying: then with a delay that doubles. */
static void restart_later(struct place *place)
{
    struct supervisor *sup = place->supervisor;
    double             delay = 0;
    bool               quick = clock_now() - place->started < QUICK_DEATH_SECONDS;

    place->quick_deaths = quick ? place->quick_deaths + 1 : 0;
    if (place->quick_deaths >= QUICK_DEATHS)
        delay = FIRST_RESTART_DELAY *
                (1U << (place->quick_deaths - QUICK_DEATHS < 8 ? place->quick_deaths - QUICK_DEATHS
                                                               : 8));
    if (delay > LAST_RESTART_DELAY)
        delay = LAST_RESTART_DELAY;
    cell_add(&sup->page->slots[0].counts[COUNT_WORKER_RESTARTS], 1);
    ev_timer_set(&place->restart, delay, 0);
    ev_timer_start(sup->loop, &place->restart);
}

static void worker_is_gone(struct place *place, int status)
{
    struct supervisor *sup = place->supervisor;
    bool               was_starting = sup->state == SUPERVISOR_STARTING;

    place->pid = 0;
    forget_ready_pipe(place);
    close_and_forget(&place->lifeline);
    page_retire_slot(sup->page, place->slot);
    place->slot = NULL;
    if (sup->state == SUPERVISOR_DRAINING) {
        if (workers_alive(sup) == 0)
            stop_with(sup, sup->status);
        return;
    }
    if (WIFSIGNALED(status))
        log_error("supervisor", "worker_died", "signal=%d", WTERMSIG(status));
    else
        log_error("supervisor", "worker_died", "status=%d", WEXITSTATUS(status));
    if (was_starting)
        stop_with(sup, 1); /* it would only die again; the reason is on stderr */
    else
        restart_later(place);
}

static void reap(struct supervisor *sup)
{
    int   status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (size_t i = 0; i < sup->config->workers; i++) {
            if (sup->places[i].pid == pid)
                worker_is_gone(&sup->places[i], status);
        }
    }
}

/* --- signals and the end ----------------------------------------------------------------- */

static void on_kill(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct supervisor *sup = timer->data;

    (void)loop;
    (void)events;
    log_error("supervisor", "workers_killed", "why=%s", "they did not finish in time");
    signal_workers(sup, SIGKILL);
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

static void close_sockets(struct supervisor *sup)
{
    for (size_t i = 0; i < sup->config->workers; i++) {
        for (size_t j = 0; j < sup->config->listen_count; j++)
            close_and_forget(&sup->places[i].sockets[j]);
    }
}

/* The workers take what waits in the queues before they close their copies of the sockets. */
static void start_draining(struct supervisor *sup, double timeout)
{
    sup->state = SUPERVISOR_DRAINING;
    sup->is_ready = false;
    set_drain_deadline(sup, timeout);
    close_sockets(sup);
    for (size_t i = 0; i < sup->config->workers; i++) {
        ev_timer_stop(sup->loop, &sup->places[i].restart);
        close_and_forget(&sup->places[i].lifeline);
    }
    if (workers_alive(sup) == 0)
        stop_with(sup, sup->status);
}

/* QUIT drains without limit, TERM and INT within --drain-timeout; a TERM or INT after another one
 * hurries. */
static void on_stop(struct supervisor *sup, int number)
{
    bool   patient = number == SIGQUIT;
    bool   has_deadline = atomic_load(&sup->page->drain_deadline) > 0;
    double timeout = patient ? 0 : sup->config->drain_timeout;

    if (sup->state != SUPERVISOR_DRAINING) {
        log_info("supervisor", "draining", "signal=%s timeout=%.3f", sigabbrev_np(number), timeout);
        start_draining(sup, timeout);
    } else if (!patient && !has_deadline && timeout > 0) {
        log_info("supervisor", "draining", "signal=%s timeout=%.3f", sigabbrev_np(number), timeout);
        set_drain_deadline(sup, timeout);
    } else if (!patient) {
        log_warning("supervisor", "hurried", "signal=%s", sigabbrev_np(number));
        signal_workers(sup, SIGKILL);
        stop_with(sup, 1);
    }
}

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
    struct supervisor *sup = watcher->data;

    (void)loop;
    (void)events;
    switch (watcher->signum) {
    case SIGCHLD:
        reap(sup);
        break;
    case SIGTERM:
    case SIGINT:
    case SIGQUIT:
        on_stop(sup, watcher->signum);
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
    for (size_t i = 0; i < page->shadow_count; i++) {
        line_item(&line);
        line_text(&line, "name", page->shadow_names[i]);
        line_number(&line, "offered_bytes", page_sum_shadow(page, i, SHADOW_COUNT_OFFERED));
        line_number(&line, "sent_bytes", page_sum_shadow(page, i, SHADOW_COUNT_SENT));
        line_number(&line, "lost_bytes", page_sum_shadow(page, i, SHADOW_COUNT_LOST));
        line_number(&line, "skipped_bytes", page_sum_shadow(page, i, SHADOW_COUNT_SKIPPED));
    }
    line_list_end(&line);
    log_line_write(&line);
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
    sup->bound = xcalloc(config->listen_count, sizeof sup->bound[0]);
    sup->listeners = xcalloc(config->listen_count, sizeof sup->listeners[0]);
    sup->places = xcalloc(config->workers, sizeof sup->places[0]);
    for (size_t i = 0; i < config->workers; i++) {
        struct place *place = &sup->places[i];

        place->supervisor = sup;
        place->lifeline = -1;
        place->sockets = xcalloc(config->listen_count, sizeof place->sockets[0]);
        for (size_t j = 0; j < config->listen_count; j++)
            place->sockets[j] = -1;
        ev_io_init(&place->ready, on_worker_ready, -1, EV_READ);
        ev_timer_init(&place->restart, on_restart, 0, 0);
        place->ready.data = place->restart.data = place;
    }
    return sup;
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
}

static bool supervisor_start(struct supervisor *sup, struct fault *fault)
{
    const struct config *config = sup->config;

    signal(SIGPIPE, SIG_IGN);
    sup->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (sup->loop == NULL)
        return fault_set(fault, "cannot make an event loop");
    if (!open_logs(config, fault) || !make_page(sup, fault))
        return false;
    sup->max_sessions = choose_max_sessions(config);
    for (size_t i = 0; i < config->listen_count; i++) {
        if (!bind_listener(sup, i, fault))
            return false;
    }
    if (!start_admin(sup, fault) || !write_pid_file(config, fault))
        return false;
    log_info("supervisor", "starting",
             "version=%s workers=%" PRIu64 " max_sessions=%zu shadows=%zu", stats_version(),
             config->workers, sup->max_sessions, config->shadow_count);
    watch_signals(sup);
    for (size_t i = 0; i < config->workers; i++) {
        if (!start_worker(&sup->places[i]))
            return fault_set(fault, "cannot start a worker: %s", strerrordesc_np(errno));
    }
    return true;
}

static void remove_paths(const struct supervisor *sup)
{
    for (size_t i = 0; i < sup->config->listen_count; i++) {
        if (sup->bound[i].length > 0)
            bind_remove(&sup->config->listens[i].endpoint);
    }
    if (sup->admin != NULL)
        bind_remove(&sup->config->admin);
    if (sup->config->pid_file != NULL)
        unlink(sup->config->pid_file);
}

static void supervisor_free(struct supervisor *sup)
{
    close_sockets(sup);
    for (size_t i = 0; i < sup->config->workers; i++) {
        forget_ready_pipe(&sup->places[i]);
        close_and_forget(&sup->places[i].lifeline);
        free(sup->places[i].sockets);
    }
    admin_stop(sup->admin);
    if (sup->loop != NULL)
        ev_loop_destroy(sup->loop);
    page_free(sup->page);
    free(sup->places);
    free(sup->listeners);
    free(sup->bound);
    free(sup);
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
        signal_workers(sup, SIGKILL);
        sup->status = 1;
    }
    int status = sup->status;
    remove_paths(sup);
    log_count_drops(NULL);
    log_flush();
    supervisor_free(sup);
    return status;
}
