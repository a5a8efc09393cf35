/*
 * files.h — the files that a configuration names, each read once.
 *
 *     files_read ──▶ the file, from its beginning to its end ──▶ kept under its path
 *         └──asked again──▶ the same bytes, also when the path is a pipe, which has no second reading
 *
 *     one process ──files_write──▶ descriptor ──files_take──▶ another one, which reads no file any more
 *
 * Reading blocks as long as the file does (fifo(7), a network file system whose server is gone), so
 * the supervisor, which must not wait, has a child process read.  What is kept holds secrets: it is
 * overwritten before its memory is freed.
 */
#ifndef BASE_FILES_H
#define BASE_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct fault;

#define FILES_NAME_ROOM  512
#define FILES_MAX_BYTES (16 * 1024 * 1024) /* of one file: no certificate store comes near it */

struct file {
    const char *bytes; /* and a zero byte behind them */
    size_t length;
    unsigned mode; /* permissions */
};

/* Lives until files_forget().  NULL: it cannot be read, and errno says why; EFBIG: it is longer than
 * FILES_MAX_BYTES. */
const struct file *files_read(const char *path);
/* Opens a file that is looked at again and again while sessions run.  It never waits for a writer, and
 * what has no end, or more than FILES_MAX_BYTES, is refused: a regular file or /dev/null.  NULL: errno
 * says why. */
FILE *files_open_now(const char *path);

/* Everything that is kept; from now on files are read again. */
void files_forget(void);

/* What a process is at, for others that share its memory. */
struct files_progress {
    char   path[FILES_NAME_ROOM]; /* of the file that it reads, cut to this room; "": none */
    double since;                 /* clock_now() */
};

/* From now on each file is written there when it has been read; when that fails the process ends. */
void files_write(int descriptor, struct files_progress *);
/* Forgets what is kept, and keeps what files_write() wrote there; from now on a file that is not
 * among it cannot be read (ESTALE), until files_forget().  False: the fault says why. */
bool files_take(int descriptor, struct fault *);

#endif
