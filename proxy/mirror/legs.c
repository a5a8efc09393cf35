/*
 * legs.c — one turn of a session, always in this order.
 *
 *     1  client ──fill──▶ request ──cursor──▶ primary
 *     2  client ◀──cursor── response ◀──fill── primary
 *     3                      request ──cursors──▶ shadows
 *
 * What a leg's failure means is decided in two places only: lose_client() and lose_primary().  Both
 * keep what had been received before for whoever is still there.  A direction is over when its
 * consumer has been told the end or is gone.
 */
#include "legs.h"

#include "config/config.h"
#include "dial/dial.h"
#include "mirror/mirror.h"
#include "mirror/proxy_source.h"
#include "mirror/reason.h"
#include "mirror/session_log.h"
#include "mirror/session_parts.h"
#include "mirror/shadow.h"
#include "shared/page.h"
#include "stream/stream.h"
#include "transport/transport.h"

/* The primary has said something since the client last spoke: what it was asked, it has answered, as
 * far as anybody can tell who does not know the protocol. */
static bool has_answered(const struct session *s)
{
    return stream_total(s->request) > 0 && stream_total(s->response) > s->asked_at;
}

/* Some programs end every session with a reset. */
static bool client_had_all(const struct session *s)
{
    return transport_was_reset_at_rest(s->client) && !s->primary_is_lost && has_answered(s) &&
           cursor_lag(&s->to_client) == 0;
}

/* Nobody is left to answer.  What the client sent before is still read, for the others. */
static void lose_client(struct session *s, double now)
{
    if (s->lost_at > 0)
        return;
    s->nothing_is_lost = client_had_all(s);
    s->lost_at = now;
    session_remember(s, s->nothing_is_lost ? SESSION_CLIENT_RST_DELIVERED
                                           : reason_of_client(transport_failure(s->client)));
    if (s->reason == SESSION_TLS_CLIENT)
        session_log_client_failed(s, now);
    if (s->reason == SESSION_PROXY_HEADER)
        session_log_header_refused(s, transport_why(s->client), now);
    stream_break(s->response);
    stream_detach(&s->to_client);
    s->response_is_over = true;
}

/* The client has been answered, has finished, and has heard nothing since: nobody waits.  Servers that
 * are done reset when the client's last words come too late for them. */
static bool client_is_done(const struct session *s)
{
    return stream_ending(s->request) == ENDED_FIN && s->asked_at > s->greeting_bytes &&
           !has_answered(s);
}

/* One that could not go on because the client reads too slowly was not done with its answer. */
static bool primary_had_all(const struct session *s)
{
    return transport_was_reset_at_rest(s->primary) && has_answered(s) &&
           cursor_lag(&s->to_primary) == 0 && stream_room(s->response) > 0;
}

static bool primary_may_go(const struct session *s)
{
    return s->primary != NULL && s->lost_at == 0 &&
           transport_failure(s->primary) == FAILURE_RESET &&
           (primary_had_all(s) || client_is_done(s));
}

static void note_lost_primary(struct session *s, double now)
{
    session_remember(s, reason_of_primary(s->primary != NULL ? transport_failure(s->primary)
                                                             : FAILURE_NO_MEMORY));
    if (s->reason != SESSION_PRIMARY_FIN && s->lost_at == 0)
        session_log_primary_failed(s, now);
    if (s->reason == SESSION_NO_PORT || s->reason == SESSION_NO_DESCRIPTOR)
        s->mirror->on_exhausted(s->mirror->owner);
}

/* Nobody is left to ask.  What the primary answered before is still read, for the client. */
static void lose_primary(struct session *s, double now)
{
    if (s->primary_is_lost)
        return;
    s->primary_is_lost = true;
    if (primary_may_go(s)) {
        s->nothing_is_lost = true;
        session_remember(s, SESSION_PRIMARY_RST_DELIVERED);
    } else {
        note_lost_primary(s, now);
    }
    stream_break(s->request);
    stream_detach(&s->to_primary);
    s->request_is_over = true;
    if (s->primary == NULL)
        s->response_is_over = true; /* nothing will ever come: the client is reset */
    else if (s->response_is_over)
        transport_abort(s->client);
}

