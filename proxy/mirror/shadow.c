/*
 * shadow.c — dial when it is time, send what it takes, discard what it says, and cut it when it must be.
 *
 *     what happens                              result       reason
 *     took every byte, and the end              mirrored     fin
 *     took the first max-bytes, and an end      mirrored     fin
 *     took every byte, and reset                mirrored     rst_delivered
 *     its own limit, its own reset, ...         detached     lag, stall, rst, refused, ...
 *     client or primary broke off               detached     session_aborted
 *     never chosen, or nothing to send          no connection: mirror/policy.c says why, or no_data
 *
 * A shadow that resets when it has had everything may have seen the end coming (RabbitMQ does that), or
 * may have died: the client's next byte tells, or its end.
 *
 * Cutting means RST: a FIN would make an incomplete request look complete.  A shadow whose session
 * broke off may take what is on its way first; any other is reset at once.
 */
#include "shadow.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>

#include "config/config.h"
#include "dial/dial.h"
#include "mirror/mirror.h"
#include "mirror/policy.h"
#include "mirror/reason.h"
#include "mirror/session_log.h"
#include "shared/page.h"

#define DISCARD_MAX   ((size_t)1 << 20) /* bytes of answer forgotten in one turn */
#define WAKE_AT        65536             /* bytes of answer that are worth a turn, once it talks */
#define AUTOTUNED_FROM ((size_t)1 << 20) /* smaller shadow buffers bound the kernel's, too */

#define TO(state) (1u << SHADOW_##state)

static const unsigned next_states[] = {
    [SHADOW_UNDECIDED] = TO(WAITING) | TO(DETACHED),
    [SHADOW_WAITING] = TO(MIRRORING) | TO(DETACHED),
    [SHADOW_MIRRORING] = TO(FLUSHING) | TO(DETACHED),
    [SHADOW_FLUSHING] = TO(DETACHED),
    [SHADOW_DETACHED] = 0,
};

static void shadow_move(struct shadow *sh, enum shadow_state next)
{
    assert(next_states[sh->state] & (1u << next));
    sh->state = next;
}

static struct shadow_cells *cells_of(const struct shadow *sh)
{
    return &sh->mirror->slot->shadows[sh->row];
}

static bool is_blocking(const struct shadow *sh)
{
    return sh->config->overflow == SHADOW_BLOCK;
}

/* Its connection is over, whatever became of it. */
static void leave_place(struct shadow *sh)
{
    policy_ended(sh->mirror, sh->index);
    sh->mirror->shadows_open--;
}

/* The end of its connection, or of the hope of one. */
static void detach(struct shadow *sh, enum shadow_result result)
{
    shadow_move(sh, SHADOW_DETACHED);
    sh->result = result;
    cell_add(&cells_of(sh)->decided[result], 1);
    stream_detach(&sh->cursor);
    if (sh->transport != NULL)
        transport_close(sh->transport);
}

static enum io forget_answer(struct shadow *sh, size_t *moved)
{
    enum io io = transport_discard(sh->transport, DISCARD_MAX, moved);

    sh->response_bytes += *moved;
    return io;
}

/* Its latest answers may not have woken anybody; they count. */
static void forget_rest(struct shadow *sh)
{
    size_t moved;

    if (!transport_is_open(sh->transport))
        return;
    transport_look_again(sh->transport);
    forget_answer(sh, &moved);
}

/* Nothing was begun with it. */
static bool is_untouched(const struct shadow *sh)
{
    return sh->state == SHADOW_UNDECIDED || sh->state == SHADOW_WAITING;
}

bool shadow_was_dialled(const struct shadow *sh)
{
    return sh->dialled_at > 0;
}

uint64_t shadow_share(const struct shadow *sh, uint64_t offered)
{
    uint64_t max = sh->config->max_bytes;

    return max > 0 && offered > max ? max : offered;
}

/* Of the client's bytes: a PROXY header before them may be on its way, too. */
static uint64_t unacknowledged(const struct shadow *sh)
{
    uint64_t bytes = transport_unacknowledged(sh->transport);

    return bytes < sh->cursor.position ? bytes : sh->cursor.position;
}

