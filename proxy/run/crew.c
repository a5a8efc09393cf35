/*
 * crew.c — fork, wait for the ready byte, reap, replace.
 *
 *     start_worker ──ready byte──▶ serving ──died──▶ restart timer ──▶ start_worker
 *                                     └──lifeline closed──▶ finishes, exit status 0
 *
 *     supervisor                                        worker
 *        gate      closed: take clients        ───▶     one for the whole crew, until it is open
 *        lifeline  closed: finish              ───▶     one for each
 *        answers   a byte: ready; closed: takes no client any more
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
#include "flow/watch.h"
#include "run/worker.h"

#define QUICK_DEATH_SECONDS 2.0
#define QUICK_DEATHS        3   /* in a row; then restarts are delayed */
#define HOPELESS_DEATHS     6   /* in a row, of every worker: the supervisor gives up */
#define FIRST_RESTART_DELAY 0.5 /* seconds, doubled up to the last */
#define LAST_RESTART_DELAY  30.0

enum crew_state {
    CREW_STARTING,
    CREW_READY,
    CREW_SERVING,
    CREW_FINISHING,
    CREW_FAILED,
};

/* One place for a worker: the process in it changes, its listening sockets stay. */
struct place {
    struct crew *crew;
    size_t       index;
    struct slot *slot;     /* NULL: no process */
    pid_t        pid;      /* 0: no process */
    uint64_t     serial;   /* of that process */
    int          lifeline; /* the write end; -1: closed */
    struct watch answers;  /* its fd is -1 when the worker has said everything */
    bool         is_ready;
    struct fault why;      /* it dies, in its own words; "": it says nothing */
    ev_timer     restart;
    double       started;
    unsigned     quick_deaths; /* in a row */
    unsigned     failed_starts; /* likewise */
};

struct crew {
    struct crew_settings settings;
    enum crew_state      state;
    int                  gate[2]; /* -1: it is open */
    bool                 is_released;
    size_t               count;
    struct place         places[];
};

static void close_and_forget(int *descriptor)
{
    if (*descriptor >= 0)
        close(*descriptor);
    *descriptor = -1;
}

/* --- starting ---------------------------------------------------------------------------- */

static size_t sources_table(const struct place *place)
{
    return (size_t)(place->slot - place->crew->settings.page->slots);
}

/* In the child: nothing of the supervisor is used any more but what the start hands over. */
_Noreturn static void become_worker(struct place *place, int lifeline, int answers)
{
    const struct crew_settings *settings = &place->crew->settings;
    struct worker_start         start = {
        .config = settings->config,
        .page = settings->page,
        .roster = settings->roster,
        .slot = place->slot,
        .rows = settings->rows,
        .serial = place->serial,
        .place = place->index,
        .place_count = settings->place_count,
        .sockets = settings->sockets,
        .bound = settings->bound,
        .limits = settings->limits,
        .tls = settings->tls,
        .logs = *settings->logs,
        .sources = settings->sources,
        .sources_table = sources_table(place),
        .gate = place->crew->gate[0],
        .lifeline = lifeline,
        .answers = answers,
        .parents_loop = settings->loop,
    };

    worker_run(&start);
}

/* The two pipes between us and the child: what each keeps is the other's end. */
static bool make_pipes(int lifeline[2], int answers[2])
{
    if (pipe2(lifeline, O_CLOEXEC) != 0)
        return false;
    if (pipe2(answers, O_CLOEXEC | O_NONBLOCK) == 0)
        return true;
    int error = errno;
    close(lifeline[0]);
    close(lifeline[1]);
    errno = error;
    return false;
}

/* There is no process after all; errno stays what it is. */
static void take_back(struct place *place, const int lifeline[2], const int answers[2])
{
    int error = errno;

    for (int end = 0; end < 2; end++) {
        close(lifeline[end]);
        close(answers[end]);
    }
    page_retire_slot(place->crew->settings.page, place->slot);
    place->slot = NULL;
    place->pid = 0;
    errno = error;
}

/* False: errno. */
static bool start_worker(struct place *place)
{
    struct crew *crew = place->crew;
    struct page *page = crew->settings.page;
    int          lifeline[2];
    int          answers[2];

    if (!make_pipes(lifeline, answers))
        return false;
    place->serial = ++page->workers_started;
    place->started = clock_now();
    place->is_ready = false;
    place->why.text[0] = '\0';
    place->slot = page_take_slot(page, crew->settings.generation, crew->settings.rows,
                                 crew->settings.config->shadow_count);
    assert(place->slot != NULL); /* there is one for each place */
    log_flush();
    place->pid = fork();
    if (place->pid == 0)
        become_worker(place, lifeline[0], answers[1]);
    if (place->pid < 0) {
        take_back(place, lifeline, answers);
        return false;
    }
    close(lifeline[0]);
    close(answers[1]);
    atomic_store(&place->slot->pid, place->pid);
    place->lifeline = lifeline[1];
    watch_change(&place->answers, answers[0], EV_READ);
    return true;
}

