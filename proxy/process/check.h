/*
 * check.h — would a start with this configuration succeed?  Asked by -t, and before anything starts.
 *
 * It makes nothing, binds nothing and connects to nothing.  What depends on the moment (a port that
 * another program has) or on who asks (a file that only root may write) is not looked at.
 */
#ifndef PROCESS_CHECK_H
#define PROCESS_CHECK_H

#include <stdbool.h>

struct config;
struct config_warnings;
struct fault;

/* What the configuration names is good: certificates, keys, authorities, token, user and group, name
 * servers.  The warnings are those that the log would have at the start.  False: it is a mistake; the
 * fault says which one cannot be used, and why. */
bool check_configuration(const struct config *, struct config_warnings *, struct fault *);

/* This machine has what the configuration wants: places of files and sockets, addresses to listen on.
 * False: the fault says what it lacks, which may be there a moment later (an address, a directory that
 * is mounted): a service manager had better try again. */
bool check_machine(const struct config *, struct fault *);

#endif
