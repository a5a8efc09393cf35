/*
 * process.c — what this process has from whoever started it, and what it makes of that.
 */
#include "process/process.h"

#include <dirent.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/fault.h"
#include "process/limits.h"

static const int ends[] = { SIGTERM, SIGINT, SIGQUIT };
static const int requests[] = { SIGHUP, SIGUSR1, SIGUSR2 };
static const int timers[] = { SIGALRM, SIGVTALRM, SIGPROF }; /* of setitimer(2) */
static const int broken[] = { SIGPIPE, SIGXFSZ };             /* the call fails, too */
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* --- the beginning ----------------------------------------------------------------------- */

static bool fill_standard_streams(struct fault *fault)
{
    for (int stream = 0; stream <= STDERR_FILENO; stream++) {
        /* The lowest number that is free is this one. */
        if (fcntl(stream, F_GETFD) < 0 && open("/dev/null", O_RDWR) != stream)
            return fault_set(fault,
                             "a standard stream is closed, and /dev/null cannot be opened: %s",
                             strerrordesc_np(errno));
    }
    return true;
}

/* Nothing has been made yet that must be removed. */
static void on_early_end(int number)
{
    (void)number;
    _exit(1);
}

static bool set_all(const int *numbers, size_t count, void (*handler)(int))
{
    for (size_t i = 0; i < count; i++) {
        if (signal(numbers[i], handler) == SIG_ERR)
            return false;
    }
    return true;
}

/* What is ignored is thrown away, also while it is blocked. */
static bool set_handlers(void)
{
    return set_all(timers, COUNT(timers), SIG_IGN) && set_all(ends, COUNT(ends), on_early_end) &&
           set_all(requests, COUNT(requests), SIG_DFL) && signal(SIGCHLD, SIG_DFL) != SIG_ERR;
}

static void add_all(sigset_t *set, const int *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sigaddset(set, numbers[i]);
}

static bool hold_requests(void)
{
    sigset_t held;

    sigemptyset(&held);
    add_all(&held, requests, COUNT(requests));
    return sigprocmask(SIG_SETMASK, &held, NULL) == 0;
}

/* libev would abort. */
static void on_loop_error(const char *message)
{
    die(1, "%s: %s", message, strerrordesc_np(errno));
}

bool process_begin(struct fault *fault)
{
    ev_set_syserr_cb(on_loop_error);
    if (!set_handlers() || !hold_requests())
        return fault_set(fault, "cannot set up signals: %s", strerrordesc_np(errno));
    return fill_standard_streams(fault);
}

/* --- the supervisor ---------------------------------------------------------------------- */

int process_open_signals(struct fault *fault)
{
    int      descriptor = -1;
    sigset_t held;

    sigemptyset(&held);
    add_all(&held, requests, COUNT(requests));
    add_all(&held, ends, COUNT(ends));
    sigaddset(&held, SIGCHLD);
    if (sigprocmask(SIG_SETMASK, &held, NULL) == 0)
        descriptor = signalfd(-1, &held, SFD_NONBLOCK | SFD_CLOEXEC);
    if (descriptor < 0)
        fault_set(fault, "cannot watch signals: %s", strerrordesc_np(errno));
    return descriptor;
}

int process_next_signal(int descriptor)
{
    struct signalfd_siginfo about;

    return read(descriptor, &about, sizeof about) == sizeof about ? (int)about.ssi_signo : 0;
}

/* --- a worker ---------------------------------------------------------------------------- */

void process_ignore_signals(void)
{
    sigset_t none;

    sigemptyset(&none);
    if (!set_all(requests, COUNT(requests), SIG_IGN) || !set_all(ends, COUNT(ends), SIG_IGN) ||
        !set_all(broken, COUNT(broken), SIG_IGN) || sigprocmask(SIG_SETMASK, &none, NULL) != 0)
        die(1, "cannot set up signals: %s", strerrordesc_np(errno));
}

/* -1: the name is no number. */
static int number_of(const struct dirent *entry)
{
    char *end;
    long  number = strtol(entry->d_name, &end, 10);

    return end != entry->d_name && *end == '\0' ? (int)number : -1;
}

/* Without /proc, too: ours are the lowest that were free, and so below the limit. */
static void close_one_by_one(int first, int last)
{
    DIR *list = opendir("/proc/self/fd");

    if (list == NULL) {
        int max = (int)limits_raise_descriptors();

        for (int number = first; number <= last && number < max; number++)
            close(number);
        return;
    }
    for (struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        int number = number_of(entry);

        if (number >= first && number <= last && number != dirfd(list))
            close(number);
    }
    closedir(list);
}

/* close_range(2) is as young as Linux 5.9, and older seccomp profiles refuse it. */
static void close_between(int first, int last)
{
    if (first <= last && close_range((unsigned)first, (unsigned)last, 0) != 0)
        close_one_by_one(first, last);
}

static int compare_numbers(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

void process_keep_only(int *kept, size_t count)
{
    int next = 0;

    qsort(kept, count, sizeof kept[0], compare_numbers);
    for (size_t i = 0; i < count; i++) {
        close_between(next, kept[i] - 1);
        next = kept[i] >= next ? kept[i] + 1 : next;
    }
    close_between(next, INT_MAX);
}