static void forget_answers(struct place *place)
{
    watch_stop(&place->answers);
    close_and_forget(&place->answers.io.fd);
}

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

/* A zero byte: it could serve; a sentence: why it ends.  False: there is nothing to hear now. */
static bool hear(struct place *place)
{
    char    said[sizeof place->why.text];
    ssize_t length = read(place->answers.io.fd, said, sizeof said - 1);

    if (length <= 0) {
        if (length == 0 || errno != EAGAIN)
            forget_answers(place);
        if (length < 0 && errno != EAGAIN) /* whatever it has to say, it will not be heard */
            kill(place->pid, SIGKILL);
        return false;
    }
    said[length] = '\0';
    const char *sentence = said + (said[0] == '\0');
    place->is_ready |= said[0] == '\0';
    if (sentence[0] != '\0')
        fault_set(&place->why, "%s", sentence);
    return true;
}

static void on_answer(void *owner, int events)
{
    struct place *place = owner;
    struct crew  *crew = place->crew;

    (void)events;
    hear(place);
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
    if (start_worker(place)) {
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
static bool is_beyond_help(const struct crew *crew)
{
    if (!crew->settings.events.is_alone(crew->settings.events.owner))
        return false;
    for (size_t i = 0; i < crew->count; i++) {
        if (crew->places[i].pid > 0 || crew->places[i].quick_deaths < HOPELESS_DEATHS)
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
    if (is_beyond_help(crew)) {
        log_error("supervisor", "gave_up", "why=%s", "every worker keeps dying");
        fail(crew, "every worker keeps dying");
        return;
    }
    if (place->quick_deaths > QUICK_DEATHS)
        delay = restart_delay(place->quick_deaths - QUICK_DEATHS - 1);
    restart_in(place, delay);
}

static void log_death(const struct place *place, int status)
{
    const char *why = place->why.text[0] != '\0' ? place->why.text : NULL;

    if (WIFSIGNALED(status))
        log_error("supervisor", "worker_died", "signal=%s", sigabbrev_np(WTERMSIG(status)));
    else
        log_error("supervisor", "worker_died", "status=%d why=%s", WEXITSTATUS(status), why);
}

static void bury(struct place *place)
{
    struct crew *crew = place->crew;

    place->pid = 0;
    forget_answers(place);
    close_and_forget(&place->lifeline);
    if (crew->settings.sources != NULL)
        sources_forget(crew->settings.sources, sources_table(place));
    page_retire_slot(crew->settings.page, place->slot);
    place->slot = NULL;
    /* Nobody takes clients there until the next worker looks. */
    atomic_store(&crew->settings.roster->is_full[place->index], true);
}

static void on_death(struct place *place, int status)
{
    struct crew *crew = place->crew;

    while (place->answers.io.fd >= 0 && hear(place))
        continue;
    bury(place);
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
    crew->gate[0] = crew->gate[1] = -1;
    crew->count = count;
    for (size_t i = 0; i < count; i++) {
        struct place *place = &crew->places[i];

        place->crew = crew;
        place->index = i;
        place->lifeline = -1;
        watch_init(&place->answers, settings->loop, -1, on_answer, place, "a worker's answers");
        ev_timer_init(&place->restart, on_restart, 0, 0);
        place->restart.data = place;
    }
    return crew;
}

static bool start_workers(struct crew *crew)
{
    if (pipe2(crew->gate, O_CLOEXEC) != 0)
        return false;
    for (size_t i = 0; i < crew->count; i++) {
        if (!start_worker(&crew->places[i]))
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
    close_and_forget(&crew->gate[0]);
    close_and_forget(&crew->gate[1]);
}

void crew_finish(struct crew *crew)
{
    crew->state = CREW_FINISHING;
    for (size_t i = 0; i < crew->count; i++) {
        struct place *place = &crew->places[i];

        ev_timer_stop(crew->settings.loop, &place->restart);
        close_and_forget(&place->lifeline);
    }
    note_released(crew);
}

void crew_kill(struct crew *crew)
{
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
    close_and_forget(&crew->gate[0]);
    close_and_forget(&crew->gate[1]);
    for (size_t i = 0; i < crew->count; i++) {
        struct place *place = &crew->places[i];

        forget_answers(place);
        ev_timer_stop(crew->settings.loop, &place->restart);
        close_and_forget(&place->lifeline);
    }
    free(crew);
}
