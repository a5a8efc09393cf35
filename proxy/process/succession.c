/*
 * succession.c — which generation serves, which one is about to, and which ones finish.
 *
 *     begin ──▶ reader ──on_read──▶ generation_new, generation_start ──on_ready──▶ generation_open, and
 *                  │                    │             │ on_failed, patience    the former one retires
 *                  ▼                    ▼             ▼                         ──on_released──▶ reloaded
 *                  reload_failed: one line says why
 */
#include "process/succession.h"

#include <errno.h>
#include <ev.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/files.h"
#include "base/log.h"
#include "config/config.h"
#include "listen/listen_groups.h"
#include "process/generation.h"
#include "process/notify.h"
#include "process/reader.h"
#include "process/reload.h"
#include "shared/page.h"
#include "shared/sources.h"

#define NO_MEMORY       "no memory for another configuration"
#define START_SECONDS   30.0 /* for new workers, which do nothing that waits */
#define RELEASE_SECONDS 1.0  /* for old ones: one that stands still must not hold up the rest */

struct succession {
    struct succession_settings settings;
    struct generation_settings making;
    struct generation *newest;   /* of all that live, linked by their age */
    struct generation *serving;  /* NULL: not yet */
    struct generation *starting; /* NULL: none */
    struct generation *leaving;  /* retired, but may still take clients; NULL: none */
    struct generation *failing;  /* given up, but its workers may still live; NULL: none */
    bool is_last;                /* what serves now: there is no reload any more */
    bool is_draining;
    bool is_reading; /* a configuration, before a generation starts */
    struct reader *reader;
    bool again;   /* a reload was asked for meanwhile */
    double began; /* of the reload under way */
    ev_timer patience;
};

/* --- the outcome of a reload ------------------------------------------------------------- */

static void begin(struct succession *s);

static void count(const struct succession *s, enum counter counter)
{
    cell_add(&s->settings.page->slots[0].counts[counter], 1);
}

static void go_on(struct succession *s)
{
    bool again = s->again;

    ev_timer_stop(s->settings.loop, &s->patience);
    s->again = false;
    if (again)
        begin(s);
}

static void say_failed(const struct succession *s, const char *why)
{
    reserve_free();
    count(s, COUNT_RELOADS_FAILED);
    log_error("supervisor", "reload_failed", "why=%s", why);
    if (!s->is_last)
        notify_ready("serving; the last reload failed");
}

static void succeed(struct succession *s)
{
    s->leaving = NULL;
    reserve_free();
    count(s, COUNT_RELOADS_OK);
    log_info("supervisor", "reloaded", "generation=%u seconds=%.3f", s->serving->number,
             clock_now() - s->began);
    go_on(s);
}

/* As long as its workers live they hold its sockets, and a further reload might want the same
 * addresses. */
static void give_up(struct succession *s, const char *why)
{
    ev_timer_stop(s->settings.loop, &s->patience);
    s->failing = s->starting;
    s->starting = NULL;
    generation_give_up(s->failing);
    say_failed(s, why);
}

/* --- events ------------------------------------------------------------------------------ */

static void wait_for(struct succession *s, double seconds)
{
    ev_timer_stop(s->settings.loop, &s->patience);
    ev_timer_set(&s->patience, seconds, 0);
    ev_timer_start(s->settings.loop, &s->patience);
}

static void on_impatience(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct succession *s = timer->data;

    (void)loop;
    (void)events;
    if (s->starting != NULL)
        give_up(s, "the new workers were not ready in time");
    else if (s->leaving != NULL)
        succeed(s);
}

/* The first generation: nobody else could serve. */
static void end(struct succession *s, const char *why)
{
    log_error("supervisor", "start_failed", "why=%s", why);
    s->settings.on_ended(s->settings.owner, 1);
}

