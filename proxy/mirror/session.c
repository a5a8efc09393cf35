/*
 * session.c — every event of a session ends in session_advance().
 *
 *     open ──▶ admission ──▶ legs, turn after turn ──▶ ending: shadows finish ──▶ closed
 *                                   ▲     │
 *                  an event, or time ─────┘ rearm: what to wait for
 *
 * When both directions are over, client and primary are done and the shadows have their linger time.
 */
#include "session.h"

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "config/config.h"
#include "mirror/accounting.h"
#include "mirror/admission.h"
#include "mirror/legs.h"
#include "mirror/mirror.h"
#include "mirror/proxy_source.h"
#include "mirror/session_log.h"
#include "mirror/session_parts.h"
#include "mirror/shadow.h"
#include "mirror/timing.h"
#include "proxyproto/header_reader.h"
#include "shared/page.h"
#include "stream/pipes.h"
#include "stream/stream.h"
#include "transport/handshake.h"
#include "transport/transport.h"

#define TO(state) (1u << SESSION_##state)

static const unsigned next_states[] = {
    [SESSION_RELAYING] = TO(ENDING),
    [SESSION_ENDING] = TO(CLOSED),
    [SESSION_CLOSED] = 0,
};

static void session_move(struct session *s, enum session_state next)
{
    assert(next_states[s->state] & (1u << next));
    s->state = next;
}

static bool is_good(enum session_reason reason)
{
    return reason == SESSION_CLIENT_FIN || reason == SESSION_PRIMARY_FIN ||
           reason == SESSION_CLIENT_RST_DELIVERED || reason == SESSION_PRIMARY_RST_DELIVERED;
}

void session_remember(struct session *s, enum session_reason reason)
{
    if (s->reason_is_known && (!is_good(s->reason) || is_good(reason)))
        return;
    s->reason = reason;
    s->reason_is_known = true;
}

bool session_is_relaying(const struct session *s)
{
    return s->state == SESSION_RELAYING && !(s->request_is_over && s->response_is_over);
}

static void session_turn(struct session *s, double now)
{
    if (session_is_relaying(s) && admission_is_due(s))
        admission_decide(s, now);
    if (session_is_relaying(s)) {
        legs_relay(s, now);
    } else if (s->state == SESSION_ENDING) {
        legs_relay_shadows(s, now);
        legs_settle_request(s, now);
    }
}

/* --- accounting -------------------------------------------------------------------------- */

static struct accounting accounting_of(struct session *s)
{
    return (struct accounting){
        .mirror = s->mirror,
        .number = s->number,
        .listener = s->listener,
        .client = s->client,
        .primary = s->primary,
        .reason = s->reason,
        .seconds = s->ended_at - s->started,
        .connect_seconds = s->connect_seconds,
        .first_byte_seconds = s->first_byte_seconds,
        .request_bytes = stream_total(s->request),
        .response_bytes = s->to_client.position,
        .buffered_bytes = stream_buffered(s->request) + stream_buffered(s->response),
        .shadows = s->shadows,
        .shadow_count = s->shadow_count,
    };
}

void session_book(struct session *s)
{
    for (size_t i = 0; i < s->shadow_count; i++)
        shadow_listen(&s->shadows[i]);

    struct accounting accounting = accounting_of(s);

    list_remove(&s->moved);
    accounting_update(&accounting, &s->counted);
}

/* Everything that moves makes this sum grow, so that a standstill is seen by comparing. */
static void note_progress(struct session *s, double now)
{
    uint64_t progress = stream_total(s->request) + s->to_primary.position +
                        stream_total(s->response) + s->to_client.position + s->request_is_over +
                        s->response_is_over + (stream_ending(s->request) != NOT_ENDED) +
                        (stream_ending(s->response) != NOT_ENDED);

    if (progress != s->progress && s->state == SESSION_RELAYING)
        s->moved_at = now;
    if (!list_holds(&s->moved) && (progress != s->progress || s->shadow_count > 0))
        list_add(&s->mirror->moved, &s->moved);
    s->progress = progress;
}

