/*
 * crew.c — which worker is started, replaced, or given up.
 *
 *     place_start ──ready──▶ serving ──died──▶ restart timer ──▶ place_start
 *                               └──lifeline closed──▶ finishes, exit status 0
 *                                                        └──killed while it drains──▶ place_start
 */
#include "crew.h"

#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "config/config.h"
#include "process/place.h"
#include "shared/page.h"

#define QUICK_DEATH_SECONDS 2.0
#define QUICK_DEATHS        3   /* in a row; then restarts are delayed */
#define CRASH_LOOP_DEATHS     6   /* in a row, of every worker: the supervisor gives up */
#define FIRST_RESTART_DELAY 0.5 /* seconds, doubled up to the last */
#define LAST_RESTART_DELAY  30.0

enum crew_state {
    CREW_STARTING,
    CREW_READY,
    CREW_SERVING,
    CREW_FINISHING,
    CREW_FAILED,
};

struct crew {
    struct crew_settings settings;
    enum crew_state      state;
    int                  start_barrier[2]; /* -1: it is open */
    bool                 is_released;
    bool                 is_draining; /* what waits is served, whoever dies */
    bool                 is_killed;
    size_t               count;
    struct place         places[];
};

static void close_start_barrier(struct crew *crew)
{
    for (int end = 0; end < 2; end++) {
        if (crew->start_barrier[end] >= 0)
            close(crew->start_barrier[end]);
        crew->start_barrier[end] = -1;
    }
}

/* --- what workers say -------------------------------------------------------------------- */

static void note_ready(struct crew *crew)
{
    for (size_t i = 0; i < crew->count; i++) {
        if (!crew->places[i].is_ready)
            return;
    }
    crew->state = CREW_READY;
    crew->settings.events.on_ready(crew->settings.events.owner);
}

/* Each worker has left the sockets, or is gone. */
static void note_released(struct crew *crew)
{
    if (crew->is_released)
        return;
    for (size_t i = 0; i < crew->count; i++) {
        if (crew->places[i].answers.io.fd >= 0)
            return;
    }
    crew->is_released = true;
    crew->settings.events.on_released(crew->settings.events.owner);
}

static bool watches(const struct place *place, size_t sockets)
{
    return atomic_load(&place->crew->settings.roster->watchers[sockets]) == place->index;
}

/* What waited at its sockets has been taken, or nobody will take it. */
static void note_emptied(struct place *place)
{
    const struct crew_settings *settings = &place->crew->settings;

    if (place->has_emptied || !place->crew->is_draining)
        return;
    place->has_emptied = true;
    for (size_t i = 0; i < settings->place_count; i++) {
        if (watches(place, i))
            settings->events.on_emptied(settings->events.owner, i);
    }
}

static void on_answer(void *owner, int events)
{
    struct place *place = owner;
    struct crew  *crew = place->crew;

    (void)events;
    place_hear(place);
    if (place->is_empty)
        note_emptied(place);
    if (crew->state == CREW_STARTING)
        note_ready(crew);
    if (crew->state == CREW_FINISHING)
        note_released(crew);
}

/* --- who watches whose sockets ----------------------------------------------------------- */

static bool is_serving(const struct place *place)
{
    return place->pid > 0 && !ev_is_active(&place->restart);
}

/* A place's own worker, or any that lives; places beyond the workers are dealt out. */
static void assign_sockets(struct crew *crew)
{
    assert(crew->count > 0);
    for (size_t i = 0; i < crew->settings.place_count; i++) {
        size_t watcher = i % crew->count;

        for (size_t j = 0; !is_serving(&crew->places[watcher]) && j < crew->count; j++)
            watcher = is_serving(&crew->places[j]) ? j : watcher;
        atomic_store(&crew->settings.roster->watchers[i], (uint32_t)watcher);
    }
}

/* --- dying ------------------------------------------------------------------------------- */

/* Doubled each time. */
static double restart_delay(unsigned time)
{
    return fmin(ldexp(FIRST_RESTART_DELAY, (int)time), LAST_RESTART_DELAY);
}

