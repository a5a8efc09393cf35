/*
 * pid_file.c — --pid-file: who the supervisor is, for whoever wants to signal it.
 */
#include "process/pid_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "listen/own_path.h"

#define PID_ROOM 32

static bool may_be_replaced(const char *path)
{
    struct stat about;

    return lstat(path, &about) != 0 || S_ISREG(about.st_mode) || S_ISLNK(about.st_mode);
}

static bool write_number(int file)
{
    char text[PID_ROOM];
    int  length = snprintf(text, sizeof text, "%d\n", (int)getpid());

    errno = EIO; /* for a write that is too short */
    return write(file, text, (size_t)length) == length;
}

/* The directory may be closed to us although somebody has made the file for us. */
static bool write_in_place(const char *path)
{
    struct stat about;
    int         file = open(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (file < 0)
        return false;
    bool written = fstat(file, &about) == 0 && S_ISREG(about.st_mode) && about.st_nlink == 1 &&
                   ftruncate(file, 0) == 0 && write_number(file);
    return close(file) == 0 && written;
}

/* False: errno. */
static bool make(char *temporary, const char *path)
{
    int file = mkostemp(temporary, O_CLOEXEC);

    if (file < 0)
        return false;
    bool made = write_number(file) && fchmod(file, 0644) == 0;
    int  error = errno;
    made = close(file) == 0 && made;
    if (made && rename(temporary, path) == 0)
        return true;
    error = made ? errno : error;
    unlink(temporary);
    errno = error;
    return false;
}

bool pid_file_write(const char *path, struct fault *fault)
{
    size_t room = strlen(path) + sizeof ".XXXXXX";
    char  *temporary = xcalloc(room, 1);

    if (!may_be_replaced(path)) {
        free(temporary);
        return fault_set(fault, "cannot write the pid file %s: it is no regular file", path);
    }
    snprintf(temporary, room, "%s.XXXXXX", path);
    int  lock = own_path_lock(path);
    bool made = make(temporary, path);
    int  error = errno;
    made = made || write_in_place(path);
    if (lock >= 0)
        close(lock);
    free(temporary);
    return made ||
           fault_set(fault, "cannot write the pid file %s: %s", path, strerrordesc_np(error));
}

static bool names_us(const char *path)
{
    char text[PID_ROOM] = "";
    int  file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (file < 0)
        return false;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    return length > 0 && strtol(text, NULL, 10) == getpid();
}

void pid_file_remove(const char *path)
{
    int lock = own_path_lock(path);

    if (names_us(path))
        unlink(path);
    if (lock >= 0)
        close(lock);
}
