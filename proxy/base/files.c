/*
 * files.c — a list of what was read, and its way from one process to another: head, path and bytes
 * of each file.
 */
#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"

#define FIRST_ROOM  4096          /* of a file that does not tell its size */
#define NULL_DEVICE makedev(1, 3) /* null(4) */

struct kept {
    struct kept *next;
    int error; /* why it cannot be read; 0: it was */
    struct file file;
    char *bytes;
    char path[];
};

struct head {
    size_t path_length;
    int error;
    unsigned mode;
    size_t length;
};

static struct {
    struct kept *first;
    int writes_to; /* -1: nowhere */
    struct files_progress *progress; /* NULL: nobody asks */
    bool is_taken; /* no file is read here */
} files = { .writes_to = -1 };

/* --- what is kept ------------------------------------------------------------------------ */

static void kept_free(struct kept *kept)
{
    if (kept->bytes != NULL)
        explicit_bzero(kept->bytes, kept->file.length);
    free(kept->bytes);
    free(kept);
}

void files_forget(void)
{
    while (files.first != NULL) {
        struct kept *kept = files.first;

        files.first = kept->next;
        kept_free(kept);
    }
    files.is_taken = false;
}

static struct kept *find(const char *path)
{
    struct kept *kept = files.first;

    while (kept != NULL && strcmp(kept->path, path) != 0)
        kept = kept->next;
    return kept;
}

/* NULL: no memory. */
static struct kept *kept_new(size_t path_length)
{
    return calloc(1, sizeof(struct kept) + path_length + 1);
}

static void keep(struct kept *kept)
{
    kept->file.bytes = kept->bytes;
    kept->next = files.first;
    files.first = kept;
}

/* --- reading ----------------------------------------------------------------------------- */

/* realloc(3) would leave a copy of a secret behind. */
static bool widen(char **bytes, size_t length, size_t room)
{
    char *wider = calloc(1, room + 1);

    if (wider == NULL)
        return false;
    if (*bytes != NULL) {
        memcpy(wider, *bytes, length);
        explicit_bzero(*bytes, length);
    }
    free(*bytes);
    *bytes = wider;
    return true;
}

static ssize_t read_piece(int fd, char *space, size_t size)
{
    ssize_t n;

    do {
        n = read(fd, space, size);
    } while (n < 0 && errno == EINTR);
    return n;
}

/* Answers 0 or an errno.  A file's size is a first guess: it may grow, and those of proc(5) say 0. */
static int read_all(int fd, size_t guess, struct kept *kept)
{
    size_t room = guess < FILES_MAX_BYTES ? guess + 1 : FIRST_ROOM;

    room = room > FIRST_ROOM ? room : FIRST_ROOM;
    while (kept->file.length <= FILES_MAX_BYTES) {
        if ((kept->bytes == NULL || kept->file.length == room) &&
            !widen(&kept->bytes, kept->file.length, kept->bytes == NULL ? room : (room *= 2)))
            return ENOMEM;
        ssize_t n = read_piece(fd, kept->bytes + kept->file.length, room - kept->file.length);
        if (n <= 0)
            return n < 0 ? errno : 0;
        kept->file.length += (size_t)n;
    }
    return EFBIG;
}

static int read_file(struct kept *kept)
{
    struct stat status;
    int fd = open(kept->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return errno;
    int error = fstat(fd, &status) == 0 ? 0 : errno;
    if (error == 0) {
        kept->file.mode = status.st_mode & ALLPERMS;
        error = read_all(fd, status.st_size > 0 ? (size_t)status.st_size : 0, kept);
    }
    close(fd);
    return error;
}

/* 0, or why it is no file for those who cannot wait. */
static int refuse_to_wait(int fd)
{
    struct stat status;

    if (fstat(fd, &status) != 0)
        return errno;
    if (S_ISREG(status.st_mode))
        return status.st_size > FILES_MAX_BYTES ? EFBIG : 0;
    return S_ISCHR(status.st_mode) && status.st_rdev == NULL_DEVICE ? 0 : ENOTSUP;
}

FILE *files_open_now(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0)
        return NULL;
    int error = refuse_to_wait(fd);
    FILE *file = error == 0 ? fdopen(fd, "re") : NULL;
    if (file == NULL) {
        error = error != 0 ? error : errno;
        close(fd);
        errno = error;
    }
    return file;
}

/* --- from one process to another --------------------------------------------------------- */

static void write_all(const void *from, size_t size)
{
    const char *bytes = from;

    while (size > 0) {
        ssize_t n = write(files.writes_to, bytes, size);

        if (n < 0 && errno != EINTR)
            die(1, "cannot hand over what was read: %s", strerrordesc_np(errno));
        bytes += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
}

static void hand_over(const struct kept *kept)
{
    struct head head;

    memset(&head, 0, sizeof head); /* padding, too: it leaves the process */
    head.path_length = strlen(kept->path);
    head.error = kept->error;
    head.mode = kept->file.mode;
    head.length = kept->error == 0 ? kept->file.length : 0;
    write_all(&head, sizeof head);
    write_all(kept->path, head.path_length);
    write_all(kept->bytes, head.length);
}

/* False: an error (errno), or the end (0). */
static bool take(int descriptor, off_t *at, void *space, size_t size)
{
    char *to = space;

    while (size > 0) {
        ssize_t n = pread(descriptor, to, size, *at);

        if (n == 0)
            errno = 0;
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        *at += n > 0 ? n : 0;
        to += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool take_one(int descriptor, off_t *at)
{
    struct head head;

    if (!take(descriptor, at, &head, sizeof head))
        return false;
    struct kept *kept = kept_new(head.path_length);
    if (kept == NULL || !widen(&kept->bytes, 0, head.length)) {
        free(kept);
        errno = ENOMEM;
        return false;
    }
    kept->error = head.error;
    kept->file.mode = head.mode;
    kept->file.length = head.length;
    keep(kept);
    return take(descriptor, at, kept->path, head.path_length) &&
           take(descriptor, at, kept->bytes, head.length);
}

void files_write(int descriptor, struct files_progress *progress)
{
    files.writes_to = descriptor;
    files.progress = progress;
}

bool files_take(int descriptor, struct fault *fault)
{
    off_t at = 0;

    files_forget();
    while (take_one(descriptor, &at))
        continue;
    files.is_taken = true;
    if (errno == 0)
        return true;
    fault_set(fault, "cannot take over what was read: %s", strerrordesc_np(errno));
    files_forget();
    return false;
}

/* --- all of it --------------------------------------------------------------------------- */

static void say_now(const char *path)
{
    if (files.progress == NULL)
        return;
    snprintf(files.progress->path, FILES_NAME_ROOM, "%s", path);
    files.progress->since = clock_now();
}

static struct kept *read_anew(const char *path)
{
    struct kept *kept = kept_new(strlen(path));

    if (kept == NULL)
        return NULL;
    memcpy(kept->path, path, strlen(path));
    say_now(path);
    kept->error = read_file(kept);
    say_now("");
    if (files.writes_to >= 0)
        hand_over(kept);
    keep(kept);
    return kept;
}

const struct file *files_read(const char *path)
{
    struct kept *kept = find(path);

    if (kept == NULL && files.is_taken)
        errno = ESTALE;
    if (kept == NULL && !files.is_taken)
        kept = read_anew(path);
    if (kept == NULL)
        return NULL;
    errno = kept->error;
    return kept->error == 0 ? &kept->file : NULL;
}
