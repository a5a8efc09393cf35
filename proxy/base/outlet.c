/*
 * outlet.c — where lines of a log go: a file, or a standard stream, written without waiting.
 */
#include "base/outlet.h"

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

ssize_t outlet_write(const struct outlet *outlet, const char *bytes, size_t count)
{
    switch (outlet->way) {
    case OUTLET_OFF:
        break;
    case OUTLET_WRITES:
        return write(outlet->fd, bytes, count);
    case OUTLET_SENDS:
        return send(outlet->fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    case OUTLET_TRIES:
        return try_write(outlet->fd, bytes, count);
    }
    return (ssize_t)count;
}

/* --- opening ----------------------------------------------------------------------------- */

/* A file never says that it would block, so nothing is changed for whoever else writes to it, a shell
 * or a sibling, by sharing its description; and everybody's next line goes to the end. */
static void share_file(struct outlet *outlet, int inherited)
{
    int flags = fcntl(inherited, F_GETFL);

    if (flags >= 0)
        fcntl(inherited, F_SETFL, flags | O_APPEND);
    outlet->fd = fcntl(inherited, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    outlet->way = OUTLET_WRITES;
}

/* O_NONBLOCK must not be set on the inherited description, which a shell or a sibling shares; the
 * same pipe or terminal opened again is ours.  Sockets answer ENXIO, foreign ones EACCES. */
static void open_stream(struct outlet *outlet, int inherited, bool is_socket)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/self/fd/%d", inherited);
    outlet->fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    outlet->way = OUTLET_WRITES;
    if (outlet->fd >= 0)
        return;
    outlet->fd = fcntl(inherited, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    outlet->way = is_socket ? OUTLET_SENDS : OUTLET_TRIES;
}

/* A closed stream is no log. */
static bool open_inherited(struct outlet *outlet, int inherited)
{
    struct stat kind;

    if (fstat(inherited, &kind) != 0)
        return errno == EBADF;
    if (S_ISREG(kind.st_mode))
        share_file(outlet, inherited);
    else
        open_stream(outlet, inherited, S_ISSOCK(kind.st_mode));
    if (outlet->fd < 0)
        outlet->way = OUTLET_OFF;
    return outlet->fd >= 0;
}

/* made: there was no such file before. */
static int open_file(const char *file, bool *made)
{
    int flags = O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
    int fd = open(file, flags);

    *made = fd < 0 && errno == ENOENT;
    return *made ? open(file, flags | O_CREAT, 0640) : fd;
}

bool outlet_open(struct outlet *outlet, const char *said, int inherited)
{
    *outlet = (struct outlet){ .fd = -1 };
    if (strcmp(said, "-") == 0) {
        if (!open_inherited(outlet, inherited))
            return false;
    } else if (strcmp(said, "off") != 0) {
        outlet->fd = open_file(said, &outlet->made);
        if (outlet->fd < 0)
            return false;
        outlet->way = OUTLET_WRITES;
    }
    outlet->said = xstrdup(said);
    return true;
}

void outlet_close(struct outlet *outlet)
{
    if (outlet->way != OUTLET_OFF)
        close(outlet->fd);
    free(outlet->said);
    *outlet = (struct outlet){ .fd = -1 };
}

bool outlet_is_file(const struct outlet *outlet)
{
    return outlet->said != NULL && strcmp(outlet->said, "-") != 0 &&
           strcmp(outlet->said, "off") != 0;
}

bool outlet_open_anew(struct outlet *outlet)
{
    bool made = false;
    int fd = open_file(outlet->said, &made);

    if (fd < 0)
        return false;
    bool replaced = dup3(fd, outlet->fd, O_CLOEXEC) >= 0;
    int error = errno;
    close(fd);
    errno = error;
    return replaced;
}

bool outlet_give_to(const struct outlet *outlet, uid_t user, gid_t group)
{
    return !outlet->made || fchown(outlet->fd, user, group) == 0;
}
