/*
 * own_path.h — a unix socket's path that we made: it is known by what it is, not by its name.
 *
 *     bind(2) ──▶ /run/front.sock ── inode 4711 ◀── own_path
 *
 * Somebody else may have removed the path since, and made another one of the same name: it is not
 * ours to change or to remove.  The inode is kept open (O_PATH of open(2)), so that its number is
 * given to no other file meanwhile.
 */
#ifndef LISTEN_OWN_PATH_H
#define LISTEN_OWN_PATH_H

#include <stdbool.h>
#include <sys/types.h>

/* Embedded; its members are its own. */
struct own_path {
    char *name;
    int   inode; /* -1 with a NULL name: there is none */
};

#define OWN_PATH_NONE ((struct own_path){ .name = NULL, .inode = -1 })

/* Notes what is there now.  False: errno, and there is no path. */
bool own_path_note(struct own_path *, const char *name);
/* Whether the name still leads there. */
bool own_path_is_there(const struct own_path *);
/* The permissions (chmod(2)) of what we made, wherever its name leads now.  False: errno. */
bool own_path_set_mode(const struct own_path *, mode_t mode);
/* Removes the name if it still leads there, and forgets the path; none is fine. */
void own_path_remove(struct own_path *);

/* Programs that look at a path and then make or remove it agree by a lock on its directory
 * (flock(2)).  Answers a descriptor, and close() gives the lock back.  -1: nobody is kept out, because
 * the directory cannot be locked, or somebody has held it for longer than such a moment takes. */
int own_path_lock(const char *name);

#endif
