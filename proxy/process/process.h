/*
 * process.h — what this process has from whoever started it, and what it makes of that.
 *
 *     main ──process_begin──▶ configuration ──process_open_signals──▶ supervisor ──fork──▶ worker
 *          TERM, INT, QUIT: exit 1           signals wait in a descriptor       signals are ignored
 *          HUP, USR1, USR2: wait             until the loop reads them
 *
 * Signal mask, ignored signals, timers and closed standard streams survive execve(2), and parents
 * leave them as it suits them; from process_begin() on they are as if nobody had touched them.  What
 * an operator sets on purpose stays: umask, resource limits (only the soft limit of descriptors is
 * raised, process/limits.h), priority, the working directory, to which paths in the configuration are
 * relative, the parent-death signal, and further open descriptors in the supervisor: a lock may
 * hang on one.
 */
#ifndef PROCESS_PROCESS_H
#define PROCESS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>

struct fault;

/* Call it first.  Closed standard streams become /dev/null, so that no socket gets their numbers.
 * No signal is blocked but HUP, USR1 and USR2, which would kill us and so wait for
 * process_open_signals(); they also do so when they were ignored: nohup(1) wants a program that
 * outlives its terminal, and doppel never ends by a HUP.  TERM, INT and QUIT end the process with 1,
 * also as process 1 of a container.  The signals of timers (setitimer(2)) are ignored: only the
 * parent can have set one.  False: the fault says why. */
bool process_begin(struct fault *);

/* From now on signals neither end the process nor interrupt it.  TERM, INT, QUIT, HUP, USR1, USR2 and
 * CHLD wait in a non-blocking descriptor (signalfd(2)), which the caller owns.  -1: the fault says
 * why. */
int process_open_signals(struct fault *);
/* The next one that waits there; 0: none. */
int process_next_signal(int descriptor);

/* In the fresh child: signals are for the supervisor, and are ignored here. */
void process_ignore_signals(void);
/* In the fresh child: closes all descriptors but these, which are sorted meanwhile.  Siblings'
 * sockets and pipes must not live on here: their end-of-file would never come. */
void process_keep_only(int *kept, size_t count);

#endif
