/*
 * log.c — lines on their way to two sinks, the log and the access log.
 *
 *     log_info(), access_log_write() ──▶ bytes of the sink ──log_flush()──▶ pipe, file, terminal,
 *                                        whole lines, bounded               socket
 *
 * Nothing here waits: what is not taken stays in the sink's bytes, and what does not fit there, or
 * meets an error, is dropped and counted.  The descriptors are never watched by the loop (epoll
 * refuses files, and libev would then poll without rest); the next flush is the next try.
 */
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cell.h"
#include "base/fault.h"
#include "base/log_fields.h"
#include "base/log_file.h"
#include "base/log_record.h"

#define SINK_BYTES (64 * 1024) /* a burst of some hundred lines, as much as a pipe holds */

struct sink {
    const char *name;
    struct log_file file;
    uint64_t dropped; /* lines not yet told about */
    bool failing;     /* the last write met an error */
    bool half_line;   /* the last byte that was taken did not end a line */
    size_t start;     /* bytes[start, length) are still to be written */
    size_t length;
    char bytes[SINK_BYTES];
};

static struct {
    enum log_level level;
    enum log_format format;
    enum log_format access_format;
    _Atomic uint64_t *drops;
    const _Atomic uint64_t *generation; /* another number: the files are to be opened anew */
    uint64_t opened;                    /* the generation of those that are open */
    struct sink log;
    struct sink access;
} logs = {
    .level = LEVEL_INFO,
    .log = { .name = "log" },
    .access = { .name = "access" },
};

static void sink_drop(struct sink *sink, uint64_t lines)
{
    sink->dropped += lines;
    if (logs.drops != NULL)
        cell_add(logs.drops, lines);
}

/* An error: nobody will take these lines. */
static void sink_drop_all(struct sink *sink)
{
    uint64_t lines = 0;

    /* A newline that comes first only ends what was written before. */
    for (size_t i = sink->start + 1; i < sink->length; i++)
        lines += sink->bytes[i] == '\n';
    sink_drop(sink, lines);
    sink->start = 0;
    sink->length = 0;
}

/* As many whole lines as one write(2) may hold. */
static size_t next_piece(const struct sink *sink)
{
    size_t waiting = sink->length - sink->start;
    size_t max = waiting < LOG_RECORD_MAX_BYTES ? waiting : LOG_RECORD_MAX_BYTES;
    const char *from = sink->bytes + sink->start;
    const char *last = memrchr(from, '\n', max);

    return last != NULL ? (size_t)(last - from) + 1 : max;
}

/* True: it was taken, or part of it. */
static bool write_piece(struct sink *sink)
{
    ssize_t n = 0;

    do {
        n = log_file_write(&sink->file, sink->bytes + sink->start, next_piece(sink));
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN) {
        sink->failing = true;
        sink_drop_all(sink);
    }
    if (n <= 0)
        return false;
    sink->failing = false;
    sink->start += (size_t)n;
    sink->half_line = sink->bytes[sink->start - 1] != '\n';
    return true;
}

static void sink_drain(struct sink *sink)
{
    while (sink->start < sink->length && write_piece(sink))
        continue;
    sink->length -= sink->start;
    memmove(sink->bytes, sink->bytes + sink->start, sink->length);
    sink->start = 0;
}

static void sink_add(struct sink *sink, const char *bytes, size_t count)
{
    if (sink->file.way == LOG_FILE_OFF)
        return;
    if (count + 1 > SINK_BYTES - sink->length)
        sink_drain(sink);
    if (count + 1 > SINK_BYTES - sink->length) {
        sink_drop(sink, 1);
        return;
    }
    /* The rest of a half-written line was dropped: end it, or it would swallow this one. */
    if (sink->half_line && sink->length == 0)
        sink->bytes[sink->length++] = '\n';
    memcpy(sink->bytes + sink->length, bytes, count);
    sink->length += count;
}

static void sink_close(struct sink *sink)
{
    log_file_close(&sink->file);
    sink->failing = false;
    sink->half_line = false;
    sink->dropped = 0;
    sink->length = 0;
}

/* --- from one set of options to another -------------------------------------------------- */

