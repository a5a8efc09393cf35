/*
 * supervisor.c — makes what all share, obeys signals, says the totals.
 *
 *     supervisor ─ shared page, admin endpoint, pid file
 *       └─ succession ─ listening sockets
 *            └─ generation 1 .. n, each with its configuration
 *                 ║ lifelines (pipes nothing is ever written to)
 *                 ╚══▶ worker 1 .. n
 *
 *     starting ──workers ready──▶ serving ──TERM, INT, QUIT──▶ draining (process/drain.h) ──▶ exit
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

#include "admin/admin.h"
#include "admin/runtime_settings.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/log_record.h"
#include "config/config.h"
#include "config/load.h"
#include "listen/bind.h"
#include "listen/inherit.h"
#include "listen/own_path.h"
#include "listen/privileges.h"
#include "process/drain.h"
#include "process/generation.h"
#include "process/limits.h"
#include "process/notify.h"
#include "process/pid_file.h"
#include "process/process.h"
#include "process/reload.h"
#include "process/stalls.h"
#include "process/succession.h"
#include "shared/page.h"
#include "socket/socket.h"
#include "socket/watch.h"

#define ADMIN_BACKLOG      1024 /* too many clients wait there, and none is refused */
#define TICK_SECONDS       1.0
#define MIN_SLOTS        256 /* for the workers of all generations: a reload may bring more */

struct supervisor {
    struct page       *page;
    struct ev_loop    *loop;
    struct succession *succession;
    struct admin      *admin;
    struct own_path    admin_path;
    char              *pid_file; /* written, and removed at the end; NULL: none */
    bool               is_ready;
    int                status;
    struct watch       signals; /* of process_open_signals() */
    struct drain       drain;
    ev_prepare         turn_end;
    struct stalls      stalls;
    ev_timer           tick;
};

/* --- what is made before the first worker ------------------------------------------------ */

static bool open_logs(const struct config *config, struct fault *fault)
{
    const struct log_options options = config_log_options(config);

    return log_open(&options, fault);
}

static const struct config *config_of(const struct supervisor *sup)
{
    return succession_newest(sup->succession)->config;
}

static bool reload_on_request(void *owner);
static void drain_on_request(void *owner);

static struct admin_view view_of(struct supervisor *sup)
{
    const struct generation *g = succession_newest(sup->succession);

    return (struct admin_view){
        .config = g->config,
        .rows = g->rows,
        .page = sup->page,
        .listeners = g->listeners,
        .listener_count = g->config->listen_count,
        .ready = &sup->is_ready,
        .token = &g->token,
        .actions = { reload_on_request, drain_on_request, sup },
    };
}

static bool start_admin(struct supervisor *sup, struct fault *fault)
{
    struct socket_settings settings = { 0 };
    struct endpoint        endpoint = config_of(sup)->admin;
    struct bind_request    request = { &endpoint, &settings, 0600, ADMIN_BACKLOG, false, false };
    struct admin_view      view = view_of(sup);
    struct address         bound;

    if (!config_of(sup)->admin_on)
        return true;
    int socket = bind_first(&request, &bound, &sup->admin_path, fault);
    if (socket < 0)
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
    const char *path = config_of(sup)->pid_file;

    if (path == NULL)
        return true;
    if (!pid_file_write(path, fault))
        return false;
    sup->pid_file = xstrdup(path);
    return true;
}

static bool make_page(struct supervisor *sup, const struct config *config, struct fault *fault)
{
    size_t wished = config->workers * PAGE_GENERATIONS;

    sup->page = page_new(wished > MIN_SLOTS ? wished : MIN_SLOTS);
    if (sup->page == NULL)
        return fault_set(fault, "no memory for the shared page");
    atomic_store(&sup->page->slots[0].pid, getpid());
    log_count_drops(&sup->page->slots[0].counts[COUNT_LOG_DROPPED]);
    log_follow(&sup->page->log_generation);
    return true;
}

/* --- serving ----------------------------------------------------------------------------- */

static void stop_with(struct supervisor *sup, int status)
{
    sup->status = status;
    ev_break(sup->loop, EVBREAK_ALL);
}

static void say_configuration(const struct supervisor *sup)
{
    struct log_record line;

    if (!log_is_on(LEVEL_INFO))
        return;
    log_line_start(&line, LEVEL_INFO, "supervisor", "in_effect");
    config_describe(config_of(sup), &line);
    log_line_write(&line);
}

