/*
 * privileges.h — whom root becomes once everything is open, and what remains of root's power.
 *
 *     root ──sockets, logs, pid file, keys──▶ --user ──fork──▶ workers
 *                                               └─ CAP_NET_BIND_SERVICE (and CAP_NET_ADMIN)
 */
#ifndef LISTEN_PRIVILEGES_H
#define LISTEN_PRIVILEGES_H

#include <stdbool.h>

struct config;
struct fault;

/* Looks up --user and --group, for all that follows.  False: the fault says which of them does not
 * exist, or that root is wished for. */
bool privileges_find(const struct config *, struct fault *);
/* Whether this process can become that user, or is it already.  False: only root can. */
bool privileges_are_enough(struct fault *);
/* What we have opened or made will be the user's, too (chown(2)): SO_REUSEPORT lets only sockets of
 * one user join, and a log is to be opened anew.  Without --user nothing happens.  False: errno says
 * why. */
bool privileges_give_descriptor(int descriptor);
bool privileges_give_path(int inode); /* a descriptor of O_PATH (open(2)) */
/* This process, and every process that it starts from here on, is that user, with the groups that
 * the user database gives to its name, without a way back (credentials(7), capabilities(7)): only
 * CAP_NET_BIND_SERVICE is kept, and CAP_NET_ADMIN with --transparent, as far as we had them.  Log
 * files that we made are given away first.  Without --user nothing happens; who is that user already
 * stays it.  False: the kernel refuses. */
bool privileges_drop(const struct config *, struct fault *);

/* With --user: the files of the configuration, keys, certificates and authorities that a reload
 * would read; a warning for each that this process may not. */
void privileges_check_files(const struct config *);

/* Without --core: no core files, and no debugger of the same user, because what clients say would be in
 * them; a warning when the kernel refuses.  With --core: both are allowed, core files as large as the
 * hard limit allows, also after a change of user (PR_SET_DUMPABLE of prctl(2)); a warning says so.
 * Sanitized builds stay as they are, because their leak checker is a debugger. */
void privileges_guard_memory(const struct config *);

#endif