struct log_change {
    enum log_level level;
    enum log_format format;
    enum log_format access_format;
    struct log_file log; /* closed: it stays as it is */
    struct log_file access;
};

/* Opens another log file for the sink, unless it is the same. */
static bool prepare(const struct sink *sink, struct log_file *file, const char *said,
                    struct fault *fault)
{
    bool is_log = sink == &logs.log;

    if (sink->file.said != NULL && strcmp(sink->file.said, said) == 0)
        return true;
    return log_file_open(file, said, is_log ? STDERR_FILENO : STDOUT_FILENO) ||
           fault_set(fault, "cannot open the %s file %s: %s", is_log ? "log" : "access log", said,
                     strerror(errno));
}

struct log_change *log_prepare(const struct log_options *options, struct fault *fault)
{
    struct log_change *change = xcalloc(1, sizeof *change);

    change->level = options->level;
    change->format = options->format;
    change->access_format = options->access_format;
    if (prepare(&logs.log, &change->log, options->file, fault) &&
        prepare(&logs.access, &change->access, options->access_file, fault))
        return change;
    log_change_free(change);
    return NULL;
}

/* Takes the log file.  What the former one does not take is told in the log, wherever that is now. */
static void sink_move(struct sink *sink, struct log_file *file)
{
    if (file->said == NULL)
        return;
    sink_drain(sink);
    sink_drop_all(sink);
    uint64_t dropped = sink->dropped;
    sink_close(sink);
    sink->dropped = dropped;
    sink->file = *file;
    *file = (struct log_file){ .fd = -1 };
}

void log_change(struct log_change *change)
{
    logs.level = change->level;
    logs.format = change->format;
    logs.access_format = change->access_format;
    sink_move(&logs.log, &change->log);
    sink_move(&logs.access, &change->access);
    log_change_free(change);
}

void log_change_free(struct log_change *change)
{
    if (change == NULL)
        return;
    log_file_close(&change->log);
    log_file_close(&change->access);
    free(change);
}

/* The old file stays in use when the new one cannot be opened. */
static void sink_open_again(struct sink *sink)
{
    if (!log_file_is_file(&sink->file))
        return;
    if (!log_file_open_anew(&sink->file)) {
        log_warning("log", "not_reopened", "sink=%s file=%s why=%s", sink->name, sink->file.said,
                    strerror(errno));
        return;
    }
    sink->failing = false;
    sink->half_line = false; /* writes to a file are whole, or fail */
}

static void open_again_when_told(void)
{
    uint64_t told = logs.generation != NULL ? atomic_load(logs.generation) : logs.opened;

    if (told == logs.opened)
        return;
    logs.opened = told;
    sink_open_again(&logs.log);
    sink_open_again(&logs.access);
}

bool log_open(const struct log_options *options, struct fault *fault)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file at its size limit costs lines, not the process */
    sink_close(&logs.log);
    sink_close(&logs.access);
    struct log_change *change = log_prepare(options, fault);
    if (change == NULL)
        return false;
    log_change(change);
    return true;
}

void log_after_fork(void)
{
    logs.drops = NULL;
    logs.log.length = 0;
    logs.log.dropped = 0;
    logs.access.length = 0;
    logs.access.dropped = 0;
}

int log_descriptors(int descriptors[4])
{
    int count = 0;

    if (logs.log.file.way != LOG_FILE_OFF)
        descriptors[count++] = logs.log.file.fd;
    if (logs.access.file.way != LOG_FILE_OFF)
        descriptors[count++] = logs.access.file.fd;
    return count;
}

void log_count_drops(_Atomic uint64_t *cell)
{
    logs.drops = cell;
}

void log_follow(const _Atomic uint64_t *generation)
{
    logs.generation = generation;
    if (generation != NULL)
        logs.opened = atomic_load(generation);
}

static void sink_give_to(const struct sink *sink, uid_t user, gid_t group)
{
    if (!log_file_give_to(&sink->file, user, group))
        log_warning("log", "not_given", "file=%s why=%s", sink->file.said, strerror(errno));
}

