/*
 * log_file.h — where lines of a log go: a file, or a standard stream, written without waiting.
 *
 * A standard stream is somebody else's, so its description must not be made non-blocking: where that
 * is possible it is opened again, and else each write asks first.  A file is shared with them, and is
 * made to append.
 */
#ifndef BASE_LOG_FILE_H
#define BASE_LOG_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum log_file_way {
    LOG_FILE_OFF,
    LOG_FILE_WRITES, /* a description of our own that does not block, or a file */
    LOG_FILE_SENDS, /* a socket: cannot be opened again, but each call can say that it will not wait */
    LOG_FILE_TRIES,  /* somebody else's description: each write asks first */
};

/* A zeroed one is closed. */
struct log_file {
    char           *said; /* as it was asked for; NULL: closed */
    enum log_file_way way;
    int             fd;
    bool            made; /* the file was not there before */
};

/* "-": the inherited descriptor, "off", or a file.  False: errno says why the file cannot be opened,
 * and it is closed. */
bool log_file_open(struct log_file *, const char *said, int inherited);
void log_file_close(struct log_file *);
bool log_file_is_file(const struct log_file *);

/* As write(2), but never waits: EAGAIN.  One that is off takes everything. */
ssize_t log_file_write(const struct log_file *, const char *bytes, size_t count);

/* Opens the file anew, by name, for the same descriptor.  False: errno says why, and the old one stays
 * in use. */
bool log_file_open_anew(struct log_file *);
/* A file that log_file_open() had to make belongs to this user and group (chown(2)).  False: errno. */
bool log_file_give_to(const struct log_file *, uid_t, gid_t);

#endif
