/*
 * shadow.h — one extra recipient of a session's request bytes.
 *
 *     request stream ──cursor──▶ shadow ──▶ its answer ──▶ nobody
 *
 *     UNDECIDED ──▶ WAITING ──▶ MIRRORING ──▶ FLUSHING ──▶ DETACHED
 *     who is it?    not dialled  dialled       told the end  (any ──▶ DETACHED, with a reason)
 *
 * A shadow may cost memory up to its limit, and nothing else: whatever happens to it, the client
 * and the primary do not notice.  (With overflow = block the operator has chosen otherwise.)  It
 * sees an exact prefix of the client's bytes, from byte 0; once detached it never comes back within
 * the session, because it would have missed bytes.
 */
#ifndef MIRROR_SHADOW_H
#define MIRROR_SHADOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/stats.h"
#include "stream/stream.h"
#include "tls/tls.h"
#include "transport/transport.h"

struct address;
struct mirror;
struct proxy_header;
struct proxy_marks;
struct shadow_config;

enum shadow_state {
    SHADOW_UNDECIDED,
    SHADOW_WAITING,
    SHADOW_MIRRORING,
    SHADOW_FLUSHING,
    SHADOW_DETACHED,
};

/* Embedded in its session; read by accounting.c. */
struct shadow {
    struct mirror              *mirror;
    const struct shadow_config *config;
    struct stream              *request;
    struct transport           *transport;     /* NULL: never dialled */
    struct cursor               cursor;
    double                      progress_at;   /* when it last took a byte, or had none to take */
    double                      linger_until;  /* 0: the session goes on */
    double                      dialled_at;    /* 0: never */
    float                       connect_seconds;    /* below 0: unknown */
    float                       first_byte_seconds; /* below 0: unknown */
    uint64_t                    response_bytes;
    uint64_t                    unacked_bytes;
    uint64_t                    max_lag;
    /* What the counters already hold; see accounting.h. */
    uint64_t counted_offered;
    uint64_t counted_sent;
    uint64_t counted_lost;
    uint64_t counted_skipped;
    uint64_t counted_response;
    uint64_t probe; /* of its breaker; see policy.h */

    enum shadow_state  state : 8;
    enum shadow_result result : 8; /* final once DETACHED */
    enum shadow_reason reason : 8; /* with the result mirrored or detached */
    bool               was_reached : 1;   /* it took a byte, or there was none to take */
    bool               is_held : 1;       /* it has to speak first; see --shadow-greeting */
    bool               is_left_alone : 1; /* it answers, and only many bytes or the end wake us */
    bool               was_reset_at_rest : 1; /* it has gone, and nothing was on its way to it */
    uint16_t           index;             /* in the configuration */
    uint16_t           row;               /* in the page */
};

/* What a shadow must know of its session at each turn. */
struct shadow_turn {
    uint64_t         session;        /* its number, for logs */
    bool             primary_open;   /* no byte leaves, and nothing is dialled, before */
    bool             nothing_is_lost; /* by the reset that broke the session off, if one did */
    double           now;            /* CLOCK_MONOTONIC seconds */
    double           first_byte_at;  /* when the client's first byte came; 0: not yet */
    const struct proxy_header *header; /* for a PROXY header; NULL: nobody wants one */
    const struct proxy_marks  *marks;
    struct tls_hints hints;          /* of the client, for tls:// shadows */
    transport_ready *ready;
    void            *owner;
};

void shadow_begin(struct shadow *, struct mirror *, size_t index, struct stream *request);
/* Decides whether this session is mirrored, before its first byte; then takes its place in the
 * stream. */
void shadow_choose(struct shadow *, const struct address *client, double now);
/* The session is a mirrored one already: it is not mirrored again. */
void shadow_filter(struct shadow *);
/* Moves what can move: dials, sends, tells the end, discards the answer. */
void shadow_relay(struct shadow *, const struct shadow_turn *);
void shadow_rearm(struct shadow *);
/* The next turn tries its socket, whatever events have said. */
void shadow_look_again(struct shadow *);
/* Many small answers do not wake us one by one: this lets those that wait do so now.  To be called
 * from time to time. */
void shadow_listen(struct shadow *);
/* Client and primary are done; the shadow has --shadow-linger left. */
void shadow_session_ended(struct shadow *, const struct shadow_turn *);
/* Cuts it off now, with RST.  Does nothing to one that is detached; one that was not dialled yet
 * because there was no byte for it has the result no_data. */
void shadow_cut(struct shadow *, enum shadow_reason, const struct shadow_turn *);
/* The shadow is paused now: cuts it off, or does not mirror the session at all when it was not
 * dialled yet. */
void shadow_pause(struct shadow *, const struct shadow_turn *);
bool shadow_is_over(const struct shadow *);
/* When shadow_expire() must be called (CLOCK_MONOTONIC seconds); INFINITY: no need. */
double shadow_deadline(const struct shadow *);
void   shadow_expire(struct shadow *, const struct shadow_turn *);
/* Whether a connection was ever begun, so that it has a reason. */
bool shadow_was_dialled(const struct shadow *);
/* How much of what was offered so far is meant for it: all, but for --shadow-max-bytes. */
uint64_t shadow_share(const struct shadow *, uint64_t offered);
void shadow_free(struct shadow *);

#endif
