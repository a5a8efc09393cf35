/*
 * generation.c — one configuration, and everything that was made from it.
 */
#include "process/generation.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "admin/admin.h"
#include "admin/runtime_settings.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "config/config.h"
#include "listen/listen_groups.h"
#include "shared/page.h"
#include "socket/origin.h"
#include "tls/tls_contexts.h"

#define KILL_GRACE_SECONDS 1.0 /* beyond --reload-timeout */

_Static_assert(CONFIG_MAX_LISTENS <= PAGE_LISTENERS && CONFIG_MAX_SHADOWS <= PAGE_SHADOWS,
               "the page has room for every configuration");

/* --- what can fail ----------------------------------------------------------------------- */

static bool find_roster(struct generation *g, struct fault *fault)
{
    g->roster = page_take_roster(g->settings->page);
    return g->roster != NULL ||
           fault_set(fault, "%d generations live already; wait until one has finished",
                     PAGE_GENERATIONS);
}

static size_t max_sockets(const struct generation *g)
{
    size_t max = g->config->workers;

    for (size_t i = 0; i < g->config->listen_count; i++) {
        size_t count = listen_group_socket_count(g->own_groups[i]);

        max = count > max ? count : max;
    }
    return max;
}

static void list_sockets(struct generation *g, size_t places)
{
    size_t count = g->config->listen_count;

    g->sockets = xcalloc(places * count, sizeof g->sockets[0]);
    for (size_t i = 0; i < places * count; i++)
        g->sockets[i] = listen_group_socket(g->own_groups[i % count], i / count);
    for (size_t i = 0; i < count; i++) {
        g->bound[i] = *listen_group_address(g->own_groups[i]);
        g->listeners[i] = (struct bound_listener){ g->config->listens[i].name, g->bound[i] };
    }
}

static bool prepare_logs(struct generation *g, struct fault *fault)
{
    const struct log_options options = config_log_options(g->config);

    g->logs = log_prepare(&options, fault);
    return g->logs != NULL;
}

/* The last that can fail, because a name that has a row keeps it. */
static bool take_rows(struct generation *g, struct fault *fault)
{
    for (size_t i = 0; i < g->config->shadow_count; i++) {
        const char *name = g->config->shadows[i].name;

        if (!page_find_row(g->settings->page, name, &g->rows[i]))
            return fault_set(fault, "no room for the shadow %s: there have been %d names", name,
                             PAGE_SHADOWS);
    }
    return true;
}

static bool prepare(struct generation *g, struct fault *fault)
{
    const struct config *config = g->config;
    struct listen_groups        *groups = g->settings->groups;

    if (!find_roster(g, fault) || !origin_check(config, fault) ||
        !token_read(&g->token, config->admin_token_file, fault) || !prepare_logs(g, fault))
        return false;
    g->tls = tls_contexts_new(config, fault);
    if (g->tls == NULL || !listen_groups_open(groups, config, g->own_groups, fault))
        return false;
    if (take_rows(g, fault))
        return true;
    listen_groups_give_up(groups);
    return false;
}

/* --- its life ---------------------------------------------------------------------------- */

static void on_killing(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct generation *g = timer->data;

    (void)loop;
    (void)events;
    log_error("supervisor", "workers_killed", "generation=%u why=%s", g->number,
              "they did not finish in time");
    crew_kill(g->crew);
}

/* Sockets beyond one for each worker cost descriptors that limits_choose() does not know of. */
static size_t left_descriptors(const struct generation *g, size_t places)
{
    size_t spare = (places - g->config->workers) * g->config->listen_count;
    size_t all = g->settings->descriptors;

    return all > spare ? all - spare : 0;
}

static void make_crew(struct generation *g, size_t places)
{
    struct crew_settings crew = {
        .loop = g->settings->loop,
        .config = g->config,
        .page = g->settings->page,
        .roster = g->roster,
        .generation = g->number,
        .rows = g->rows,
        .sockets = g->sockets,
        .place_count = places,
        .bound = g->bound,
        .limits = &g->limits,
        .tls = g->tls,
        .logs = &g->logs,
        .sources = g->settings->sources,
        .events = g->settings->events,
    };

    crew.events.owner = g;
    g->crew = crew_new(&crew);
}

static struct generation *make_empty(const struct generation_settings *settings,
                                     struct config *config, unsigned number)
{
    struct generation *g = xcalloc(1, sizeof *g);

    g->settings = settings;
    g->config = config;
    g->number = number;
    g->own_groups = xcalloc(config->listen_count, sizeof(struct listen_group *));
    g->listeners = xcalloc(config->listen_count, sizeof g->listeners[0]);
    g->bound = xcalloc(config->listen_count, sizeof g->bound[0]);
    g->rows = xcalloc(config->shadow_count + 1, sizeof g->rows[0]);
    ev_timer_init(&g->killing, on_killing, 0, 0);
    g->killing.data = g;
    return g;
}

struct generation *generation_new(const struct generation_settings *settings, struct config *config,
                                  unsigned number, struct fault *fault)
{
    struct generation *g = make_empty(settings, config, number);

    if (!prepare(g, fault)) {
        g->config = NULL; /* still the caller's */
        generation_free(g);
        return NULL;
    }
    size_t places = max_sockets(g);
    list_sockets(g, places);
    g->limits = limits_choose(config, left_descriptors(g, places));
    make_crew(g, places);
    return g;
}