static void on_ready(void *owner)
{
    struct generation *g = owner;
    struct succession *s = g->settings->owner;
    struct generation *former = s->serving;
    struct fault fault;

    if (!generation_open(g, former, &fault)) {
        if (former == NULL)
            end(s, fault.text);
        else
            give_up(s, fault.text);
        return;
    }
    s->serving = g;
    s->starting = NULL;
    s->settings.on_serving(s->settings.owner);
    if (former == NULL) {
        go_on(s);
        return;
    }
    s->leaving = former;
    wait_for(s, RELEASE_SECONDS);
    generation_retire(former, g->config->reload_timeout);
}

static void on_failed(void *owner, const char *why)
{
    struct generation *g = owner;
    struct succession *s = g->settings->owner;

    if (s->serving == NULL)
        end(s, why);
    else if (g == s->starting)
        give_up(s, why);
    else
        s->settings.on_ended(s->settings.owner, 1);
}

static void on_emptied(void *owner, size_t place)
{
    generation_leave(owner, place);
}

static bool is_alone(void *owner)
{
    const struct generation *g = owner;
    const struct succession *s = g->settings->owner;

    for (const struct generation *other = s->newest; other != NULL; other = other->older) {
        if (other != g && !crew_is_gone(other->crew))
            return false;
    }
    return true;
}

static void on_released(void *owner)
{
    struct generation *g = owner;
    struct succession *s = g->settings->owner;

    if (g == s->leaving)
        succeed(s);
}

/* --- a new generation -------------------------------------------------------------------- */

/* One that is not here to stay gives its workers' slots back when it is freed. */
static bool find_slots(const struct succession *s, const struct config *config, struct fault *fault)
{
    size_t taken = config->workers;

    for (const struct generation *g = s->newest; g != NULL; g = g->older)
        taken += g->config->workers;
    return taken < s->settings.page->slot_count ||
           fault_set(fault, "%zu workers at a time are more than %zu; wait until old ones finish",
                     taken, s->settings.page->slot_count - 1);
}

static bool make_sources(struct succession *s, const struct config *config, struct fault *fault)
{
    if (config->max_sessions_per_source > 0 && s->making.sources == NULL)
        s->making.sources = sources_new(s->settings.page->slot_count);
    return config->max_sessions_per_source == 0 || s->making.sources != NULL ||
           fault_set(fault, "no memory for --max-sessions-per-source");
}

/* Takes the configuration, also when it fails. */
static bool make(struct succession *s, struct config *config, struct fault *fault)
{
    unsigned number = s->settings.page->generation + 1;
    struct generation *g = NULL;

    if (find_slots(s, config, fault) && make_sources(s, config, fault))
        g = generation_new(&s->making, config, number, fault);
    if (g == NULL) {
        config_free(config);
        return false;
    }
    g->older = s->newest;
    s->newest = s->starting = g;
    return true;
}

static bool start(struct succession *s, struct fault *fault)
{
    generation_warn(s->starting);
    files_forget(); /* a reload reads them again */
    return generation_start(s->starting, fault);
}

static void say_unmade(struct succession *s, const char *why)
{
    files_forget();
    say_failed(s, why);
    go_on(s);
}

/* From the bytes that the reader has handed over. */
static void make_another(struct succession *s)
{
    struct fault fault;
    struct config *config = NULL;

    if (!reserve_keep(reader_memory(s->reader)))
        fault_set(&fault, "%s", NO_MEMORY);
    else
        config = reload_config(s->settings.command, s->serving->config, &fault);
    if (config == NULL || !make(s, config, &fault)) {
        say_unmade(s, fault.text);
        return;
    }
    if (reserve_is_used()) {
        files_forget();
        give_up(s, NO_MEMORY);
        return;
    }
    wait_for(s, START_SECONDS);
    if (!start(s, &fault))
        give_up(s, fault.text);
}

static void on_read(void *owner, const char *why_not)
{
    struct succession *s = owner;

    s->is_reading = false;
    if (why_not != NULL)
        say_unmade(s, why_not);
    else
        make_another(s);
}

static void begin(struct succession *s)
{
    struct fault fault;

    s->began = clock_now();
    notify_reloading();
    s->is_reading = reader_start(s->reader, &fault);
    if (!s->is_reading)
        say_failed(s, fault.text);
}

static bool is_reloading(const struct succession *s)
{
    return s->is_reading || s->starting != NULL || s->leaving != NULL || s->failing != NULL;
}

