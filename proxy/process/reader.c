/*
 * reader.c — fork, a deadline for each file, and a page on which the child says how far it is.
 *
 *     idle ──reader_start──▶ reading ──it ends──▶ done
 *                              │ PATIENCE without another file
 *                              ▼
 *                            killed ──it ends, or MERCY──▶ done; what is left of it is reaped some day
 */
#include "process/reader.h"

#include <errno.h>
#include <ev.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/files.h"
#include "base/log.h"
#include "process/process.h"
#include "process/reload.h"

#define PATIENCE_SECONDS 5.0 /* for each file */
#define SPARE_BYTES      (1024 * 1024) /* for what else a reload makes: its generation, its texts */
#define MERCY_SECONDS    1.0 /* for a process that has been killed */

/* Written by the child, in memory that both share. */
struct progress {
    struct files_progress files;
    size_t                memory;   /* that it took */
    bool                  is_whole; /* nothing is missing, nothing is wrong */
    struct fault          fault;
};

struct reader {
    struct reader_settings settings;
    struct progress *progress;
    pid_t pid; /* 0: none lives */
    bool is_wanted;
    bool is_killed;
    int handed;   /* memfd_create(2): what it has read; -1: none */
    off_t length; /* of that, when we last looked */
    ev_timer patience;
};

/* --- the child --------------------------------------------------------------------------- */

static struct progress *own_progress;

static void tell_and_end(const char *sentence)
{
    fault_set(&own_progress->fault, "%s", sentence);
    _exit(1);
}

/* What malloc(3) has from the kernel. */
static size_t heap_size(void)
{
#if __GLIBC_PREREQ(2, 33)
    const struct mallinfo2 heap = mallinfo2();

    return heap.arena + heap.hblkhd;
#else
    return 0;
#endif
}

/* Nothing of the supervisor may live on here, however long that is: no socket, no lifeline. */
_Noreturn static void read_all(const struct reader *reader, pid_t supervisor)
{
    int kept[] = { STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, reader->handed };

    process_ignore_signals();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    process_keep_only(kept, sizeof kept / sizeof kept[0]);
    own_progress = reader->progress;
    die_tells(tell_and_end);
    files_write(reader->handed, &own_progress->files);
    size_t before = heap_size();
    if (getppid() == supervisor)
        own_progress->is_whole = reload_try(reader->settings.command, &own_progress->fault);
    size_t after = heap_size(); /* malloc may have given more back than the files took */
    own_progress->memory = after > before ? after - before : 0;
    _exit(0);
}

/* --- the supervisor ---------------------------------------------------------------------- */

static void wait_for(struct reader *reader, double seconds)
{
    ev_timer_stop(reader->settings.loop, &reader->patience);
    ev_timer_set(&reader->patience, seconds, 0);
    ev_timer_start(reader->settings.loop, &reader->patience);
}

static void forget(struct reader *reader)
{
    ev_timer_stop(reader->settings.loop, &reader->patience);
    reader->is_wanted = false;
    if (reader->handed >= 0)
        close(reader->handed);
    reader->handed = -1;
}

static void finish(struct reader *reader, const char *why_not)
{
    if (!reader->is_wanted)
        return;
    forget(reader);
    reader->settings.on_done(reader->settings.owner, why_not);
}

/* The child may still write to it. */
static void name_file(const struct reader *reader, struct fault *fault)
{
    char path[FILES_NAME_ROOM];

    memcpy(path, reader->progress->files.path, sizeof path);
    path[sizeof path - 1] = '\0';
    fault_set(fault, "%s", path[0] != '\0' ? path : "the configuration");
}

static void give_up(struct reader *reader, const char *also)
{
    struct fault file;
    struct fault why;

    name_file(reader, &file);
    fault_set(&why, "%s: it could not be read within %.0f seconds%s", file.text, PATIENCE_SECONDS,
              also);
    finish(reader, why.text);
}

/* Each file has its own time. */
static void on_impatience(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct reader *reader = timer->data;
    double         left = reader->progress->files.since + PATIENCE_SECONDS - clock_now();

    (void)loop;
    (void)events;
    if (reader->is_killed) {
        give_up(reader, ", and the file system does not let go of the process that reads it");
    } else if (left > 0) {
        wait_for(reader, left);
    } else {
        reader->is_killed = true;
        kill(reader->pid, SIGKILL);
        wait_for(reader, MERCY_SECONDS);
    }
}

static void conclude(struct reader *reader, int status)
{
    struct fault why;

    if (reader->is_killed)
        give_up(reader, "");
    else if (reader->progress->fault.text[0] != '\0')
        finish(reader, reader->progress->fault.text);
    else if (WIFSIGNALED(status) || !reader->progress->is_whole) {
        fault_set(&why, "the process that reads the configuration died (%s)",
                  WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : "exit");
        finish(reader, why.text);
    } else
        finish(reader, files_take(reader->handed, &why) ? NULL : why.text);
}

bool reader_reap(struct reader *reader, pid_t pid, int status)
{
    if (reader->pid != pid)
        return false;
    reader->pid = 0;
    if (reader->is_wanted)
        conclude(reader, status);
    return true;
}

/* --- its life ---------------------------------------------------------------------------- */

struct reader *reader_new(const struct reader_settings *settings)
{
    struct reader *reader = xcalloc(1, sizeof *reader);

    reader->settings = *settings;
    reader->handed = -1;
    ev_timer_init(&reader->patience, on_impatience, 0, 0);
    reader->patience.data = reader;
    reader->progress = mmap(NULL, sizeof *reader->progress, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (reader->progress == MAP_FAILED)
        die(1, "no memory for reloads");
    return reader;
}

static bool start(struct reader *reader)
{
    pid_t supervisor = getpid();

    reader->handed = memfd_create("doppel", MFD_CLOEXEC);
    if (reader->handed < 0)
        return false;
    log_flush();
    reader->pid = fork();
    if (reader->pid == 0)
        read_all(reader, supervisor);
    if (reader->pid > 0)
        return true;
    reader->pid = 0;
    return false;
}

bool reader_start(struct reader *reader, struct fault *fault)
{
    struct fault file;

    if (reader->pid > 0) {
        name_file(reader, &file);
        return fault_set(fault, "an earlier reload still hangs in reading %s", file.text);
    }
    memset(reader->progress, 0, sizeof *reader->progress);
    reader->progress->files.since = clock_now();
    reader->is_killed = false;
    if (!start(reader)) {
        int error = errno;

        forget(reader);
        return fault_set(fault, "cannot start a process that reads the configuration: %s",
                         strerrordesc_np(error));
    }
    reader->is_wanted = true;
    wait_for(reader, PATIENCE_SECONDS);
    return true;
}

size_t reader_memory(const struct reader *reader)
{
    return reader->progress->memory + SPARE_BYTES;
}

void reader_stop(struct reader *reader)
{
    if (reader->pid > 0)
        kill(reader->pid, SIGKILL);
    forget(reader);
}

void reader_free(struct reader *reader)
{
    if (reader == NULL)
        return;
    reader_stop(reader);
    munmap(reader->progress, sizeof *reader->progress);
    free(reader);
}