void log_give_to(uid_t user, gid_t group)
{
    sink_give_to(&logs.log, user, group);
    sink_give_to(&logs.access, user, group);
}

/* Lines go again, and everything that was kept is out: time to say what was not. */
static void tell_drops(struct sink *sink)
{
    uint64_t lines = sink->dropped;

    if (lines == 0 || sink->failing || sink->length > 0)
        return;
    sink->dropped = 0;
    log_warning("log", "dropped", "sink=%s lines=%" PRIu64, sink->name, lines);
}

void log_flush(void)
{
    open_again_when_told();
    sink_drain(&logs.access);
    sink_drain(&logs.log);
    tell_drops(&logs.access);
    tell_drops(&logs.log);
    sink_drain(&logs.log);
}

void log_time(char text[LOG_TIME_TEXT])
{
    struct timespec now;
    struct tm day;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &day);
    size_t length = strftime(text, LOG_TIME_TEXT, "%Y-%m-%dT%H:%M:%S", &day);
    snprintf(text + length, LOG_TIME_TEXT - length, ".%03dZ", (int)(now.tv_nsec / 1000000));
}

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LEVEL_ERROR:
        return "error";
    case LEVEL_WARNING:
        return "warning";
    case LEVEL_INFO:
        return "info";
    case LEVEL_DEBUG:
        return "debug";
    }
    return "";
}

/* "session=ID" is a member of that name in JSON, so that a search for it finds the access log too;
 * in text it stands there as it is. */
static void print_whose(struct log_record *line, const char *whose)
{
    const char *equals = strchr(whose, '=');
    char key[32];

    if (equals == NULL || line->format == FORMAT_TEXT) {
        log_record_word(line, "whose", whose);
        return;
    }
    snprintf(key, sizeof key, "%.*s", (int)(equals - whose), whose);
    log_record_text(line, key, equals + 1);
}

void log_line_start(struct log_record *line, enum log_level level, const char *whose,
                    const char *event)
{
    char now[LOG_TIME_TEXT];

    log_time(now);
    log_record_start(line, logs.format);
    log_record_word(line, "time", now);
    log_record_word(line, "level", level_name(level));
    print_whose(line, whose);
    log_record_word(line, "event", event);
}

void log_line_write(struct log_record *line)
{
    sink_add(&logs.log, line->bytes, log_record_end(line));
}

static void __attribute__((format(printf, 4, 0)))
print_event(enum log_level level, const char *whose, const char *event, const char *format,
            va_list *list)
{
    struct log_record line;

    log_line_start(&line, level, whose, event);
    log_fields_print(&line, format, list);
    log_line_write(&line);
}

bool log_is_on(enum log_level level)
{
    return logs.log.file.way != LOG_FILE_OFF && level <= logs.level;
}

#define PRINT_EVENT(level)                                                                         \
    if (log_is_on(level)) {                                                                        \
        va_list list;                                                                              \
        va_start(list, format);                                                                    \
        print_event(level, whose, event, format, &list);                                           \
        va_end(list);                                                                              \
    }

void log_error(const char *whose, const char *event, const char *format, ...)
{
    PRINT_EVENT(LEVEL_ERROR)
}

void log_warning(const char *whose, const char *event, const char *format, ...)
{
    PRINT_EVENT(LEVEL_WARNING)
}

void log_info(const char *whose, const char *event, const char *format, ...)
{
    PRINT_EVENT(LEVEL_INFO)
}

void log_debug(const char *whose, const char *event, const char *format, ...)
{
    PRINT_EVENT(LEVEL_DEBUG)
}

bool log_limit_passes(struct log_limit *limit, double now, double interval_seconds,
                      uint64_t *suppressed)
{
    if (now < limit->next) {
        limit->suppressed++;
        *suppressed = 0;
        return false;
    }
    *suppressed = limit->suppressed;
    limit->suppressed = 0;
    limit->next = now + interval_seconds;
    return true;
}

bool access_log_is_on(void)
{
    return logs.access.file.way != LOG_FILE_OFF;
}

enum log_format access_log_format(void)
{
    return logs.access_format;
}

void access_log_write(const struct log_record *line)
{
    sink_add(&logs.access, line->bytes, line->length);
}