void shadow_cut(struct shadow *sh, enum shadow_reason reason, const struct shadow_turn *turn)
{
    if (sh->state == SHADOW_DETACHED)
        return;
    if (is_untouched(sh) && stream_total(sh->request) == 0) {
        detach(sh, RESULT_NO_DATA); /* there was nothing to cut */
        return;
    }
    sh->reason = reason;
    if (sh->transport != NULL) {
        sh->unacked_bytes = unacknowledged(sh);
        forget_rest(sh);
        if (reason != SHADOW_SESSION_ABORTED)
            transport_reset(sh->transport);
    }
    detach(sh, RESULT_DETACHED);
    if (shadow_was_dialled(sh))
        leave_place(sh);
    if (shadow_was_dialled(sh) && !sh->was_reached)
        policy_failed(sh->mirror, sh->index, sh->probe, reason, turn->now);
    cell_add(&cells_of(sh)->reasons[reason], 1);
    if (!reason_is_from_outside(reason))
        page_note_error(cells_of(sh), reason);
    session_log_shadow_cut(sh, turn);
}

/* It got every byte and the end, in this way; its connection is done. */
static void complete(struct shadow *sh, enum shadow_reason reason, const struct shadow_turn *turn)
{
    sh->reason = reason;
    detach(sh, RESULT_MIRRORED);
    leave_place(sh);
    cell_add(&cells_of(sh)->reasons[reason], 1);
    session_log_shadow_mirrored(sh, turn);
}

void shadow_begin(struct shadow *sh, struct mirror *mirror, size_t index, struct stream *request)
{
    const struct shadow_config *config = &mirror->config->shadows[index];

    *sh = (struct shadow){
        .mirror = mirror,
        .config = config,
        .request = request,
        .connect_seconds = -1,
        .first_byte_seconds = -1,
        .index = (uint16_t)index,
        .row = mirror->rows[index],
    };
}

void shadow_choose(struct shadow *sh, const struct address *client, double now)
{
    enum shadow_result result = policy_for_session(sh->mirror, sh->index, client, now);

    if (result != RESULT_MIRRORED) {
        detach(sh, result);
        return;
    }
    assert(stream_total(sh->request) == 0);
    shadow_move(sh, SHADOW_WAITING);
    /* Until the primary is open no byte leaves for anyone, so waiting costs nobody anything. */
    stream_attach(sh->request, &sh->cursor, sh->config->buffer, OVERFLOW_BLOCKS);
    if (sh->config->max_bytes > 0)
        cursor_stop_at(&sh->cursor, sh->config->max_bytes);
}

void shadow_filter(struct shadow *sh)
{
    detach(sh, RESULT_FILTERED);
}

/* --- one turn ---------------------------------------------------------------------------- */

static void shadow_dial(struct shadow *sh, const struct shadow_turn *turn)
{
    const struct shadow_config *config = sh->config;
    struct dial_request request = {
        .targets = &config->target,
        .target_count = 1,
        .timeout = config->connect_timeout,
        .user_timeout = config->stall_timeout,
        .send_buffer = config->buffer < AUTOTUNED_FROM ? config->buffer : 0,
        .side = TLS_SHADOW,
        .hints = turn->hints,
        .header = turn->header,
        .marks = turn->marks,
    };

    if (sh->mirror->shadows_open >= sh->mirror->shadows_max) {
        shadow_cut(sh, SHADOW_NO_DESCRIPTOR, turn); /* the rest is for clients and primaries */
        return;
    }
    enum shadow_result result = policy_for_dial(sh->mirror, sh->index, turn->now, &sh->probe);
    if (result != RESULT_MIRRORED) {
        detach(sh, result);
        return;
    }
    shadow_move(sh, SHADOW_MIRRORING);
    sh->cursor.overflow = is_blocking(sh) ? OVERFLOW_BLOCKS : OVERFLOW_DETACHES;
    sh->is_held = config->greeting > 0;
    sh->dialled_at = turn->now;
    sh->progress_at = turn->now;
    sh->mirror->shadows_open++;
    sh->transport = dial(sh->mirror->dialer, &request, turn->ready, turn->owner);
    if (sh->transport == NULL)
        shadow_cut(sh, SHADOW_MEMORY, turn);
}

static void note_lag(struct shadow *sh, uint64_t lag)
{
    if (lag <= sh->max_lag)
        return;
    sh->max_lag = lag;
    cell_raise(&cells_of(sh)->max_lag, lag);
}

