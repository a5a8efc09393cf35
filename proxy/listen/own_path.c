/*
 * own_path.c — a unix socket's path that we made: it is known by what it is, not by its name.
 */
#include "listen/own_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"

#define LOCK_TRIES      200
#define LOCK_TRY_MILLIS 5 /* others hold it for less than one of them */

bool own_path_note(struct own_path *path, const char *name)
{
    *path = OWN_PATH_NONE;
    path->inode = open(name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (path->inode < 0)
        return false;
    path->name = xstrdup(name);
    return true;
}

bool own_path_is_there(const struct own_path *path)
{
    struct stat named;
    struct stat noted;

    return path->name != NULL && lstat(path->name, &named) == 0 &&
           fstat(path->inode, &noted) == 0 && named.st_dev == noted.st_dev &&
           named.st_ino == noted.st_ino;
}

/* fchmod(2) refuses a descriptor of O_PATH; the kernel's own name for it does not. */
bool own_path_set_mode(const struct own_path *path, mode_t mode)
{
    struct stat noted;
    char        name[64];

    if (fstat(path->inode, &noted) == 0 && (noted.st_mode & 07777) == mode)
        return true;
    snprintf(name, sizeof name, "/proc/self/fd/%d", path->inode);
    return chmod(name, mode) == 0;
}

void own_path_remove(struct own_path *path)
{
    if (path->name == NULL)
        return;
    int lock = own_path_lock(path->name);
    if (own_path_is_there(path))
        unlink(path->name);
    if (lock >= 0)
        close(lock);
    close(path->inode);
    free(path->name);
    *path = OWN_PATH_NONE;
}

/* --- the lock ---------------------------------------------------------------------------- */

static int open_directory_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    char       *directory = xstrdup(slash != NULL ? name : ".");

    if (slash != NULL)
        directory[slash == name ? 1 : slash - name] = '\0';
    int opened = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(directory);
    return opened;
}

static bool lock_soon(int directory)
{
    const struct timespec pause = { .tv_nsec = LOCK_TRY_MILLIS * 1000000L };

    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(directory, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK)
            return false;
        nanosleep(&pause, NULL);
    }
    return false;
}

int own_path_lock(const char *name)
{
    int directory = open_directory_of(name);

    if (directory < 0 || lock_soon(directory))
        return directory;
    close(directory);
    return -1;
}
