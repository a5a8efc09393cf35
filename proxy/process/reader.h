/*
 * reader.h — a child process that reads the configuration and all its files first, because files may
 * not answer.
 *
 *     supervisor                                 child
 *        reader_start ──fork──▶                  makes everything that a reload makes from files
 *        serves on                                  │ what it has read, byte by byte
 *        on_done ◀──it ends in good order────────◀──┘
 *                ◀──it says why it cannot be, dies, or a file takes too long
 *
 * Afterwards the supervisor makes the same from the bytes that it was handed (base/files.h), and
 * waits for no file.  A child that cannot even be killed, because its file system does not let go of
 * it, costs nothing but further reloads until it has ended.
 */
#ifndef PROCESS_READER_H
#define PROCESS_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct command;
struct ev_loop;
struct fault;
struct reader;

/* Borrowed, must outlive the reader. */
struct reader_settings {
    struct ev_loop *loop;
    const struct command *command;
    /* NULL: files_read() has it all.  Otherwise why not; good for the call. */
    void (*on_done)(void *owner, const char *why_not);
    void *owner;
};

struct reader *reader_new(const struct reader_settings *);
/* on_done() follows, unless reader_stop() comes first.  False: the fault says why. */
bool reader_start(struct reader *, struct fault *);
/* After on_done(NULL): how many bytes of memory the same may take here. */
size_t reader_memory(const struct reader *);
/* Nobody wants to know any more. */
void reader_stop(struct reader *);
/* This process has ended with that status of waitpid(2).  False: it is not ours. */
bool reader_reap(struct reader *, pid_t, int status);
void reader_free(struct reader *); /* NULL is fine */

#endif