/* --- shadows ----------------------------------------------------------------------------- */

/* What the client asked for is asked of the others. */
static struct tls_hints hints_of(const struct session *s)
{
    const struct tls *tls = transport_tls(s->client);
    struct tls_hints  hints = { 0 };

    if (tls != NULL) {
        hints.server_name = tls_facts(tls)->server_name;
        hints.protocol = tls_facts(tls)->protocol;
    }
    return hints;
}

struct shadow_turn legs_turn(struct session *s, double now)
{
    return (struct shadow_turn){
        .session = s->number,
        .primary_open =
            s->state == SESSION_RELAYING && s->primary != NULL && transport_is_open(s->primary),
        .nothing_is_lost = s->nothing_is_lost,
        .now = now,
        .first_byte_at = s->first_byte_at,
        .hints = hints_of(s),
        .header = s->proxy_source != NULL ? &s->proxy_source->header : NULL,
        .marks = s->proxy_source != NULL ? &s->proxy_source->marks : NULL,
        .ready = session_on_ready,
        .owner = s,
    };
}

void legs_relay_shadows(struct session *s, double now)
{
    struct shadow_turn turn = legs_turn(s, now);

    for (size_t i = 0; i < s->shadow_count; i++)
        shadow_relay(&s->shadows[i], &turn);
}

void legs_settle_request(struct session *s, double now)
{
    struct mirror *mirror = s->mirror;

    while (stream_settle(s->request))
        legs_relay_shadows(s, now);

    size_t shadow_only_bytes = stream_shadow_only_bytes(s->request);
    if (shadow_only_bytes == s->shadow_memory)
        return;
    uint64_t all =
        part_change(&mirror->page->shadow_memory, &mirror->slot->counts[COUNT_SHADOW_MEMORY],
                    s->shadow_memory, shadow_only_bytes);

    ranks_change(&mirror->hungry, &s->hungry, s->shadow_memory, shadow_only_bytes);
    mirror->shadow_memory += shadow_only_bytes - s->shadow_memory; /* modulo 2^64 */
    s->shadow_memory = shadow_only_bytes;
    if (all > mirror->config->shadow_memory)
        mirror->memory_is_short = true;
}

/* --- client and primary ------------------------------------------------------------------ */

/* Moves what this consumer can take now; after the last byte, tells its peer. */
static enum io deliver(struct cursor *cursor, struct transport *to)
{
    const struct stream *stream = cursor->stream;
    enum io              io = cursor_drain(cursor, to);

    if (io != IO_END)
        return io;
    if (stream_ending(stream) == ENDED_RESET)
        transport_abort(to);
    else
        transport_end(to);
    if (transport_is_broken(to))
        return IO_FAILED; /* close_notify may be the first to hear of a reset */
    return transport_is_ending(to) ? IO_AGAIN : IO_END;
}

static void note_time(struct session *s, enum leg leg, enum timing timing, double seconds)
{
    histogram_note(&s->mirror->slot->times[leg][timing], seconds);
}

static void fill_request(struct session *s, double now)
{
    uint64_t before = stream_total(s->request);
    bool     was_open = stream_ending(s->request) == NOT_ENDED;
    enum io  io = stream_fill(s->request, s->client);
    bool     has_spoken = stream_total(s->request) > before;

    if (has_spoken)
        session_log_hello(s, before);
    if (has_spoken || (was_open && io == IO_END))
        s->asked_at = stream_total(s->response);
    if (io == IO_END)
        session_remember(s, SESSION_CLIENT_FIN);
    if (io == IO_FAILED || transport_is_broken(s->client))
        lose_client(s, now);
    if (s->first_byte_at == 0 && stream_total(s->request) > 0) {
        note_time(s, LEG_CLIENT, TIMING_FIRST_BYTE, now - s->started);
        s->first_byte_at = now;
        s->greeting_bytes = stream_total(s->response);
    }
}