static void on_serving(void *owner)
{
    struct supervisor *sup = owner;
    struct admin_view  view = view_of(sup);

    say_configuration(sup);
    if (!drain_has_begun(&sup->drain)) {
        sup->is_ready = true;
        notify_ready("serving");
    }
    if (sup->admin != NULL)
        admin_show(sup->admin, &view);
}

static void on_ended(void *owner, int status)
{
    struct supervisor *sup = owner;

    stop_with(sup, status == 0 && drain_was_cut(&sup->drain) ? 1 : status);
}

/* --- signals ----------------------------------------------------------------------------- */

static void on_draining(void *owner)
{
    struct supervisor *sup = owner;

    sup->is_ready = false;
}

static void on_hurried(void *owner)
{
    stop_with(owner, 1);
}

/* The kill switch. */
static void toggle_mirroring(struct supervisor *sup)
{
    runtime_set_mirroring(sup->page, !runtime_mirroring_is_on(sup->page), "USR2");
}

static bool reload_on_request(void *owner)
{
    struct supervisor *sup = owner;

    if (drain_has_begun(&sup->drain))
        return false;
    succession_reload(sup->succession);
    return true;
}

static void drain_on_request(void *owner)
{
    struct supervisor *sup = owner;

    if (!drain_has_begun(&sup->drain))
        drain_signal(&sup->drain, SIGTERM);
}

static void obey(struct supervisor *sup, int number)
{
    switch (number) {
    case SIGCHLD:
        succession_reap(sup->succession);
        break;
    case SIGHUP:
        succession_reload(sup->succession);
        break;
    case SIGTERM:
    case SIGINT:
    case SIGQUIT:
        drain_signal(&sup->drain, number);
        break;
    case SIGUSR2:
        toggle_mirroring(sup);
        break;
    case SIGUSR1: /* each process follows with its next flush */
        log_info("supervisor", "reopening_logs", "signal=%s", "USR1");
        atomic_fetch_add(&sup->page->log_generation, 1);
        break;
    }
}

static void on_signals(void *owner, int events)
{
    struct supervisor *sup = owner;

    (void)events;
    obey(sup, process_next_signal(sup->signals.io.fd)); /* the loop comes back for the next */
}

static void say_totals(const struct supervisor *sup)
{
    const struct page *page = sup->page;
    struct log_record        line;

    if (!log_is_on(LEVEL_INFO))
        return;
    log_line_start(&line, LEVEL_INFO, "supervisor", "totals");
    log_record_number(&line, "sessions", page_sum(page, COUNT_SESSIONS));
    log_record_number(&line, "request_bytes", page_sum(page, COUNT_REQUEST_BYTES));
    log_record_number(&line, "response_bytes", page_sum(page, COUNT_RESPONSE_BYTES));
    log_record_list(&line, "shadows");
    for (size_t i = 0; i < page->row_count; i++) {
        log_record_item(&line);
        log_record_text(&line, "name", page->rows[i].name);
        log_record_number(&line, "offered_bytes", page_sum_shadow(page, i, SHADOW_COUNT_OFFERED));
        log_record_number(&line, "sent_bytes", page_sum_shadow(page, i, SHADOW_COUNT_SENT));
        log_record_number(&line, "lost_bytes", page_sum_shadow(page, i, SHADOW_COUNT_LOST));
        log_record_number(&line, "skipped_bytes", page_sum_shadow(page, i, SHADOW_COUNT_SKIPPED));
    }
    log_record_list_end(&line);
    log_line_write(&line);
}

/* Also wakes the loop, whose turn ends with log_flush(): lines that nobody took get another try. */
static void on_tick(struct ev_loop *loop, ev_timer *timer, int events)
{
    const struct supervisor *sup = timer->data;

    (void)loop;
    (void)events;
    runtime_tick(sup->page, clock_now());
}

static void on_turn_end(struct ev_loop *loop, ev_prepare *watcher, int events)
{
    struct supervisor *sup = watcher->data;

    (void)loop;
    (void)events;
    succession_settle(sup->succession);
    log_flush();
}

/* --- the supervisor's own life ----------------------------------------------------------- */

