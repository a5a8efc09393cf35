/*
 * crew.c — fork, wait for the ready byte, reap, replace.
 *
 *     start_worker ──ready byte──▶ serving ──died──▶ restart timer ──▶ start_worker
 *                                     └──lifeline closed──▶ finishes, exit status 0
 */
#include "crew.h"

#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/page.h"
#include "base/sources.h"
#include "config/config.h"
#include "run/worker.h"

#define QUICK_DEATH_SECONDS 2.0
#define QUICK_DEATHS        3   /* in a row; then restarts are delayed */
#define HOPELESS_DEATHS     6   /* in a row, of every worker: the supervisor gives up */
#define FIRST_RESTART_DELAY 0.5 /* seconds, doubled up to the last */
#define LAST_RESTART_DELAY  30.0

enum crew_state {
    CREW_STARTING,
    CREW_SERVING,
    CREW_RETIRING,
};

/* One place for a worker: the process in it changes, its listening sockets stay. */
struct place {
    struct crew *crew;
    size_t       index;
    struct slot *slot;     /* NULL: no process */
    pid_t        pid;      /* 0: no process */
    int          lifeline; /* the write end; -1: closed */
    ev_io        ready;    /* its fd is -1 when the worker has answered */
    ev_timer     restart;
    double       started;
    unsigned     quick_deaths; /* in a row */
};

struct crew {
    struct crew_settings settings;
    enum crew_state      state;
    struct sources      *sources; /* NULL: not asked for */
    uint64_t             serial;  /* workers ever started */
    int                 *sockets; /* place by place, one per listener; -1: closed */
    size_t               count;
    struct place         places[];
};

static void close_and_forget(int *descriptor)
{
    if (*descriptor >= 0)
        close(*descriptor);
    *descriptor = -1;
}

static size_t alive(const struct crew *crew)
{
    size_t count = 0;

    for (size_t i = 0; i < crew->count; i++)
        count += crew->places[i].pid > 0;
    return count;
}

/* --- starting ---------------------------------------------------------------------------- */

/* In the child: nothing of the supervisor is used any more but what the start hands over. */
_Noreturn static void become_worker(struct place *place, int lifeline, int ready)
{
    const struct crew_settings *settings = &place->crew->settings;
    struct worker_start         start = {
        .config = settings->config,
        .page = settings->page,
        .slot = place->slot,
        .rows = settings->rows,
        .serial = place->crew->serial,
        .place = place->index,
        .place_count = place->crew->count,
        .sockets = place->crew->sockets,
        .bound = settings->bound,
        .limits = settings->limits,
        .tls = settings->tls,
        .sources = place->crew->sources,
        .lifeline = lifeline,
        .ready = ready,
        .parents_loop = settings->loop,
    };

    worker_run(&start);
}

/* The two pipes between us and the child: what each keeps is the other's end. */
static bool make_pipes(int lifeline[2], int ready[2])
{
    if (pipe2(lifeline, O_CLOEXEC) != 0)
        return false;
    if (pipe2(ready, O_CLOEXEC) == 0)
        return true;
    int error = errno;
    close(lifeline[0]);
    close(lifeline[1]);
    errno = error;
    return false;
}

static bool start_worker(struct place *place)
{
    struct crew *crew = place->crew;
    int          lifeline[2];
    int          ready[2];

    if (!make_pipes(lifeline, ready))
        return false;
    crew->serial++;
    place->started = clock_now();
    place->slot = page_take_slot(crew->settings.page, crew->settings.generation,
                                 crew->settings.rows, crew->settings.config->shadow_count);
    assert(place->slot != NULL); /* there is one for each place */
    log_flush();
    place->pid = fork();
    if (place->pid == 0)
        become_worker(place, lifeline[0], ready[1]);
    close(lifeline[0]);
    close(ready[1]);
    if (place->pid < 0) {
        close(lifeline[1]);
        close(ready[0]);
        page_retire_slot(crew->settings.page, place->slot);
        return false;
    }
    atomic_store(&place->slot->pid, place->pid);
    place->lifeline = lifeline[1];
    ev_io_set(&place->ready, ready[0], EV_READ);
    ev_io_start(crew->settings.loop, &place->ready);
    return true;
}