void succession_reload(struct succession *s)
{
    if (s->is_last)
        say_failed(s, "doppel is draining");
    else if (is_reloading(s))
        s->again = true;
    else
        begin(s);
}

/* --- the whole --------------------------------------------------------------------------- */

struct succession *succession_new(const struct succession_settings *settings)
{
    struct succession *s = xcalloc(1, sizeof *s);

    s->settings = *settings;
    s->making = (struct generation_settings){
        .loop = settings->loop,
        .page = settings->page,
        .groups = listen_groups_new(),
        .descriptors = limits_raise_descriptors(),
        .events = { .on_ready = on_ready,
                    .on_failed = on_failed,
                    .on_released = on_released,
                    .on_emptied = on_emptied,
                    .is_alone = is_alone },
        .owner = s,
    };
    ev_timer_init(&s->patience, on_impatience, 0, 0);
    s->patience.data = s;
    s->reader = reader_new(&(struct reader_settings){
        .loop = settings->loop,
        .command = settings->command,
        .on_done = on_read,
        .owner = s,
    });
    return s;
}

bool succession_prepare(struct succession *s, struct config *config, struct fault *fault)
{
    return make(s, config, fault);
}

bool succession_start(struct succession *s, struct fault *fault)
{
    return start(s, fault);
}

const struct generation *succession_newest(const struct succession *s)
{
    return s->serving != NULL ? s->serving : s->starting;
}

void succession_end(struct succession *s)
{
    s->is_last = true;
    s->again = false;
    if (s->is_reading)
        say_failed(s, "doppel is draining");
    s->is_reading = false;
    reader_stop(s->reader);
}

void succession_drain(struct succession *s)
{
    s->is_draining = true;
    s->leaving = NULL;
    if (s->serving != NULL)
        s->starting = NULL;
    ev_timer_stop(s->settings.loop, &s->patience);
    if (s->serving != NULL)
        listen_groups_give_up(s->making.groups); /* those that are served close place by place */
    else
        listen_groups_close(s->making.groups);
    for (struct generation *g = s->newest; g != NULL; g = g->older)
        generation_drain(g);
}

void succession_kill(struct succession *s)
{
    for (struct generation *g = s->newest; g != NULL; g = g->older)
        generation_kill(g);
}

static void note_death(struct succession *s, pid_t pid, int status)
{
    if (reader_reap(s->reader, pid, status))
        return;
    for (struct generation *g = s->newest; g != NULL; g = g->older) {
        if (crew_reap(g->crew, pid, status))
            return;
    }
}

void succession_reap(struct succession *s)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        note_death(s, pid, status);
}

static bool is_over(const struct generation *g)
{
    return g->state == GENERATION_FINISHING && crew_is_gone(g->crew);
}

/* The newest is kept: its configuration is what the admin endpoint shows. */
static void free_old(struct succession *s)
{
    struct generation **link = &s->newest;

    while (*link != NULL) {
        struct generation *g = *link;

        if (g == succession_newest(s) || !is_over(g)) {
            link = &g->older;
            continue;
        }
        *link = g->older;
        if (g == s->failing)
            s->failing = NULL;
        generation_free(g);
    }
}

static bool all_are_over(const struct succession *s)
{
    for (const struct generation *g = s->newest; g != NULL; g = g->older) {
        if (!is_over(g))
            return false;
    }
    return true;
}

void succession_settle(struct succession *s)
{
    bool was_failing = s->failing != NULL;

    free_old(s);
    if (was_failing && s->failing == NULL)
        go_on(s);
    if (s->is_draining && all_are_over(s))
        s->settings.on_ended(s->settings.owner, 0);
}

void succession_free(struct succession *s)
{
    if (s == NULL)
        return;
    ev_timer_stop(s->settings.loop, &s->patience);
    reader_free(s->reader);
    while (s->newest != NULL) {
        struct generation *g = s->newest;

        s->newest = g->older;
        generation_free(g);
    }
    listen_groups_free(s->making.groups);
    sources_free(s->making.sources);
    free(s);
}