static void note_reached(struct shadow *sh)
{
    if (sh->was_reached || !transport_is_open(sh->transport) ||
        (sh->cursor.position == 0 && cursor_lag(&sh->cursor) > 0))
        return;
    sh->was_reached = true;
    policy_reached(sh->mirror, sh->index, sh->probe);
}

/* Where client and primary were done with each other before one of them reset, a shadow is told an
 * orderly end: an RST would take from its program what that has not read yet. */
static void send_on(struct shadow *sh, const struct shadow_turn *turn)
{
    uint64_t before = sh->cursor.position;
    size_t   lag = cursor_lag(&sh->cursor);
    enum io  io = cursor_drain(&sh->cursor, sh->transport);

    note_lag(sh, lag);
    if (sh->cursor.position != before || cursor_lag(&sh->cursor) == 0)
        sh->progress_at = turn->now;
    if (io != IO_FAILED)
        note_reached(sh);
    if (io == IO_FAILED) {
        shadow_cut(sh, reason_of_shadow(transport_failure(sh->transport)), turn);
    } else if (io == IO_END && cursor_is_at_last(&sh->cursor)) {
        transport_end(sh->transport);
        stream_detach(&sh->cursor); /* what comes later is not kept for it */
        shadow_move(sh, SHADOW_FLUSHING);
    } else if (io == IO_END && stream_ending(sh->request) == ENDED_RESET &&
               !turn->nothing_is_lost) {
        transport_abort(sh->transport);
        shadow_cut(sh, SHADOW_SESSION_ABORTED, turn);
    } else if (io == IO_END) {
        transport_end(sh->transport);
        shadow_move(sh, SHADOW_FLUSHING);
    }
}

/* Nobody waits for its answers: from the second one on they are forgotten in larger portions. */
static void leave_alone(struct shadow *sh)
{
    transport_wake_at(sh->transport, WAKE_AT);
    sh->is_left_alone = true;
}

void shadow_listen(struct shadow *sh)
{
    if (sh->is_left_alone && sh->state != SHADOW_DETACHED)
        transport_wake_at(sh->transport, 1);
    sh->is_left_alone = false;
}

/* Its connection is gone: whether it has had all that the client has said so far. */
static bool has_all(struct shadow *sh)
{
    if (!sh->was_reset_at_rest)
        sh->was_reset_at_rest =
            sh->cursor.position > 0 && transport_was_reset_at_rest(sh->transport);
    return sh->was_reset_at_rest && cursor_lag(&sh->cursor) == 0;
}

/* It was sent every byte and the end; over TLS close_notify may still wait for room. */
static bool is_told(const struct shadow *sh)
{
    return sh->state == SHADOW_FLUSHING && !transport_is_ending(sh->transport);
}

static void discard_answer(struct shadow *sh, const struct shadow_turn *turn)
{
    bool    has_answered = sh->response_bytes > 0;
    size_t  moved;
    enum io io = forget_answer(sh, &moved);

    if (moved > 0 && sh->first_byte_seconds < 0 && turn->first_byte_at > 0) {
        sh->first_byte_seconds = (float)(turn->now - turn->first_byte_at);
        histogram_note(&cells_of(sh)->times[TIMING_FIRST_BYTE], sh->first_byte_seconds);
    }
    if (moved > 0 && has_answered && !sh->is_left_alone)
        leave_alone(sh);
    if (io == IO_FAILED && !has_all(sh))
        shadow_cut(sh, reason_of_shadow(transport_failure(sh->transport)), turn);
    else if (io == IO_END && is_told(sh))
        complete(sh, SHADOW_FIN, turn);
    else if (io == IO_FAILED && sh->state == SHADOW_FLUSHING)
        complete(sh, SHADOW_RST_DELIVERED, turn);
}

/* When it gets its bytes although it has not spoken; only while it is held. */
static double held_until(const struct shadow *sh)
{
    return sh->dialled_at + (double)sh->connect_seconds + sh->config->greeting;
}

/* A server that speaks first would take the client's first words for a mistake. */
static void wait_for_greeting(struct shadow *sh, const struct shadow_turn *turn)
{
    discard_answer(sh, turn);
    if (sh->state == SHADOW_DETACHED || (sh->response_bytes == 0 && turn->now < held_until(sh)))
        return;
    sh->is_held = false;
    sh->progress_at = turn->now;
}

