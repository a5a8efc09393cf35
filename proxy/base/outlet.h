/*
 * outlet.h — where lines of a log go: a file, or a standard stream, written without waiting.
 *
 * A standard stream is somebody else's, so its description must not be made non-blocking: where that
 * is possible it is opened again, and else each write asks first.  A file is shared with them, and is
 * made to append.
 */
#ifndef BASE_OUTLET_H
#define BASE_OUTLET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum outlet_way {
    OUTLET_OFF,
    OUTLET_WRITES, /* a description of our own that does not block, or a file */
    OUTLET_SENDS, /* a socket: cannot be opened again, but each call can say that it will not wait */
    OUTLET_TRIES,  /* somebody else's description: each write asks first */
};

/* A zeroed one is closed. */
struct outlet {
    char           *said; /* as it was asked for; NULL: closed */
    enum outlet_way way;
    int             fd;
    bool            made; /* the file was not there before */
};

/* "-": the inherited descriptor, "off", or a file.  False: errno says why the file cannot be opened,
 * and it is closed. */
bool outlet_open(struct outlet *, const char *said, int inherited);
void outlet_close(struct outlet *);
bool outlet_is_file(const struct outlet *);

/* As write(2), but never waits: EAGAIN.  One that is off takes everything. */
ssize_t outlet_write(const struct outlet *, const char *bytes, size_t count);

/* Opens the file anew, by name, for the same descriptor.  False: errno says why, and the old one stays
 * in use. */
bool outlet_open_anew(struct outlet *);
/* A file that outlet_open() had to make belongs to this user and group (chown(2)).  False: errno. */
bool outlet_give_to(const struct outlet *, uid_t, gid_t);

#endif