static void forget_ready_pipe(struct place *place)
{
    ev_io_stop(place->crew->settings.loop, &place->ready);
    close_and_forget(&place->ready.fd);
}

static void on_worker_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct place *place = watcher->data;
    struct crew  *crew = place->crew;
    char          byte;

    (void)loop;
    (void)events;
    bool answered = read(watcher->fd, &byte, 1) == 1;
    forget_ready_pipe(place);
    if (!answered || crew->state != CREW_STARTING)
        return;
    for (size_t i = 0; i < crew->count; i++) {
        if (crew->places[i].ready.fd >= 0)
            return;
    }
    crew->state = CREW_SERVING;
    crew->settings.on_ready(crew->settings.owner);
}

/* --- who watches whose sockets ----------------------------------------------------------- */

static bool is_serving(const struct place *place)
{
    return place->pid > 0 && !ev_is_active(&place->restart);
}

/* A place's own worker, or any that lives. */
static void assign_sockets(struct crew *crew)
{
    for (size_t i = 0; i < crew->count; i++) {
        size_t watcher = i;

        for (size_t j = 0; !is_serving(&crew->places[watcher]) && j < crew->count; j++)
            watcher = is_serving(&crew->places[j]) ? j : watcher;
        atomic_store(&crew->settings.page->watchers[i], (uint32_t)watcher);
    }
}

/* --- dying ------------------------------------------------------------------------------- */

static void restart_later(struct place *place);

static void on_restart(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct place *place = timer->data;

    (void)loop;
    (void)events;
    if (place->crew->state == CREW_RETIRING)
        return;
    if (start_worker(place)) {
        assign_sockets(place->crew);
        return;
    }
    log_error("supervisor", "worker_not_started", "why=%s", strerrordesc_np(errno));
    restart_later(place);
}

/* No worker lives, and each has died again and again. */
static bool is_beyond_help(const struct crew *crew)
{
    for (size_t i = 0; i < crew->count; i++) {
        if (crew->places[i].pid > 0 || crew->places[i].quick_deaths < HOPELESS_DEATHS)
            return false;
    }
    return true;
}

/* At once, unless it keeps dying: then with a delay that doubles. */
static void restart_later(struct place *place)
{
    struct crew *crew = place->crew;
    bool         quick = clock_now() - place->started < QUICK_DEATH_SECONDS;
    double       delay = 0;

    place->quick_deaths = quick ? place->quick_deaths + 1 : 1;
    if (is_beyond_help(crew)) {
        log_error("supervisor", "gave_up", "why=%s", "every worker keeps dying");
        crew->settings.on_gone(crew->settings.owner, 1);
        return;
    }
    if (place->quick_deaths > QUICK_DEATHS)
        delay = ldexp(FIRST_RESTART_DELAY, (int)(place->quick_deaths - QUICK_DEATHS - 1));
    cell_add(&crew->settings.page->slots[0].counts[COUNT_WORKER_RESTARTS], 1);
    ev_timer_set(&place->restart, fmin(delay, LAST_RESTART_DELAY), 0);
    ev_timer_start(crew->settings.loop, &place->restart);
    assign_sockets(crew);
}

static void log_death(int status)
{
    if (WIFSIGNALED(status))
        log_error("supervisor", "worker_died", "signal=%s", sigabbrev_np(WTERMSIG(status)));
    else
        log_error("supervisor", "worker_died", "status=%d", WEXITSTATUS(status));
}