static void restart_in(struct place *place, double seconds)
{
    ev_timer_set(&place->restart, seconds, 0);
    ev_timer_start(place->crew->settings.loop, &place->restart);
    assign_sockets(place->crew);
}

/* What is missing to start one, descriptors or processes, may be there again at any time. */
static void on_restart(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct place *place = timer->data;

    (void)loop;
    (void)events;
    if (place->crew->state == CREW_FINISHING)
        return;
    if (place_start(place, place->crew->start_barrier[0])) {
        place->failed_starts = 0;
        cell_add(&place->crew->settings.page->slots[0].counts[COUNT_WORKER_RESTARTS], 1);
        assign_sockets(place->crew);
        return;
    }
    log_error("supervisor", "worker_not_started", "why=%s", strerrordesc_np(errno));
    restart_in(place, restart_delay(place->failed_starts++));
}

/* No worker lives, and each has died again and again.  As long as a former configuration has sessions
 * they are worth waiting for. */
static bool is_crash_loop(const struct crew *crew)
{
    if (!crew->settings.events.is_alone(crew->settings.events.owner))
        return false;
    for (size_t i = 0; i < crew->count; i++) {
        if (crew->places[i].pid > 0 || crew->places[i].quick_deaths < CRASH_LOOP_DEATHS)
            return false;
    }
    return true;
}

static void fail(struct crew *crew, const char *why)
{
    crew->state = CREW_FAILED;
    crew->settings.events.on_failed(crew->settings.events.owner, why);
}

/* It would only die again. */
static void fail_at_start(const struct place *place, int status)
{
    const char  *said = place->why.text[0] != '\0' ? place->why.text : NULL;
    struct fault why;

    if (said == NULL && WIFSIGNALED(status))
        said = sigabbrev_np(WTERMSIG(status));
    fault_set(&why, "a worker died before it was ready%s%s", said != NULL ? ": " : "",
              said != NULL ? said : "");
    fail(place->crew, why.text);
}

/* At once, unless it keeps dying: then with a delay that doubles. */
static void restart_later(struct place *place)
{
    struct crew *crew = place->crew;
    bool         quick = clock_now() - place->started < QUICK_DEATH_SECONDS;
    double       delay = 0;

    place->quick_deaths = quick ? place->quick_deaths + 1 : 1;
    if (is_crash_loop(crew)) {
        log_error("supervisor", "gave_up", "why=%s", "every worker keeps dying");
        fail(crew, "every worker keeps dying");
        return;
    }
    if (place->quick_deaths > QUICK_DEATHS)
        delay = restart_delay(place->quick_deaths - QUICK_DEATHS - 1);
    restart_in(place, delay);
}

/* --- dying while draining ----------------------------------------------------------------- */

static bool has_queues(const struct place *place)
{
    for (size_t i = 0; i < place->crew->settings.place_count; i++) {
        if (watches(place, i))
            return true;
    }
    return false;
}

/* There is no worker here: another one takes what waits at the sockets, and ends. */
static void take_over(struct place *place)
{
    struct crew *crew = place->crew;

    if (!crew->is_draining || crew->is_killed || place->has_emptied || !has_queues(place))
        return;
    if (place->quick_deaths++ >= QUICK_DEATHS ||
        !place_start(place, place->crew->start_barrier[0])) {
        note_emptied(place);
        return;
    }
    cell_add(&crew->settings.page->slots[0].counts[COUNT_WORKER_RESTARTS], 1);
    place_finish(place);
}

static void log_death(const struct place *place, int status)
{
    const char *why = place->why.text[0] != '\0' ? place->why.text : NULL;

    if (WIFSIGNALED(status))
        log_error("supervisor", "worker_died", "signal=%s", sigabbrev_np(WTERMSIG(status)));
    else
        log_error("supervisor", "worker_died", "status=%d why=%s", WEXITSTATUS(status), why);
}