void shadow_relay(struct shadow *sh, const struct shadow_turn *turn)
{
    bool has_data = stream_total(sh->request) > 0;

    if (sh->state == SHADOW_DETACHED || sh->state == SHADOW_UNDECIDED)
        return;
    if (sh->cursor.stream == NULL && sh->state != SHADOW_FLUSHING) { /* it went on without it */
        note_lag(sh, stream_total(sh->request) - sh->cursor.position);
        shadow_cut(sh, SHADOW_LAG, turn);
        return;
    }
    if (sh->state == SHADOW_WAITING && turn->primary_open &&
        (has_data || sh->config->connect_on == CONNECT_ON_START))
        shadow_dial(sh, turn);
    if (sh->transport == NULL || transport_is_opening(sh->transport))
        return;
    if (transport_is_open(sh->transport) && sh->connect_seconds < 0) {
        sh->connect_seconds = (float)(turn->now - sh->dialled_at);
        histogram_note(&cells_of(sh)->times[TIMING_CONNECT], sh->connect_seconds);
        session_log_shadow_connected(sh, turn);
    }
    if (sh->is_held)
        wait_for_greeting(sh, turn);
    if (sh->state == SHADOW_MIRRORING && !sh->is_held)
        send_on(sh, turn);
    if (sh->state != SHADOW_DETACHED)
        discard_answer(sh, turn);
}

void shadow_rearm(struct shadow *sh)
{
    if (sh->transport != NULL && sh->state != SHADOW_DETACHED)
        transport_want(sh->transport, true, cursor_lag(&sh->cursor) > 0 && !sh->is_held);
}

void shadow_look_again(struct shadow *sh)
{
    if (sh->transport != NULL)
        transport_look_again(sh->transport);
}

/* --- the end ----------------------------------------------------------------------------- */

void shadow_session_ended(struct shadow *sh, const struct shadow_turn *turn)
{
    sh->linger_until = turn->now + sh->config->linger;
    if (is_untouched(sh))
        shadow_cut(sh, SHADOW_SESSION_ABORTED, turn);
}

void shadow_pause(struct shadow *sh, const struct shadow_turn *turn)
{
    if (sh->state == SHADOW_WAITING)
        detach(sh, RESULT_PAUSED);
    else if (sh->state != SHADOW_UNDECIDED) /* it will be asked for when it is decided */
        shadow_cut(sh, SHADOW_ADMIN, turn);
}

bool shadow_is_over(const struct shadow *sh)
{
    return sh->state == SHADOW_DETACHED;
}

/* When it must be over. */
static double end_of_patience(const struct shadow *sh)
{
    double stalled = INFINITY;

    if (sh->state == SHADOW_DETACHED || is_untouched(sh))
        return INFINITY;
    if (transport_is_open(sh->transport) && cursor_lag(&sh->cursor) > 0 && !sh->is_held &&
        sh->config->stall_timeout > 0)
        stalled = sh->progress_at + sh->config->stall_timeout;
    return sh->linger_until > 0 && sh->linger_until < stalled ? sh->linger_until : stalled;
}

double shadow_deadline(const struct shadow *sh)
{
    double end = end_of_patience(sh);

    if (sh->state != SHADOW_MIRRORING || !sh->is_held || sh->connect_seconds < 0)
        return end;
    return fmin(end, held_until(sh));
}

/* At the end of its time a shadow that has acknowledged everything is a complete one that did not
 * say goodbye; any other stalled. */
void shadow_expire(struct shadow *sh, const struct shadow_turn *turn)
{
    if (turn->now < end_of_patience(sh))
        return;
    if (is_told(sh) && transport_is_acknowledged(sh->transport)) {
        forget_rest(sh);
        transport_abort(sh->transport);
        complete(sh, SHADOW_FIN, turn);
    } else if (transport_is_opening(sh->transport)) {
        shadow_cut(sh, SHADOW_CONNECT_TIMEOUT, turn);
    } else {
        shadow_cut(sh, SHADOW_STALL, turn);
    }
}

void shadow_free(struct shadow *sh)
{
    assert(sh->state == SHADOW_DETACHED);
    transport_free(sh->transport);
    sh->transport = NULL;
}
