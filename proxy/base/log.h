/*
 * log.h — one event, one line: time, level, whose, what; and it never waits for a reader.
 *
 *     2026-11-21T10:00:00.123Z info supervisor listening listener=:8080 address=[::]:8080
 *     {"time":"...","level":"info","whose":"supervisor","event":"listening","listener":":8080",...}
 *
 * There are two sinks, the log and the access log.  Each process writes its sinks through open file
 * descriptions of its own that do not block: a line that nobody takes is dropped and counted, and
 * once lines go again one line in the log says how many were lost, for both sinks.  Lines are
 * gathered until log_flush(), which writes at most LOG_RECORD_MAX_BYTES at a time, and one write(2) never
 * holds half a line.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log_record.h"

struct fault;
struct log_change;

enum log_level {
    LEVEL_ERROR,
    LEVEL_WARNING,
    LEVEL_INFO,
    LEVEL_DEBUG,
};

struct log_options {
    enum log_level  level;
    enum log_format format;
    const char     *file;        /* "-": stderr, "off" */
    const char     *access_file; /* "-": stdout, "off" */
    enum log_format access_format;
};

/* Opens both sinks; borrows the options for the call.  False: a file cannot be opened.  Call it in
 * the supervisor, before privileges are dropped; workers inherit the descriptors and call
 * log_after_fork().  From here on the process ignores SIGPIPE: a reader may go at any time. */
bool log_open(const struct log_options *, struct fault *);
/* Makes ready what these options change, beside what is in use: a sink whose file is the same stays.
 * NULL: a file cannot be opened.  Either log_change() or log_change_free() follows. */
struct log_change *log_prepare(const struct log_options *, struct fault *);
/* From now on this process logs like that; takes the change. */
void log_change(struct log_change *);
void log_change_free(struct log_change *); /* NULL is fine */
/* A worker's lines must not be written through the parent's half-filled buffers. */
void log_after_fork(void);
/* The descriptors in use, so that a worker can keep them while closing everything else: writes up
 * to 4 numbers, answers how many. */
int  log_descriptors(int descriptors[4]);
/* Where dropped lines are counted (COUNT_LOG_DROPPED of this process); NULL: nowhere yet. */
void log_count_drops(_Atomic uint64_t *cell);
/* The files of both sinks are opened anew, by name, whenever this number has changed: compared at
 * each flush, before anything is written.  One that cannot be opened is a warning, and the old one
 * stays in use.  Stderr and stdout stay what they are.  NULL: never again. */
void log_follow(const _Atomic uint64_t *generation);
/* Files that log_open() had to make belong to this user and group from now on (chown(2)), so that
 * they can be opened anew without privileges. */
void log_give_to(uid_t user, gid_t group);
/* Writes what is gathered, as far as it is taken without waiting.  Call at the end of each turn of
 * the loop, and before exit. */
void log_flush(void);

/* The line's members after the event are made by the format: "key=%s key2=%u".  Each value is
 * escaped as a whole, so a conversion must stand alone behind its '=': `key=%s`; a value may hold
 * blanks.  An event without members has the format " ".  whose is "supervisor", "worker 2",
 * "session=6b1f2c90-1-2a" and the like; "name=value" becomes a member of that name in JSON. */
#define LOG_PRINTS __attribute__((format(printf, 3, 4)))
void log_error(const char *whose, const char *event, const char *format, ...) LOG_PRINTS;
void log_warning(const char *whose, const char *event, const char *format, ...) LOG_PRINTS;
void log_info(const char *whose, const char *event, const char *format, ...) LOG_PRINTS;
void log_debug(const char *whose, const char *event, const char *format, ...) LOG_PRINTS;
#undef LOG_PRINTS
bool log_is_on(enum log_level);
/* For an event whose members are a list or of unknown number: start, add members (base/log_record.h),
 * write.  The caller asks log_is_on() first. */
void log_line_start(struct log_record *, enum log_level, const char *whose, const char *event);
void log_line_write(struct log_record *);

/* One kind of warning may come at most once in this many seconds; what was held back is said with
 * the next one ("suppressed=12").  Zero-initialise one per kind; now is CLOCK_MONOTONIC seconds. */
struct log_limit {
    double   next;
    uint64_t suppressed;
};
/* True: write it now; *suppressed is how many were held back since the last. */
bool log_limit_passes(struct log_limit *, double now, double interval_seconds,
                      uint64_t *suppressed);

/* The access log.  A finished line (log_record_end() was called) is taken over by copy. */
bool            access_log_is_on(void);
enum log_format access_log_format(void);
void            access_log_write(const struct log_record *);

/* "2026-11-21T10:00:00.123Z" for this moment. */
#define LOG_TIME_TEXT 32
void log_time(char text[LOG_TIME_TEXT]);

#endif
