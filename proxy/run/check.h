/*
 * check.h — would a start with this configuration succeed?  Asked by -t, and before anything starts.
 *
 * It makes nothing, binds nothing and connects to nothing.  What depends on the moment (a port that
 * another program has) or on who asks (a file that only root may write) is not looked at.
 */
#ifndef RUN_CHECK_H
#define RUN_CHECK_H

#include <stdbool.h>

struct config;
struct config_warnings;
struct fault;

/* Certificates, keys, authorities, token, user and group, name servers, places of files and sockets,
 * and addresses to listen on; the warnings are those that the log would have at the start.  False: the
 * fault says which one cannot be used, and why. */
bool check_start(const struct config *, struct config_warnings *, struct fault *);

#endif