static void on_death(struct place *place, int status)
{
    struct crew *crew = place->crew;

    place->pid = 0;
    forget_ready_pipe(place);
    close_and_forget(&place->lifeline);
    page_retire_slot(crew->settings.page, place->slot);
    if (crew->sources != NULL)
        sources_forget(crew->sources, place->index);
    /* Nobody takes clients there until the next worker looks. */
    atomic_store(&crew->settings.page->is_full[place->index], true);
    place->slot = NULL;
    if (status != 0 || crew->state != CREW_RETIRING)
        log_death(status);
    switch (crew->state) {
    case CREW_STARTING: /* it would only die again; the reason is on stderr */
        crew->settings.on_gone(crew->settings.owner, 1);
        break;
    case CREW_SERVING:
        restart_later(place);
        break;
    case CREW_RETIRING:
        if (alive(crew) == 0)
            crew->settings.on_gone(crew->settings.owner, 0);
        break;
    }
}

void crew_reap(struct crew *crew)
{
    int   status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (size_t i = 0; i < crew->count; i++) {
            if (crew->places[i].pid == pid)
                on_death(&crew->places[i], status);
        }
    }
}

/* --- the whole crew ---------------------------------------------------------------------- */

static struct sources *make_sources(size_t count)
{
    struct sources *sources = sources_new(count);

    if (sources == NULL)
        die(1, "no memory for --max-sessions-per-source");
    return sources;
}

struct crew *crew_new(const struct crew_settings *settings)
{
    size_t       count = settings->config->workers;
    struct crew *crew = xcalloc(1, sizeof *crew + count * sizeof crew->places[0]);

    crew->settings = *settings;
    crew->count = count;
    crew->sockets = xcalloc(count * settings->config->listen_count, sizeof crew->sockets[0]);
    for (size_t i = 0; i < count * settings->config->listen_count; i++)
        crew->sockets[i] = -1;
    if (settings->config->max_sessions_per_source > 0)
        crew->sources = make_sources(count);
    for (size_t i = 0; i < count; i++) {
        struct place *place = &crew->places[i];

        place->crew = crew;
        place->index = i;
        place->lifeline = -1;
        ev_io_init(&place->ready, on_worker_ready, -1, EV_READ);
        ev_timer_init(&place->restart, on_restart, 0, 0);
        place->ready.data = place->restart.data = place;
    }
    return crew;
}

void crew_give_sockets(struct crew *crew, size_t listener, const int *sockets)
{
    for (size_t i = 0; i < crew->count; i++)
        crew->sockets[i * crew->settings.config->listen_count + listener] = sockets[i];
}

bool crew_start(struct crew *crew)
{
    for (size_t i = 0; i < crew->count; i++)
        atomic_store(&crew->settings.page->watchers[i], (uint32_t)i);
    for (size_t i = 0; i < crew->count; i++) {
        if (!start_worker(&crew->places[i])) {
            int error = errno;

            crew_kill(crew);
            errno = error;
            return false;
        }
    }
    return true;
}

static void close_sockets(struct crew *crew)
{
    for (size_t i = 0; i < crew->count * crew->settings.config->listen_count; i++)
        close_and_forget(&crew->sockets[i]);
}

void crew_retire(struct crew *crew)
{
    crew->state = CREW_RETIRING;
    close_sockets(crew);
    for (size_t i = 0; i < crew->count; i++) {
        struct place *place = &crew->places[i];

        ev_timer_stop(crew->settings.loop, &place->restart);
        close_and_forget(&place->lifeline);
    }
    if (alive(crew) == 0)
        crew->settings.on_gone(crew->settings.owner, 0);
}

void crew_kill(struct crew *crew)
{
    for (size_t i = 0; i < crew->count; i++) {
        if (crew->places[i].pid > 0)
            kill(crew->places[i].pid, SIGKILL);
    }
}

void crew_free(struct crew *crew)
{
    if (crew == NULL)
        return;
    close_sockets(crew);
    for (size_t i = 0; i < crew->count; i++) {
        struct place *place = &crew->places[i];

        forget_ready_pipe(place);
        ev_timer_stop(crew->settings.loop, &place->restart);
        close_and_forget(&place->lifeline);
    }
    sources_free(crew->sources);
    free(crew->sockets);
    free(crew);
}
