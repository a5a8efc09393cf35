/*
 * log_file.c — where lines of a log go: a file, or a standard stream, written without waiting.
 */
#include "base/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fault.h"

/* --- writing ----------------------------------------------------------------------------- */

/* A pipe may be asked for its room; RWF_NOWAIT does that in the call itself where it is known. */
static ssize_t try_write(int fd, const char *bytes, size_t count)
{
    struct iovec piece = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = count };
    ssize_t n = pwritev2(fd, &piece, 1, -1, RWF_NOWAIT);

    if (n >= 0 || errno != EOPNOTSUPP)
        return n;
    struct pollfd room = { .fd = fd, .events = POLLOUT };
    if (poll(&room, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    return write(fd, bytes, count);
}

ssize_t log_file_write(const struct log_file *file, const char *bytes, size_t count)
{
    switch (file->way) {
    case LOG_FILE_OFF:
        break;
    case LOG_FILE_WRITES:
        return write(file->fd, bytes, count);
    case LOG_FILE_SENDS:
        return send(file->fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    case LOG_FILE_TRIES:
        return try_write(file->fd, bytes, count);
    }
    return (ssize_t)count;
}

/* --- opening ----------------------------------------------------------------------------- */

/* A file never says that it would block, so nothing is changed for whoever else writes to it, a shell
 * or a sibling, by sharing its description; and everybody's next line goes to the end. */
static void share_file(struct log_file *file, int inherited)
{
    int flags = fcntl(inherited, F_GETFL);

    if (flags >= 0)
        fcntl(inherited, F_SETFL, flags | O_APPEND);
    file->fd = fcntl(inherited, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    file->way = LOG_FILE_WRITES;
}

/* O_NONBLOCK must not be set on the inherited description, which a shell or a sibling shares; the
 * same pipe or terminal opened again is ours.  Sockets answer ENXIO, foreign ones EACCES. */
static void open_stream(struct log_file *file, int inherited, bool is_socket)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/self/fd/%d", inherited);
    file->fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    file->way = LOG_FILE_WRITES;
    if (file->fd >= 0)
        return;
    file->fd = fcntl(inherited, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    file->way = is_socket ? LOG_FILE_SENDS : LOG_FILE_TRIES;
}

/* A closed stream is no log. */
static bool open_inherited(struct log_file *file, int inherited)
{
    struct stat kind;

    if (fstat(inherited, &kind) != 0)
        return errno == EBADF;
    if (S_ISREG(kind.st_mode))
        share_file(file, inherited);
    else
        open_stream(file, inherited, S_ISSOCK(kind.st_mode));
    if (file->fd < 0)
        file->way = LOG_FILE_OFF;
    return file->fd >= 0;
}

/* made: there was no such file before. */
static int open_file(const char *file, bool *made)
{
    int flags = O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
    int fd = open(file, flags);

    *made = fd < 0 && errno == ENOENT;
    return *made ? open(file, flags | O_CREAT, 0640) : fd;
}

bool log_file_open(struct log_file *file, const char *said, int inherited)
{
    *file = (struct log_file){ .fd = -1 };
    if (strcmp(said, "-") == 0) {
        if (!open_inherited(file, inherited))
            return false;
    } else if (strcmp(said, "off") != 0) {
        file->fd = open_file(said, &file->made);
        if (file->fd < 0)
            return false;
        file->way = LOG_FILE_WRITES;
    }
    file->said = xstrdup(said);
    return true;
}

void log_file_close(struct log_file *file)
{
    if (file->way != LOG_FILE_OFF)
        close(file->fd);
    free(file->said);
    *file = (struct log_file){ .fd = -1 };
}

bool log_file_is_file(const struct log_file *file)
{
    return file->said != NULL && strcmp(file->said, "-") != 0 && strcmp(file->said, "off") != 0;
}

bool log_file_open_anew(struct log_file *file)
{
    bool made = false;
    int fd = open_file(file->said, &made);

    if (fd < 0)
        return false;
    bool replaced = dup3(fd, file->fd, O_CLOEXEC) >= 0;
    int error = errno;
    close(fd);
    errno = error;
    return replaced;
}

bool log_file_give_to(const struct log_file *file, uid_t user, gid_t group)
{
    return !file->made || fchown(file->fd, user, group) == 0;
}
