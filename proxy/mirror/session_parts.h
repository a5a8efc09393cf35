/*
 * session_parts.h — what a session is made of, for the files that move it and for nobody else.
 *
 *     session.c ──▶ admission.c   may this client come
 *               ──▶ legs.c        one turn: bytes between client, primary and shadows
 *               ──▶ timing.c      when it must be looked at although nothing happened
 *               ──▶ session_log.c     what the log says of it before its end
 *     sessions.c ─▶ session.c     all of a worker
 *
 * Every one of them borrows the session for the call; only session_advance() frees it.
 */
#ifndef MIRROR_SESSION_PARTS_H
#define MIRROR_SESSION_PARTS_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "mirror/accounting.h"
#include "mirror/shadow.h"
#include "shared/stats.h"
#include "stream/stream.h"

struct proxy_source;
struct listen_config;
struct mirror;
struct transport;

enum session_state {
    SESSION_RELAYING,
    SESSION_ENDING,
    SESSION_CLOSED,
};

struct session {
    struct mirror              *mirror;
    const struct listen_config *listener;
    struct link                 all;
    struct link                 moved;
    struct link                 hungry; /* by its shadow_memory */
    struct proxy_source        *proxy_source; /* NULL: nobody tells or wants to know */
    struct transport           *client;
    struct transport           *primary;  /* NULL: not dialled */
    struct stream              *request;
    struct stream              *response;
    struct cursor               to_primary;
    struct cursor               to_client;
    ev_timer                    timer;
    double                      armed_for; /* 0: the timer is off */
    double                      started;
    double                      moved_at;
    double                      lost_at;   /* when the client was lost; 0: it is there */
    double                      ended_at;
    double                      first_byte_at; /* the client's; 0: none yet */
    uint64_t                    greeting_bytes; /* what the primary had said by then */
    uint64_t                    asked_at; /* ... and at the client's last byte, or its end */
    double                      dialled_at; /* the client's own connection was open by then */
    float                       connect_seconds;    /* from then on; below 0: unknown */
    float                       first_byte_seconds; /* below 0: unknown */
    uint64_t                    number;
    uint64_t                    progress;
    size_t                      shadow_memory;
    struct counted               counted;
    uint32_t                    epoch;      /* of the runtime settings that it follows */
    enum session_state          state : 8;
    enum session_reason         reason : 8; /* once it is known */
    bool                        reason_is_known : 1;
    bool                        is_admitted : 1;   /* its client's address is known and welcome */
    bool                        is_in_sources : 1; /* counted for its client's address */
    bool                        primary_is_lost : 1;
    bool                        nothing_is_lost : 1; /* by the reset that broke it off */
    bool                        request_is_over : 1;
    bool                        response_is_over : 1;
    uint16_t                    shadow_count;
    struct shadow               shadows[];
};

/* The first reason stays, except that a failure is worth more than a good end.  A reset by which
 * nothing is lost is a good end. */
void session_remember(struct session *, enum session_reason);
/* Whether client and primary still have something to say to each other. */
bool session_is_relaying(const struct session *);
/* Ends it in the middle.  A peer that has had everything we hold for it may see a good end. */
void session_cut(struct session *, enum session_reason);
/* Moves what has come, whatever events have said, without ending it. */
void session_catch_up(struct session *, double now);
/* Brings the counters up to date. */
void session_book(struct session *);
/* The only place where a session moves, and the only place where it is freed. */
void session_advance(struct session *);
/* The same, for transports; owner is the struct session. */
void session_on_ready(void *owner);

#endif
