/*
 * place.c — fork, two pipes, and what comes through one of them.
 */
#include "process/place.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "process/crew.h"
#include "process/worker.h"
#include "shared/page.h"
#include "shared/sources.h"

static void close_and_forget(int *descriptor)
{
    if (*descriptor >= 0)
        close(*descriptor);
    *descriptor = -1;
}

void place_forget_answers(struct place *place)
{
    watch_stop(&place->answers);
    close_and_forget(&place->answers.io.fd);
}

static size_t sources_table(const struct place *place)
{
    return (size_t)(place->slot - place->settings->page->slots);
}

/* In the child: nothing of the supervisor is used any more but what the start hands over. */
_Noreturn static void become_worker(struct place *place, int start_barrier, int lifeline,
                                    int answers)
{
    const struct crew_settings *settings = place->settings;
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
        .start_barrier = start_barrier,
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
    page_retire_slot(place->settings->page, place->slot);
    place->slot = NULL;
    place->pid = 0;
    errno = error;
}

bool place_start(struct place *place, int start_barrier)
{
    const struct crew_settings *settings = place->settings;
    struct page                *page = settings->page;
    int          lifeline[2];
    int          answers[2];

    if (!make_pipes(lifeline, answers))
        return false;
    place->serial = ++page->workers_started;
    place->started = clock_now();
    place->is_ready = place->is_empty = false;
    place->why.text[0] = '\0';
    place->slot =
        page_take_slot(page, settings->generation, settings->rows, settings->config->shadow_count);
    assert(place->slot != NULL); /* there is one for each place */
    log_flush();
    place->pid = fork();
    if (place->pid == 0)
        become_worker(place, start_barrier, lifeline[0], answers[1]);
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

static void understand(struct place *place, const char *said)
{
    for (; *said == ANSWER_READY[0] || *said == ANSWER_EMPTY[0]; said++) {
        if (*said == ANSWER_READY[0])
            place->is_ready = true;
        else
            place->is_empty = true;
    }
    if (*said != '\0')
        fault_set(&place->why, "%s", said);
}

bool place_hear(struct place *place)
{
    char    said[sizeof place->why.text];
    ssize_t length = read(place->answers.io.fd, said, sizeof said - 1);

    if (length > 0) {
        said[length] = '\0';
        understand(place, said);
        return true;
    }
    if (length == 0 || errno != EAGAIN)
        place_forget_answers(place);
    if (length < 0 && errno != EAGAIN) /* whatever it has to say, it will not be heard */
        kill(place->pid, SIGKILL);
    return false;
}

void place_reap(struct place *place)
{
    const struct crew_settings *settings = place->settings;

    place->pid = 0;
    place_forget_answers(place);
    close_and_forget(&place->lifeline);
    if (settings->sources != NULL)
        sources_forget(settings->sources, sources_table(place));
    page_retire_slot(settings->page, place->slot);
    place->slot = NULL;
    /* Nobody takes clients there until the next worker looks. */
    atomic_store(&settings->roster->is_full[place->index], true);
}

void place_finish(struct place *place)
{
    close_and_forget(&place->lifeline);
}

void place_init(struct place *place, const struct crew_settings *settings, size_t index)
{
    place->settings = settings;
    place->index = index;
    place->lifeline = -1;
}
