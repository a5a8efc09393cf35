/*
 * session.c — every event of a session ends in session_advance().
 *
 *     client ──fill──▶ request ──┬─cursor─▶ primary           one turn, always in this order:
 *                                └─cursors─▶ shadows          request in, to the primary; response
 *     client ◀─cursor── response ◀──fill── primary            in, to the client; to the shadows
 *
 * What a leg's failure means is decided in two places only: lose_client() and lose_primary().  Both
 * keep what had been received before for whoever is still there.  A direction is over when its
 * consumer has been told the end or is gone; when both are, client and primary are done and the
 * shadows have their linger time.
 */
#include "session.h"

#include <assert.h>
#include <ev.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/page.h"
#include "base/sources.h"
#include "config/config.h"
#include "flow/dial.h"
#include "flow/handshake.h"
#include "flow/pipes.h"
#include "flow/proxied.h"
#include "flow/stream.h"
#include "flow/transport.h"
#include "mirror/account.h"
#include "mirror/introduction.h"
#include "mirror/mirror.h"
#include "mirror/reason.h"
#include "mirror/sampler.h"
#include "mirror/shadow.h"

#define LOST_CLIENT_SECONDS 5.0 /* how long a primary may take the rest of a reset client's bytes */
#define WARNING_EVERY       10.0 /* seconds, per reason */

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
    struct introduction        *introduction; /* NULL: nobody tells or wants to know */
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
    float                       connect_seconds;    /* below 0: unknown */
    float                       first_byte_seconds; /* below 0: unknown */
    uint64_t                    number;
    uint64_t                    progress;
    size_t                      shadow_memory;
    struct booked               booked;
    enum session_state          state;
    enum session_reason         reason; /* once it is known */
    bool                        reason_is_known : 1;
    bool                        is_admitted : 1;   /* its client's address is known and welcome */
    bool                        is_in_sources : 1; /* counted for its client's address */
    bool                        primary_is_lost : 1;
    bool                        request_is_over : 1;
    bool                        response_is_over : 1;
    uint16_t                    shadow_count;
    struct shadow               shadows[];
};

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

static void on_ready(void *owner);

/* --- reasons ----------------------------------------------------------------------------- */

/* The first reason stays, except that a failure is worth more than a good end. */
static void remember(struct session *s, enum session_reason reason)
{
    bool was_good = s->reason == SESSION_CLIENT_FIN || s->reason == SESSION_PRIMARY_FIN;

    if (s->reason_is_known && !was_good)
        return;
    if (s->reason_is_known && (reason == SESSION_CLIENT_FIN || reason == SESSION_PRIMARY_FIN))
        return;
    s->reason = reason;
    s->reason_is_known = true;
}

static void warn_of_primary(const struct session *s, double now)
{
    struct log_limit *limit = &s->mirror->primary_limits[s->reason];
    char              name[SESSION_NAME];
    uint64_t          suppressed;

    if (!log_limit_passes(limit, now, WARNING_EVERY, &suppressed))
        return;
    session_name(s->mirror, s->number, name);
    log_warning(name, "primary_failed", "reason=%s why=%s suppressed=%" PRIu64,
                session_reason_name(s->reason),
                s->primary != NULL ? transport_why(s->primary) : "no memory", suppressed);
}

/* Port scans and wrong clients: nothing that anybody must act upon. */
static void tell_of_client(const struct session *s, double now)
{
    char     name[SESSION_NAME];
    uint64_t suppressed;

    if (!log_limit_passes(&s->mirror->client_limit, now, WARNING_EVERY, &suppressed))
        return;
    session_name(s->mirror, s->number, name);
    log_info(name, "client_failed", "reason=%s why=%s suppressed=%" PRIu64,
             session_reason_name(s->reason), transport_why(s->client), suppressed);
}