/* --- the end ----------------------------------------------------------------------------- */

/* Who has had everything sees a good end; but a request that broke off must not look complete. */
void session_cut(struct session *s, enum session_reason reason)
{
    session_remember(s, reason);
    if (cursor_lag(&s->to_client) == 0)
        transport_end(s->client);
    if (s->primary != NULL && cursor_lag(&s->to_primary) == 0 && s->lost_at == 0)
        transport_end(s->primary);
    s->request_is_over = true;
    s->response_is_over = true;
}

static void leave_place(struct mirror *mirror)
{
    admission_give_place_back(mirror);
    mirror->on_client_gone(mirror->owner);
}

/* Client and primary are done; the shadows go on for a while. */
static void session_end(struct session *s, double now)
{
    struct mirror     *mirror = s->mirror;
    struct shadow_turn turn;

    session_move(s, SESSION_ENDING);
    s->ended_at = now;
    stream_break(s->request);
    stream_detach(&s->to_primary);
    stream_detach(&s->to_client);
    admission_leave(s);
    transport_close(s->client);
    if (s->primary != NULL)
        transport_close(s->primary);
    stream_break(s->response);
    stream_settle(s->response);

    turn = legs_turn(s, now);
    for (size_t i = 0; i < s->shadow_count; i++)
        shadow_session_ended(&s->shadows[i], &turn);
    legs_relay_shadows(s, now);
    legs_settle_request(s, now);

    leave_place(mirror);
}

static bool session_is_over(const struct session *s)
{
    for (size_t i = 0; i < s->shadow_count; i++) {
        if (!shadow_is_over(&s->shadows[i]))
            return false;
    }
    return s->state == SESSION_ENDING;
}

static void session_free(struct session *s)
{
    timing_stop(s);
    list_remove(&s->all);
    list_remove(&s->hungry);
    for (size_t i = 0; i < s->shadow_count; i++)
        shadow_free(&s->shadows[i]);
    transport_free(s->client);
    transport_free(s->primary);
    stream_free(s->request);
    stream_free(s->response);
    free(s->proxy_source);
    free(s);
}

static void session_close(struct session *s)
{
    struct mirror *mirror = s->mirror;

    session_move(s, SESSION_CLOSED);
    legs_settle_request(s, s->ended_at);
    session_book(s);

    struct accounting accounting = accounting_of(s);
    accounting_close(&accounting);
    session_free(s);
    if (mirror->pipes != NULL && list_is_empty(&mirror->sessions))
        pipes_rest(mirror->pipes); /* a worker without sessions holds none */
}

/* --- the one way ------------------------------------------------------------------------- */

/* After a long pause of the whole process timers ring before events are seen (epoll_wait(2) answers
 * EINTR): what has come meanwhile counts first. */
void session_catch_up(struct session *s, double now)
{
    if (session_is_relaying(s)) {
        transport_look_again(s->client);
        if (s->primary != NULL)
            transport_look_again(s->primary);
    }
    for (size_t i = 0; i < s->shadow_count; i++)
        shadow_look_again(&s->shadows[i]);
    session_turn(s, now);
    note_progress(s, now);
}

/* What a session waits for follows from what it holds.  Only this function starts or stops its
 * watchers. */
static void session_rearm(struct session *s, double now)
{
    if (s->state == SESSION_RELAYING) {
        transport_want(s->client, stream_wants_more(s->request), cursor_lag(&s->to_client) > 0);
        if (s->primary != NULL)
            transport_want(s->primary, stream_wants_more(s->response),
                           cursor_lag(&s->to_primary) > 0);
    }
    for (size_t i = 0; i < s->shadow_count; i++)
        shadow_rearm(&s->shadows[i]);
    timing_arm(s, now);
}

void session_advance(struct session *s)
{
    double now = clock_now();

    session_turn(s, now);
    if (s->state == SESSION_RELAYING && s->request_is_over && s->response_is_over)
        session_end(s, now);
    note_progress(s, now);
    if (session_is_over(s))
        session_close(s);
    else
        session_rearm(s, now);
}