static void on_death(struct place *place, int status)
{
    struct crew *crew = place->crew;

    while (place->answers.io.fd >= 0 && place_hear(place))
        continue;
    if (place->is_empty)
        note_emptied(place);
    place_reap(place);
    if (crew->state != CREW_FAILED && (status != 0 || crew->state != CREW_FINISHING))
        log_death(place, status);
    switch (crew->state) {
    case CREW_STARTING:
    case CREW_READY:
        fail_at_start(place, status);
        break;
    case CREW_SERVING:
        restart_later(place);
        break;
    case CREW_FINISHING:
        take_over(place);
        note_released(crew);
        break;
    case CREW_FAILED:
        break;
    }
}

bool crew_reap(struct crew *crew, pid_t pid, int status)
{
    for (size_t i = 0; i < crew->count; i++) {
        if (crew->places[i].pid == pid) {
            on_death(&crew->places[i], status);
            return true;
        }
    }
    return false;
}

/* --- the whole crew ---------------------------------------------------------------------- */

struct crew *crew_new(const struct crew_settings *settings)
{
    size_t       count = settings->config->workers;
    struct crew *crew = xcalloc(1, sizeof *crew + count * sizeof crew->places[0]);

    crew->settings = *settings;
    crew->start_barrier[0] = crew->start_barrier[1] = -1;
    crew->count = count;
    for (size_t i = 0; i < count; i++) {
        struct place *place = &crew->places[i];

        place->crew = crew;
        place_init(place, &crew->settings, i);
        watch_init(&place->answers, settings->loop, -1, on_answer, place, "a worker's answers");
        ev_timer_init(&place->restart, on_restart, 0, 0);
        place->restart.data = place;
    }
    return crew;
}

static bool start_workers(struct crew *crew)
{
    if (pipe2(crew->start_barrier, O_CLOEXEC) != 0)
        return false;
    for (size_t i = 0; i < crew->count; i++) {
        if (!place_start(&crew->places[i], crew->start_barrier[0]))
            return false;
    }
    assign_sockets(crew);
    return true;
}

bool crew_start(struct crew *crew, struct fault *fault)
{
    if (start_workers(crew))
        return true;
    fault_set(fault, "cannot start a worker: %s", strerrordesc_np(errno));
    crew_give_up(crew);
    return false;
}

void crew_open(struct crew *crew)
{
    assert(crew->state == CREW_READY);
    crew->state = CREW_SERVING;
    atomic_store(&crew->settings.roster->order, ORDER_SERVE);
    close_start_barrier(crew);
}

void crew_finish(struct crew *crew)
{
    crew->is_draining =
        crew->state == CREW_SERVING && atomic_load(&crew->settings.roster->order) == ORDER_DRAIN;
    crew->state = CREW_FINISHING;
    for (size_t i = 0; i < crew->count; i++) {
        struct place *place = &crew->places[i];

        ev_timer_stop(crew->settings.loop, &place->restart);
        place_finish(place);
        if (place->pid == 0)
            take_over(place);
    }
    note_released(crew);
}

void crew_kill(struct crew *crew)
{
    crew->is_killed = true;
    for (size_t i = 0; i < crew->count; i++) {
        if (crew->places[i].pid > 0)
            kill(crew->places[i].pid, SIGKILL);
    }
}

void crew_give_up(struct crew *crew)
{
    crew->state = CREW_FAILED;
    crew_kill(crew);
}

bool crew_is_gone(const struct crew *crew)
{
    for (size_t i = 0; i < crew->count; i++) {
        if (crew->places[i].pid > 0)
            return false;
    }
    return true;
}

void crew_free(struct crew *crew)
{
    if (crew == NULL)
        return;
    close_start_barrier(crew);
    for (size_t i = 0; i < crew->count; i++) {
        struct place *place = &crew->places[i];

        place_forget_answers(place);
        ev_timer_stop(crew->settings.loop, &place->restart);
        place_finish(place);
    }
    free(crew);
}