static void start_watching(struct supervisor *sup)
{
    watch_start(&sup->signals, EV_READ);
    ev_prepare_init(&sup->turn_end, on_turn_end);
    sup->turn_end.data = sup;
    ev_prepare_start(sup->loop, &sup->turn_end);
    ev_timer_init(&sup->tick, on_tick, TICK_SECONDS, TICK_SECONDS);
    sup->tick.data = sup;
    ev_timer_start(sup->loop, &sup->tick);
    stalls_watch(&sup->stalls, sup->loop, "supervisor", TICK_SECONDS,
                 &sup->page->slots[0].counts[COUNT_LOOP_STALLS]);
}

static void log_start(const struct supervisor *sup)
{
    const struct generation *g = succession_newest(sup->succession);

    log_info("supervisor", "starting",
             "version=%s workers=%" PRIu64 " max_sessions=%zu worst_case_bytes=%.0f shadows=%zu",
             stats_version(), g->config->workers, g->limits.sessions,
             limits_worst_memory(g->config, &g->limits), g->config->shadow_count);
}

static void make_succession(struct supervisor *sup, const struct command *command)
{
    struct succession_settings settings = {
        .loop = sup->loop,
        .page = sup->page,
        .command = command,
        .on_serving = on_serving,
        .on_ended = on_ended,
        .owner = sup,
    };

    sup->succession = succession_new(&settings);
}

static void prepare_draining(struct supervisor *sup)
{
    struct drain_settings settings = {
        .loop = sup->loop,
        .page = sup->page,
        .succession = sup->succession,
        .on_begun = on_draining,
        .on_hurried = on_hurried,
        .owner = sup,
    };

    drain_prepare(&sup->drain, &settings);
}

/* From here on a signal waits until the loop runs. */
static bool make_loop(struct supervisor *sup, struct fault *fault)
{
    int signals = process_open_signals(fault);

    if (signals < 0)
        return false;
    sup->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    watch_init(&sup->signals, sup->loop, signals, on_signals, sup, "signals");
    return sup->loop != NULL || fault_set(fault, "cannot make an event loop");
}

/* Takes the configuration, also when it fails. */
static bool make_what_is_shared(struct supervisor *sup, struct config *config,
                                const struct command *command, struct fault *fault)
{
    if (!make_loop(sup, fault) || !privileges_find(config, fault) ||
        !privileges_are_enough(fault) || !inherit_open(fault) || !open_logs(config, fault) ||
        !make_page(sup, config, fault)) {
        config_free(config);
        return false;
    }
    make_succession(sup, command);
    prepare_draining(sup);
    return succession_prepare(sup->succession, config, fault);
}

static bool drop_privileges(const struct config *config, struct fault *fault)
{
    if (!privileges_drop(config, fault))
        return false;
    privileges_guard_memory(config);
    privileges_check_files(config);
    return true;
}

static bool supervisor_start(struct supervisor *sup, const struct config_warnings *warnings,
                             struct fault *fault)
{
    if (!start_admin(sup, fault) || !inherit_all_found(fault) || !write_pid_file(sup, fault) ||
        !drop_privileges(config_of(sup), fault))
        return false;
    log_start(sup);
    config_warnings_log(warnings);
    start_watching(sup);
    return succession_start(sup->succession, fault);
}

static void remove_paths(struct supervisor *sup)
{
    own_path_remove(&sup->admin_path);
    if (sup->pid_file != NULL)
        pid_file_remove(sup->pid_file);
}

static void supervisor_free(struct supervisor *sup)
{
    succession_free(sup->succession);
    admin_stop(sup->admin);
    if (sup->loop != NULL)
        ev_loop_destroy(sup->loop);
    if (sup->signals.io.fd > STDERR_FILENO) /* 0: never opened */
        close(sup->signals.io.fd);
    page_free(sup->page);
    free(sup->pid_file);
    free(sup);
}

int supervisor_run(struct config *config, const struct command *command,
                   const struct config_warnings *warnings)
{
    struct supervisor *sup = xcalloc(1, sizeof *sup);
    struct fault       fault = { { 0 } };

    if (make_what_is_shared(sup, config, command, &fault) &&
        supervisor_start(sup, warnings, &fault)) {
        ev_run(sup->loop, 0);
        say_totals(sup);
    } else {
        fprintf(stderr, "doppel: %s\n", fault.text);
        sup->status = 1;
    }
    int status = sup->status;
    remove_paths(sup);
    log_count_drops(NULL);
    log_follow(NULL);
    log_flush();
    supervisor_free(sup);
    return status;
}