void session_on_ready(void *owner)
{
    session_advance(owner);
}

/* --- the beginning ----------------------------------------------------------------------- */

/* NULL: no memory; the socket is closed in any case then. */
static struct transport *open_client(struct session *s, int socket, const struct address *client)
{
    const struct config *config = s->mirror->config;

    if (s->listener->accept_proxy && proxy_source_is_trusted(config, client)) {
        const struct header_reader_terms terms = {
            .reactor = s->mirror->reactor,
            .timeout = config->handshake_timeout,
            .header = &s->proxy_source->header,
            .tls = s->listener->endpoint.tls ? s->mirror->handshakes : NULL,
        };
        return header_reader_accept(&terms, socket, client, session_on_ready, s);
    }
    if (s->listener->endpoint.tls && !s->listener->accept_proxy)
        return handshake_accept(s->mirror->handshakes, socket, client, session_on_ready, s);
    return transport_accepted(s->mirror->reactor, socket, client, session_on_ready, s);
}

/* False: no memory. */
static bool make_proxy_source(struct session *s)
{
    if (!proxy_source_is_wanted(s->mirror->config, s->listener))
        return true;
    s->proxy_source = calloc(1, sizeof *s->proxy_source);
    return s->proxy_source != NULL;
}

/* NULL: no memory; the socket is closed in any case then. */
static struct session *session_new(struct mirror *mirror, int socket, const struct address *client,
                                   const struct listen_config *listener)
{
    size_t          shadows = mirror->config->shadow_count;
    struct session *s = calloc(1, sizeof *s + shadows * sizeof s->shadows[0]);

    if (s == NULL) {
        socket_reset(socket);
        return NULL;
    }
    s->mirror = mirror;
    s->listener = listener;
    if (!make_proxy_source(s)) {
        socket_reset(socket);
        free(s);
        return NULL;
    }
    s->request = stream_new(&mirror->chunks, mirror->pipes);
    s->response = stream_new(&mirror->chunks, mirror->pipes);
    s->client = open_client(s, socket, client);
    if (s->request == NULL || s->response == NULL || s->client == NULL) {
        session_free(s);
        return NULL;
    }
    return s;
}

/* A session that could not even begin is counted, too. */
static void count_failed_start(struct mirror *mirror)
{
    cell_add(&mirror->slot->counts[COUNT_SESSIONS], 1);
    cell_add(&mirror->slot->closed[SESSION_NO_MEMORY], 1);
    for (size_t i = 0; i < mirror->config->shadow_count; i++)
        cell_add(&mirror->slot->shadows[mirror->rows[i]].results[RESULT_NO_DATA], 1);
    leave_place(mirror);
}

void session_open(struct mirror *mirror, int socket, const struct address *client,
                  const struct listen_config *listener)
{
    struct session *s = session_new(mirror, socket, client, listener);

    if (s == NULL) {
        count_failed_start(mirror);
        return;
    }
    s->number = ++mirror->session_count;
    s->started = s->moved_at = clock_now();
    s->connect_seconds = s->first_byte_seconds = -1;
    timing_begin(s);
    s->epoch = (uint32_t)mirror->epoch;
    list_add(&mirror->sessions, &s->all);
    cell_add(&mirror->slot->counts[COUNT_SESSIONS], 1);
    cell_add(&mirror->slot->counts[COUNT_SESSIONS_ACTIVE], 1);

    stream_attach(s->request, &s->to_primary, mirror->config->buffer, OVERFLOW_BLOCKS);
    stream_attach(s->response, &s->to_client, mirror->config->buffer, OVERFLOW_BLOCKS);
    s->shadow_count = (uint16_t)mirror->config->shadow_count;
    for (size_t i = 0; i < s->shadow_count; i++)
        shadow_begin(&s->shadows[i], mirror, i, s->request);

    if (listener->accept_proxy && !proxy_source_is_trusted(mirror->config, client)) {
        admission_refuse(s, SESSION_PROXY_HEADER);
        session_log_header_refused(s, "--proxy-trust does not name the peer", s->started);
    }
    session_advance(s);
}