/* The peer is a proxy, or was taken for one: whoever runs it wants to know. */
static void tell_of_header(const struct session *s, const char *why, double now)
{
    struct log_limit *limit = &s->mirror->primary_limits[SESSION_PROXY_HEADER];
    struct address    peer;
    char              text[ADDRESS_TEXT];
    char              name[SESSION_NAME];
    uint64_t          suppressed;

    if (!log_limit_passes(limit, now, WARNING_EVERY, &suppressed))
        return;
    transport_peer(s->client, &peer);
    address_print(&peer, text);
    session_name(s->mirror, s->number, name);
    log_info(name, "header_refused", "listener=%s peer=%s why=%s suppressed=%" PRIu64,
             s->listener->name, text, why, suppressed);
}

/* Nobody is left to answer.  What the client sent before is still read, for the others. */
static void lose_client(struct session *s, double now)
{
    if (s->lost_at > 0)
        return;
    s->lost_at = now;
    remember(s, reason_of_client(transport_failure(s->client)));
    if (s->reason == SESSION_TLS_CLIENT)
        tell_of_client(s, now);
    if (s->reason == SESSION_PROXY_HEADER)
        tell_of_header(s, transport_why(s->client), now);
    stream_break(s->response);
    stream_detach(&s->to_client);
    s->response_is_over = true;
}

/* Nobody is left to ask.  What the primary answered before is still read, for the client. */
static void lose_primary(struct session *s, double now)
{
    if (s->primary_is_lost)
        return;
    s->primary_is_lost = true;
    remember(s, reason_of_primary(s->primary != NULL ? transport_failure(s->primary)
                                                     : FAILURE_NO_MEMORY));
    if (s->reason != SESSION_PRIMARY_FIN && s->lost_at == 0)
        warn_of_primary(s, now);
    if (s->reason == SESSION_NO_PORT || s->reason == SESSION_NO_DESCRIPTOR)
        s->mirror->on_exhausted(s->mirror->owner);
    stream_break(s->request);
    stream_detach(&s->to_primary);
    s->request_is_over = true;
    if (s->primary == NULL)
        s->response_is_over = true; /* nothing will ever come: the client is reset */
    else if (s->response_is_over)
        transport_abort(s->client);
}

/* --- one turn ---------------------------------------------------------------------------- */

/* What the client asked for is asked of the others. */
static struct tls_hints hints_of(const struct session *s)
{
    const struct tls *tls = transport_tls(s->client);
    struct tls_hints  hints = { 0 };

    if (tls != NULL) {
        hints.server_name = tls_server_name(tls);
        hints.protocol = tls_protocol(tls);
    }
    return hints;
}

static struct shadow_turn turn_of(struct session *s, double now)
{
    return (struct shadow_turn){
        .session = s->number,
        .primary_open =
            s->state == SESSION_RELAYING && s->primary != NULL && transport_is_open(s->primary),
        .now = now,
        .first_byte_at = s->first_byte_at,
        .hints = hints_of(s),
        .header = s->introduction != NULL ? &s->introduction->header : NULL,
        .marks = s->introduction != NULL ? &s->introduction->marks : NULL,
        .ready = on_ready,
        .owner = s,
    };
}

static void relay_shadows(struct session *s, double now)
{
    struct shadow_turn turn = turn_of(s, now);

    for (size_t i = 0; i < s->shadow_count; i++)
        shadow_relay(&s->shadows[i], &turn);
}

/* Forgets what everyone has had.  Whoever was cut off for that gets its RST now: no event may ever
 * come for it. */
static void settle_request(struct session *s, double now)
{
    struct mirror *mirror = s->mirror;

    while (stream_settle(s->request))
        relay_shadows(s, now);

    size_t spared = stream_spared(s->request);
    if (spared == s->shadow_memory)
        return;
    size_t   change = spared - s->shadow_memory; /* modulo 2^64 */
    uint64_t all = atomic_fetch_add(&mirror->page->shadow_memory, change) + change;

    cell_add(&mirror->slot->counts[COUNT_SHADOW_MEMORY], change);
    mirror->shadow_memory += change;
    s->shadow_memory = spared;
    if (all > mirror->config->shadow_memory)
        mirror->memory_is_short = true;
}

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
    return transport_is_ending(to) ? IO_AGAIN : IO_END;
}

