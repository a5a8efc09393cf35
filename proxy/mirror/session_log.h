/*
 * session_log.h — what the log says of a session before its end: with -v each step, otherwise
 * nothing often.
 */
#ifndef MIRROR_SESSION_LOG_H
#define MIRROR_SESSION_LOG_H

#include <stdint.h>

struct session;
struct shadow;
struct shadow_turn;

/* For -v: the client's address is known; the primary has just been reached. */
void session_log_begun(const struct session *);
void session_log_primary_connected(const struct session *);
/* The reason is known; now is CLOCK_MONOTONIC seconds. */
void session_log_primary_failed(const struct session *, double now);
/* Port scans and wrong clients: nothing that anybody must act upon. */
void session_log_client_failed(const struct session *, double now);
/* The peer is a proxy, or was taken for one: whoever runs it wants to know. */
void session_log_header_refused(const struct session *, const char *why, double now);
/* The client's bytes from this offset on have just come.  TLS that only passes through is noise to a
 * shadow, whether the client begins with it or asks for it first; said once for each listener. */
void session_log_hello(const struct session *, uint64_t from);

/* For -v: it has just been reached. */
void session_log_shadow_connected(const struct shadow *, const struct shadow_turn *);
/* It has been cut off, for its reason: what it was sent so far, and what waited for it. */
void session_log_shadow_cut(const struct shadow *, const struct shadow_turn *);
/* It got a whole session: said once for each shadow, of all workers, so that one can see that it
 * works. */
void session_log_shadow_mirrored(const struct shadow *, const struct shadow_turn *);

#endif
