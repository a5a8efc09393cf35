/*
 * mirror.h — what all sessions of a worker share and borrow.
 *
 *     worker ──makes──▶ struct mirror ◀──borrow── session, session, ...
 */
#ifndef MIRROR_MIRROR_H
#define MIRROR_MIRROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/ranks.h"
#include "shared/stats.h"

struct config;
struct dialer;
struct ev_loop;
struct handshakes;
struct page;
struct pipes;
struct reactor;
struct slot;
struct sources;

/* Room for "session=" and a session id: start time in milliseconds, worker serial and count,
 * in hexadecimal. */
#define SESSION_NAME 64

/* Kinds of log lines about one shadow, each with a rate limit of its own. */
struct shadow_limits {
    struct log_limit reasons[SHADOW_REASON_COUNT];
};

struct mirror {
    struct ev_loop       *loop;
    struct reactor       *reactor;
    struct dialer        *dialer;
    struct handshakes    *handshakes;
    struct pool           chunks;
    struct pipes         *pipes;          /* NULL: bytes are copied only */
    const struct config  *config;
    struct page          *page;
    struct slot          *slot;           /* this worker's cells */
    const uint16_t       *rows;           /* of the configuration's shadows in the page */
    struct shadow_limits *shadow_limits;  /* one per shadow */
    struct log_limit      session_limits[SESSION_REASON_COUNT];
    struct log_limit      client_limit;   /* of lines about TLS with clients */
    const char           *session_prefix; /* of session ids: start time and worker serial */

    struct link     sessions;             /* all of this worker */
    struct link     moved;                /* those whose counters are not up to date, */
    struct link     moved_later;          /* and among them: since sessions_book() began */
    uint64_t        session_count;        /* ever */
    size_t          shadow_memory;        /* this worker's part of the shadow memory */
    struct ranks    hungry;               /* sessions by their part of that */
    uint64_t        random;               /* state of the random numbers */
    bool            memory_is_short;      /* sessions_shed_memory() before the next turn */
    uint64_t        epoch;                /* that sessions_apply_runtime() last saw in the page */

    size_t          shadows_open;         /* of this worker */
    size_t          shadows_max;         /* more would take the descriptors of sessions */
    struct sources *sources;              /* NULL: --max-sessions-per-source is off */
    size_t          sources_table;        /* ours in it */

    /* A client has left, so that a paused listener may go on; ports or descriptors have run out, so
     * that it had better wait. */
    void (*on_client_gone)(void *owner);
    void (*on_exhausted)(void *owner);
    void *owner;
};

/* "session=6b1f2c90-1-2a": whose a log line is. */
void session_name(const struct mirror *, uint64_t number, char name[SESSION_NAME]);
/* The id alone, within such a name. */
const char *session_id(const char *name);

#endif