/* TLS that only passes through is noise to a shadow; said once for each listener. */
static void warn_of_hello(const struct session *s)
{
    static const unsigned char handshake = 0x16, version = 3, client_hello = 1; /* RFC 8446, 5.1 */
    size_t                     listener = (size_t)(s->listener - s->mirror->config->listens);
    unsigned char              start[6];
    uint64_t                   bit = (uint64_t)1 << listener % 64; /* beyond 64 they share */

    if (s->shadow_count == 0 || s->listener->endpoint.tls ||
        stream_peek(s->request, start, sizeof start) < sizeof start || start[0] != handshake ||
        start[1] != version || start[5] != client_hello)
        return;
    if ((atomic_fetch_or(&s->mirror->page->hellos, bit) & bit) == 0)
        log_warning("listener", "tls_passes_through", "listener=%s why=%s", s->listener->name,
                    "a client speaks TLS to the primary, so shadows see noise; listen on tls:// to "
                    "mirror what is inside");
}

static void fill_request(struct session *s, double now)
{
    enum io io = stream_fill(s->request, s->client);

    if (io == IO_END)
        remember(s, SESSION_CLIENT_FIN);
    if (io == IO_FAILED || transport_is_broken(s->client))
        lose_client(s, now);
    if (s->first_byte_at == 0 && stream_total(s->request) > 0) {
        warn_of_hello(s);
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
        .header = s->introduction != NULL ? &s->introduction->header : NULL,
    };

    if (s->introduction != NULL)
        introduction_complete(s->introduction, s->mirror, s->listener, s->number, s->client);
    s->primary = dial(s->mirror->dialer, &request, on_ready, s);
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
        remember(s, SESSION_PRIMARY_FIN);
    if (io == IO_FAILED || transport_is_broken(s->primary))
        lose_primary(s, now);
    if (s->connect_seconds < 0 && transport_is_open(s->primary))
        s->connect_seconds = (float)(now - s->started);
    if (s->first_byte_seconds < 0 && s->first_byte_at > 0 &&
        stream_total(s->response) > s->greeting_bytes)
        s->first_byte_seconds = (float)(now - s->first_byte_at);
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

static void session_relay(struct session *s, double now)
{
    fill_request(s, now);
    begin_with_primary(s, now);
    deliver_request(s, now);
    fill_response(s, now);
    deliver_response(s, now);
    stream_settle(s->response);

    relay_shadows(s, now);
    settle_request(s, now);
}

/* --- who may come ------------------------------------------------------------------------ */

static uint64_t random_bits(struct mirror *mirror)
{
    mirror->random += 0x9e3779b97f4a7c15U;
    return mix64(mirror->random);
}

static bool is_allowed(const struct network_list *allow, const struct address *client)
{
    return allow->count == 0 || client->any.sa_family == AF_UNIX ||
           networks_contain(allow->networks, allow->count, client);
}

/* Over before it began: nobody is told the end, so closing resets. */
static void session_refuse(struct session *s, enum session_reason reason)
{
    remember(s, reason);
    s->request_is_over = s->response_is_over = true;
}

static bool enter_source(struct session *s, const struct address *client)
{
    struct mirror *mirror = s->mirror;

    s->is_in_sources =
        mirror->sources != NULL && sources_enter(mirror->sources, mirror->sources_table, client,
                                                 mirror->config->max_sessions_per_source);
    return mirror->sources == NULL || s->is_in_sources;
}

static bool address_is_known(const struct session *s)
{
    return !s->listener->accept_proxy || transport_is_open(s->client);
}

/* The client's address is known now, from its socket or from a PROXY header, and everything that
 * depends on it is decided, before its first byte. */
static void session_admit(struct session *s, double now)
{
    struct mirror *mirror = s->mirror;
    struct address client;

    s->is_admitted = true;
    transport_peer(s->client, &client);
    for (size_t i = 0; i < s->shadow_count; i++) {
        if (s->introduction != NULL && s->introduction->header.is_mirrored)
            shadow_filter(&s->shadows[i]);
        else
            shadow_choose(&s->shadows[i], &client, random_bits(mirror));
    }
    if (!is_allowed(&mirror->config->allow, &client))
        session_refuse(s, SESSION_DENIED);
    else if (!enter_source(s, &client))
        session_refuse(s, SESSION_LIMIT);
    s->moved_at = now;
}

static bool is_relaying(const struct session *s)
{
    return s->state == SESSION_RELAYING && !(s->request_is_over && s->response_is_over);
}

static void session_turn(struct session *s, double now)
{
    if (is_relaying(s) && !s->is_admitted && address_is_known(s))
        session_admit(s, now);
    if (is_relaying(s)) {
        session_relay(s, now);
    } else if (s->state == SESSION_ENDING) {
        relay_shadows(s, now);
        settle_request(s, now);
    }
}

/* --- the books --------------------------------------------------------------------------- */

static struct account account_of(struct session *s)
{
    return (struct account){
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

static void session_book(struct session *s)
{
    struct account account = account_of(s);

    list_remove(&s->moved);
    account_book(&account, &s->booked);
}

void sessions_book(struct mirror *mirror)
{
    while (mirror->moved.next != &mirror->moved)
        session_book(LIST_MEMBER(mirror->moved.next, struct session, moved));
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

/* The place among --max-sessions that the listener took. */
static void give_place_back(struct mirror *mirror)
{
    atomic_fetch_sub(&mirror->page->clients_open, 1);
    cell_add(&mirror->slot->counts[COUNT_CLIENTS_OPEN], (uint64_t)-1);
    mirror->on_client_gone(mirror->owner);
}

static void leave_source(struct session *s)
{
    struct address client;

    if (!s->is_in_sources)
        return;
    transport_peer(s->client, &client);
    sources_leave(s->mirror->sources, s->mirror->sources_table, &client);
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
    leave_source(s);
    transport_close(s->client);
    if (s->primary != NULL)
        transport_close(s->primary);
    stream_break(s->response);
    stream_settle(s->response);

    turn = turn_of(s, now);
    for (size_t i = 0; i < s->shadow_count; i++)
        shadow_session_ended(&s->shadows[i], &turn);
    relay_shadows(s, now);
    settle_request(s, now);

    give_place_back(mirror);
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
    ev_timer_stop(s->mirror->loop, &s->timer);
    list_remove(&s->all);
    for (size_t i = 0; i < s->shadow_count; i++)
        shadow_free(&s->shadows[i]);
    transport_free(s->client);
    transport_free(s->primary);
    stream_free(s->request);
    stream_free(s->response);
    free(s->introduction);
    free(s);
}

static void session_close(struct session *s)
{
    struct mirror *mirror = s->mirror;

    session_move(s, SESSION_CLOSED);
    settle_request(s, s->ended_at);
    session_book(s);

    struct account account = account_of(s);
    account_close(&account);
    session_free(s);
    if (mirror->pipes != NULL && mirror->sessions.next == &mirror->sessions)
        pipes_rest(mirror->pipes); /* a worker without sessions holds none */
}

/* --- time -------------------------------------------------------------------------------- */

static bool is_half_closed(const struct session *s)
{
    return stream_ending(s->request) != NOT_ENDED || stream_ending(s->response) != NOT_ENDED;
}

static double relaying_deadline(const struct session *s)
{
    const struct config *config = s->mirror->config;
    double limit = is_half_closed(s) ? config->half_close_timeout : config->idle_timeout;
    double               deadline = limit > 0 ? s->moved_at + limit : INFINITY;

    if (s->lost_at > 0 && s->lost_at + LOST_CLIENT_SECONDS < deadline)
        deadline = s->lost_at + LOST_CLIENT_SECONDS;
    return deadline;
}

static double session_deadline(const struct session *s)
{
    double deadline = s->state == SESSION_RELAYING ? relaying_deadline(s) : INFINITY;

    for (size_t i = 0; i < s->shadow_count; i++)
        deadline = fmin(deadline, shadow_deadline(&s->shadows[i]));
    return deadline;
}

/* Ends it in the middle.  A peer that has had everything we hold for it may see a good end. */
static void session_cut(struct session *s, enum session_reason reason)
{
    remember(s, reason);
    if (cursor_lag(&s->to_client) == 0)
        transport_end(s->client);
    if (s->primary != NULL && cursor_lag(&s->to_primary) == 0)
        transport_end(s->primary);
    s->request_is_over = true;
    s->response_is_over = true;
}

static void session_expire(struct session *s, double now)
{
    struct shadow_turn turn = turn_of(s, now);

    for (size_t i = 0; i < s->shadow_count; i++)
        shadow_expire(&s->shadows[i], &turn);
    if (s->state == SESSION_RELAYING && now >= relaying_deadline(s))
        session_cut(s, is_half_closed(s) ? SESSION_HALF_CLOSE : SESSION_IDLE);
}

static void session_advance(struct session *s);

/* After a long pause of the whole process timers ring before events are seen (epoll_wait(2) answers
 * EINTR): what has come meanwhile counts first. */
static void session_catch_up(struct session *s, double now)
{
    if (is_relaying(s)) {
        transport_look_again(s->client);
        if (s->primary != NULL)
            transport_look_again(s->primary);
    }
    for (size_t i = 0; i < s->shadow_count; i++)
        shadow_look_again(&s->shadows[i]);
    session_turn(s, now);
    note_progress(s, now);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct session *s = timer->data;

    (void)loop;
    (void)events;
    s->armed_for = 0;
    session_catch_up(s, clock_now());
    session_expire(s, clock_now());
    session_advance(s);
}

/* The timer is moved only when it would ring too late; ringing too early costs one look. */
static void arm_timer(struct session *s, double now)
{
    double deadline = session_deadline(s);

    if (isinf(deadline) || (s->armed_for > 0 && s->armed_for <= deadline))
        return;
    ev_timer_stop(s->mirror->loop, &s->timer);
    ev_timer_set(&s->timer, fmax(deadline - now, 0), 0);
    ev_timer_start(s->mirror->loop, &s->timer);
    s->armed_for = deadline;
}

/* --- the one way ------------------------------------------------------------------------- */

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
    arm_timer(s, now);
}

/* The only place where a session moves, and the only place where it is freed. */
static void session_advance(struct session *s)
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

static void on_ready(void *owner)
{
    session_advance(owner);
}

/* --- the beginning ----------------------------------------------------------------------- */

/* NULL: no memory; the socket is closed in any case then. */
static struct transport *open_client(struct session *s, int socket, const struct address *client)
{
    const struct config *config = s->mirror->config;

    if (s->listener->accept_proxy && introduction_is_believed(config, client)) {
        const struct proxied_terms terms = {
            .timeout = config->handshake_timeout,
            .header = &s->introduction->header,
            .tls = s->listener->endpoint.tls ? s->mirror->handshakes : NULL,
        };
        return proxied_accepted(s->mirror->reactor, socket, client, &terms, on_ready, s);
    }
    if (s->listener->endpoint.tls && !s->listener->accept_proxy)
        return handshake_accept(s->mirror->handshakes, socket, client, on_ready, s);
    return transport_accepted(s->mirror->reactor, socket, client, on_ready, s);
}

/* False: no memory. */
static bool make_introduction(struct session *s)
{
    if (!introduction_is_wanted(s->mirror->config, s->listener))
        return true;
    s->introduction = calloc(1, sizeof *s->introduction);
    return s->introduction != NULL;
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
    if (!make_introduction(s)) {
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

/* A session that could not even begin is in the books, too. */
static void count_stillborn(struct mirror *mirror)
{
    cell_add(&mirror->slot->counts[COUNT_SESSIONS], 1);
    cell_add(&mirror->slot->closed[SESSION_NO_MEMORY], 1);
    for (size_t i = 0; i < mirror->config->shadow_count; i++)
        cell_add(&mirror->slot->shadows[mirror->rows[i]].results[RESULT_NO_DATA], 1);
    give_place_back(mirror);
}

void session_open(struct mirror *mirror, int socket, const struct address *client,
                  const struct listen_config *listener)
{
    struct session *s = session_new(mirror, socket, client, listener);

    if (s == NULL) {
        count_stillborn(mirror);
        return;
    }
    s->number = ++mirror->session_count;
    s->started = s->moved_at = clock_now();
    s->connect_seconds = s->first_byte_seconds = -1;
    ev_timer_init(&s->timer, on_timer, 0, 0);
    s->timer.data = s;
    list_add(&mirror->sessions, &s->all);
    cell_add(&mirror->slot->counts[COUNT_SESSIONS], 1);
    cell_add(&mirror->slot->counts[COUNT_SESSIONS_ACTIVE], 1);

    stream_attach(s->request, &s->to_primary, mirror->config->buffer, OVERFLOW_BLOCKS);
    stream_attach(s->response, &s->to_client, mirror->config->buffer, OVERFLOW_BLOCKS);
    s->shadow_count = (uint16_t)mirror->config->shadow_count;
    for (size_t i = 0; i < s->shadow_count; i++)
        shadow_begin(&s->shadows[i], mirror, i, s->request);

    if (listener->accept_proxy && !introduction_is_believed(mirror->config, client)) {
        session_refuse(s, SESSION_PROXY_HEADER);
        tell_of_header(s, "--proxy-trust does not name the peer", s->started);
    }
    session_advance(s);
}

/* --- all of them ------------------------------------------------------------------------- */

static struct session *hungriest_session(struct mirror *mirror)
{
    struct session *found = NULL;
    size_t          most = 0;

    for (struct link *link = mirror->sessions.next; link != &mirror->sessions; link = link->next) {
        struct session *s = LIST_MEMBER(link, struct session, all);

        if (s->shadow_memory > most) {
            most = s->shadow_memory;
            found = s;
        }
    }
    return found;
}

static bool cut_most_lagging(struct session *s)
{
    struct shadow_turn turn = turn_of(s, clock_now());
    struct shadow     *found = NULL;

    for (size_t i = 0; i < s->shadow_count; i++) {
        struct shadow *sh = &s->shadows[i];

        if (!shadow_is_over(sh) && sh->config->overflow == SHADOW_DETACH &&
            (found == NULL || cursor_lag(&sh->cursor) > cursor_lag(&found->cursor)))
            found = sh;
    }
    if (found != NULL)
        shadow_cut(found, SHADOW_MEMORY, &turn);
    return found != NULL;
}

void sessions_shed_memory(struct mirror *mirror)
{
    uint64_t budget = mirror->config->shadow_memory;

    mirror->memory_is_short = false;
    while (atomic_load(&mirror->page->shadow_memory) > budget &&
           mirror->shadow_memory > budget / mirror->config->workers) {
        struct session *s = hungriest_session(mirror);

        if (s == NULL || !cut_most_lagging(s))
            return;
        session_advance(s);
    }
}

static void session_drain(struct session *s)
{
    struct shadow_turn turn = turn_of(s, clock_now());

    if (s->state == SESSION_RELAYING)
        session_cut(s, SESSION_DRAIN);
    for (size_t i = 0; i < s->shadow_count; i++)
        shadow_cut(&s->shadows[i], SHADOW_DRAIN, &turn);
    session_advance(s);
}

void sessions_drain(struct mirror *mirror)
{
    while (mirror->sessions.next != &mirror->sessions)
        session_drain(LIST_MEMBER(mirror->sessions.next, struct session, all));
}