static void on_tls_warning(void *owner, const char *event, const char *file, const char *why)
{
    (void)owner;
    log_warning("tls", event, "file=%s why=%s", file, why);
}

void generation_warn(const struct generation *g)
{
    const struct config *config = g->config;
    size_t               wished = g->limits.sessions_per_worker * config->shadow_count;

    tls_contexts_warn(g->tls, config, on_tls_warning, NULL);
    token_warn(config->admin_token_file);
    if (g->limits.is_lowered)
        log_warning("supervisor", "max_sessions_lowered",
                    "wished=%" PRIu64 " max_sessions=%zu why=%s", config->max_sessions,
                    g->limits.sessions, "each session needs two descriptors; raise ulimit -n");
    if (g->limits.shadows_per_worker < wished)
        log_warning("supervisor", "shadows_lowered", "shadows_per_worker=%zu why=%s",
                    g->limits.shadows_per_worker,
                    "the descriptors of sessions come first; raise ulimit -n");
}

bool generation_start(struct generation *g, struct fault *fault)
{
    return crew_start(g->crew, fault);
}

static bool has_group(const struct generation *g, const struct listen_group *group)
{
    for (size_t i = 0; i < g->config->listen_count; i++) {
        if (g->own_groups[i] == group)
            return true;
    }
    return false;
}

/* As it is in effect: what was set at runtime stays over a reload. */
static void announce_shadow(const struct generation *g, size_t i)
{
    const struct shadow_config *shadow = &g->config->shadows[i];
    const struct page          *page = g->settings->page;

    log_info("supervisor", "shadow", "shadow=%s address=%s sample=%.3f paused=%s", shadow->name,
             shadow->target.name, runtime_sample(page, g->rows[i]),
             runtime_is_paused(page, g->rows[i]) ? "true" : NULL);
}

/* Those that nobody knows of yet. */
static void announce(const struct generation *g)
{
    char text[ADDRESS_TEXT];

    for (size_t i = 0; i < g->config->listen_count; i++) {
        if (!listen_group_is_new(g->own_groups[i]))
            continue;
        address_print(&g->bound[i], text);
        log_info("supervisor", "listening", "listener=%s address=%s", g->config->listens[i].name,
                 text);
    }
    for (size_t i = 0; i < g->config->shadow_count; i++)
        announce_shadow(g, i);
}

/* What a newer one does not have. */
static void note_removed(struct generation *g, const struct generation *newer)
{
    for (size_t i = 0; i < g->config->listen_count; i++)
        atomic_store(&g->roster->is_removed[i], !has_group(newer, g->own_groups[i]));
}

static void offer_runtime(const struct generation *g)
{
    for (size_t i = 0; i < g->config->shadow_count; i++)
        runtime_offer(g->settings->page, g->rows[i], &g->config->shadows[i], clock_now());
}

bool generation_open(struct generation *g, struct generation *former, struct fault *fault)
{
    if (former != NULL)
        note_removed(former, g);
    if (!listen_groups_listen(g->config, g->own_groups, fault))
        return false;
    offer_runtime(g);
    log_change(g->logs);
    g->logs = NULL;
    announce(g);
    listen_groups_enter(g->settings->groups, g->own_groups, g->config->listen_count);
    g->state = GENERATION_SERVING;
    g->settings->page->generation = g->number;
    atomic_store(&g->settings->page->hellos, 0); /* its bits are of the former one's listeners */
    crew_open(g->crew);
    return true;
}

static void finish(struct generation *g, enum order order)
{
    g->state = GENERATION_FINISHING;
    atomic_store(&g->roster->order, order);
    crew_finish(g->crew);
}

void generation_retire(struct generation *g, double timeout)
{
    atomic_store(&g->roster->deadline, timeout > 0 ? clock_now() + timeout : 0);
    if (timeout > 0) {
        ev_timer_set(&g->killing, timeout + KILL_GRACE_SECONDS, 0);
        ev_timer_start(g->settings->loop, &g->killing);
    }
    finish(g, ORDER_RETIRE);
}

void generation_drain(struct generation *g)
{
    if (g->state != GENERATION_FINISHING)
        finish(g, ORDER_DRAIN);
}

void generation_leave(struct generation *g, size_t place)
{
    size_t count = g->config->listen_count;

    for (size_t i = 0; i < count; i++)
        g->sockets[place * count + i] = -1;
    listen_groups_leave(g->settings->groups, place);
}

void generation_give_up(struct generation *g)
{
    g->state = GENERATION_FINISHING;
    listen_groups_give_up(g->settings->groups);
    crew_give_up(g->crew);
}

void generation_kill(struct generation *g)
{
    crew_kill(g->crew);
}

void generation_free(struct generation *g)
{
    if (g == NULL)
        return;
    ev_timer_stop(g->settings->loop, &g->killing);
    crew_free(g->crew);
    if (g->roster != NULL)
        atomic_store(&g->roster->is_taken, false);
    tls_contexts_free(g->tls);
    log_change_free(g->logs);
    config_free(g->config);
    free(g->rows);
    free(g->sockets);
    free(g->bound);
    free(g->listeners);
    free(g->own_groups);
    free(g);
}