/* What the primary's connection takes over from the client's. */
static struct origin origin_of(const struct session *s)
{
    const struct config *config = s->mirror->config;
    struct origin        origin = { 0 };

    if (config->transparent)
        transport_peer(s->client, &origin.client);
    if (config->primaries[0].endpoint.kind == ENDPOINT_ORIGINAL)
        transport_destination(s->client, &origin.destination);
    return origin;
}

static void session_dial(struct session *s, double now)
{
    const struct config *config = s->mirror->config;
    struct dial_request  request = {
        .targets = config->primaries,
        .target_count = config->primary_count,
        .timeout = config->connect_timeout,
        .side = TLS_PRIMARY,
        .hints = hints_of(s),
        .origin = origin_of(s),
        .header = s->proxy_source != NULL ? &s->proxy_source->header : NULL,
    };

    s->dialled_at = now;
    if (s->listener->endpoint.tls || s->listener->accept_proxy)
        note_time(s, LEG_CLIENT, TIMING_CONNECT, now - s->started);
    if (s->proxy_source != NULL)
        proxy_source_complete(s->proxy_source, s->mirror, s->listener, s->number, s->client);
    s->primary = dial(s->mirror->dialer, &request, session_on_ready, s);
    if (s->primary == NULL)
        lose_primary(s, now);
}

/* The primary is dialled once the client's own connection is open.  A client that has gone by then
 * without a word (a port scan) costs the primary nothing. */
static void begin_with_primary(struct session *s, double now)
{
    if (s->primary != NULL || s->request_is_over)
        return;
    if (s->lost_at > 0 && stream_total(s->request) == 0)
        s->request_is_over = true;
    else if (transport_is_open(s->client))
        session_dial(s, now);
}

static void deliver_request(struct session *s, double now)
{
    if (s->request_is_over || s->primary == NULL)
        return;
    enum io io = deliver(&s->to_primary, s->primary);
    if (io == IO_END)
        s->request_is_over = true;
    if (io == IO_FAILED)
        lose_primary(s, now);
}

static void fill_response(struct session *s, double now)
{
    if (s->primary == NULL)
        return;
    enum io io = stream_fill(s->response, s->primary);
    if (io == IO_END)
        session_remember(s, SESSION_PRIMARY_FIN);
    if (io == IO_FAILED || transport_is_broken(s->primary))
        lose_primary(s, now);
    if (s->connect_seconds < 0 && transport_is_open(s->primary)) {
        s->connect_seconds = (float)(now - s->dialled_at);
        note_time(s, LEG_PRIMARY, TIMING_CONNECT, s->connect_seconds);
        session_log_primary_connected(s);
    }
    if (s->first_byte_seconds < 0 && s->first_byte_at > 0 &&
        stream_total(s->response) > s->greeting_bytes) {
        s->first_byte_seconds = (float)(now - s->first_byte_at);
        note_time(s, LEG_PRIMARY, TIMING_FIRST_BYTE, s->first_byte_seconds);
    }
}

static void deliver_response(struct session *s, double now)
{
    if (s->response_is_over)
        return;
    enum io io = deliver(&s->to_client, s->client);
    if (io == IO_END)
        s->response_is_over = true;
    if (io == IO_FAILED)
        lose_client(s, now);
}

void legs_relay(struct session *s, double now)
{
    fill_request(s, now);
    begin_with_primary(s, now);
    deliver_request(s, now);
    fill_response(s, now);
    deliver_response(s, now);
    stream_settle(s->response);

    legs_relay_shadows(s, now);
    legs_settle_request(s, now);
}
