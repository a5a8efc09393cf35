/*
 * accounting.c — adding up, and the access-log line.
 */
#include "accounting.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/log.h"
#include "base/log_record.h"
#include "config/config.h"
#include "mirror/mirror.h"
#include "mirror/shadow.h"
#include "shared/page.h"
#include "tls/tls.h"
#include "transport/transport.h"

/* Columns of the text form: a usual value fits, a longer one shifts what follows. */
#define SESSION_WIDTH 16
#define CLIENT_WIDTH  21 /* 255.255.255.255:65535 */
#define REASON_WIDTH  21 /* primary_rst_delivered */
#define SECONDS_WIDTH 9
#define BYTES_WIDTH   11

static void add(_Atomic uint64_t *cell, uint64_t now, uint64_t *counted)
{
    if (now != *counted)
        cell_add(cell, now - *counted);
    *counted = now;
}

static bool was_mirrored(const struct shadow *sh)
{
    return sh->result == RESULT_MIRRORED || sh->result == RESULT_DETACHED;
}

/* What became of the bytes that were offered; the rest is buffered. */
struct fates {
    uint64_t sent;
    uint64_t lost;
    uint64_t skipped;
};

static struct fates fates_of(const struct shadow *sh, uint64_t offered)
{
    uint64_t share = shadow_share(sh, offered);
    uint64_t gone = shadow_is_over(sh) ? share - sh->cursor.position : 0;
    uint64_t lost = was_mirrored(sh) ? gone : 0;

    return (struct fates){
        .sent = sh->cursor.position,
        .lost = lost,
        .skipped = offered - share + gone - lost,
    };
}

static void book_shadow(struct shadow *sh, uint64_t offered)
{
    struct shadow_cells *cells = &sh->mirror->slot->shadows[sh->row];
    struct fates         now = fates_of(sh, offered);
    uint64_t buffered =
        sh->counted_offered - sh->counted_sent - sh->counted_lost - sh->counted_skipped;

    add(&cells->counts[SHADOW_COUNT_BUFFERED], offered - now.sent - now.lost - now.skipped,
        &buffered);
    add(&cells->counts[SHADOW_COUNT_OFFERED], offered, &sh->counted_offered);
    add(&cells->counts[SHADOW_COUNT_SENT], now.sent, &sh->counted_sent);
    add(&cells->counts[SHADOW_COUNT_LOST], now.lost, &sh->counted_lost);
    add(&cells->counts[SHADOW_COUNT_SKIPPED], now.skipped, &sh->counted_skipped);
    add(&cells->counts[SHADOW_COUNT_RESPONSE], sh->response_bytes, &sh->counted_response);
}

void accounting_update(const struct accounting *accounting, struct counted *counted)
{
    struct slot *slot = accounting->mirror->slot;

    add(&slot->counts[COUNT_REQUEST_BYTES], accounting->request_bytes, &counted->request_bytes);
    add(&slot->counts[COUNT_RESPONSE_BYTES], accounting->response_bytes, &counted->response_bytes);
    add(&slot->counts[COUNT_BUFFERED_BYTES], accounting->buffered_bytes, &counted->buffered_bytes);
    for (size_t i = 0; i < accounting->shadow_count; i++)
        book_shadow(&accounting->shadows[i], accounting->request_bytes);
}

/* --- the line ---------------------------------------------------------------------------- */

static void line_address(struct log_record *line, const char *key,
                         const struct transport *transport)
{
    struct address address;
    char           text[ADDRESS_TEXT];

    if (transport == NULL)
        return;
    transport_peer(transport, &address);
    if (address.length == 0)
        return;
    address_print(&address, text);
    log_record_text(line, key, text);
}

static void line_milliseconds(struct log_record *line, const char *key, double seconds)
{
    if (seconds >= 0)
        log_record_decimal(line, key, seconds * 1000, 1);
}

static void line_tls(struct log_record *line, const struct tls *tls)
{
    if (tls == NULL)
        return;
    const struct tls_facts *facts = tls_facts(tls);
    log_record_text(line, "tls", facts->version);
    if (facts->server_name != NULL)
        log_record_text(line, "sni", facts->server_name);
}

static void line_shadow(struct log_record *line, const struct shadow *sh, uint64_t offered)
{
    struct fates fates = fates_of(sh, offered);

    log_record_item(line);
    log_record_text(line, "name", sh->config->name);
    line_address(line, "address", sh->transport);
    log_record_text(line, "result", shadow_result_name(sh->result));
    if (was_mirrored(sh))
        log_record_text(line, "reason", shadow_reason_name(sh->reason));
    line_milliseconds(line, "connect_ms", sh->connect_seconds);
    line_milliseconds(line, "first_byte_ms", sh->first_byte_seconds);
    log_record_number(line, "offered_bytes", offered);
    log_record_number(line, "sent_bytes", fates.sent);
    log_record_number(line, "lost_bytes", fates.lost);
    log_record_number(line, "skipped_bytes", fates.skipped);
    if (!shadow_was_dialled(sh))
        return;
    log_record_number(line, "unacked_bytes", sh->unacked_bytes);
    log_record_number(line, "max_lag_bytes", sh->max_lag);
    log_record_number(line, "response_bytes", sh->response_bytes);
}

/* canary=mirrored next=lag(-4096): what became of it, and what it did not get. */
static void line_shadow_shortly(struct log_record *line, const struct shadow *sh, uint64_t offered)
{
    uint64_t lost = fates_of(sh, offered).lost;
    char     text[128]; /* a name has 32 letters */
    int      length = snprintf(text, sizeof text, "%s=%s", sh->config->name,
                          sh->result == RESULT_DETACHED ? shadow_reason_name(sh->reason)
                                                        : shadow_result_name(sh->result));

    if (lost > 0)
        snprintf(text + length, sizeof text - (size_t)length, "(-%" PRIu64 ")", lost);
    log_record_item(line);
    log_record_word(line, "shadow", text);
}

typedef void shadow_writer(struct log_record *, const struct shadow *, uint64_t offered);

/* Shadows that no longer fit are counted instead. */
static void line_shadows(struct log_record *line, const struct accounting *accounting,
                         shadow_writer *write)
{
    uint64_t omitted = 0;

    log_record_list(line, "shadows");
    for (size_t i = 0; i < accounting->shadow_count; i++) {
        write(line, &accounting->shadows[i], accounting->request_bytes);
        omitted += !log_record_item_fits(line);
    }
    log_record_list_end(line);
    if (omitted > 0)
        log_record_number(line, "shadows_omitted", omitted);
}

static void line_count(struct log_record *line, const char *key, uint64_t count)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRIu64, count);
    log_record_column(line, key, text, BYTES_WIDTH);
}

/* For people: what matters at a glance, below each other. */
static void write_text(const struct accounting *accounting)
{
    struct log_record    line;
    struct address client;
    char           time[LOG_TIME_TEXT];
    char           name[SESSION_NAME];
    char           address[ADDRESS_TEXT];
    char           seconds[32];

    log_time(time);
    session_name(accounting->mirror, accounting->number, name);
    transport_peer(accounting->client, &client);
    address_print(&client, address);
    snprintf(seconds, sizeof seconds, "%.3fs", accounting->seconds);
    log_record_start(&line, FORMAT_TEXT);
    log_record_column(&line, "time", time, 0);
    log_record_column(&line, "session", session_id(name), -SESSION_WIDTH);
    log_record_column(&line, "client", address, -CLIENT_WIDTH);
    log_record_column(&line, "reason", session_reason_name(accounting->reason), -REASON_WIDTH);
    log_record_column(&line, "seconds", seconds, SECONDS_WIDTH);
    line_count(&line, "request_bytes", accounting->request_bytes);
    line_count(&line, "response_bytes", accounting->response_bytes);
    line_shadows(&line, accounting, line_shadow_shortly);
    log_record_end(&line);
    access_log_write(&line);
}

static void write_json(const struct accounting *accounting)
{
    struct log_record line;
    char        time[LOG_TIME_TEXT];
    char        name[SESSION_NAME];

    log_time(time);
    session_name(accounting->mirror, accounting->number, name);
    log_record_start(&line, FORMAT_JSON);
    log_record_text(&line, "time", time);
    log_record_text(&line, "session", session_id(name));
    log_record_text(&line, "listener", accounting->listener->name);
    line_address(&line, "client", accounting->client);
    line_tls(&line, transport_tls(accounting->client));
    line_address(&line, "primary", accounting->primary);
    log_record_decimal(&line, "seconds", accounting->seconds, 3);
    line_milliseconds(&line, "connect_ms", accounting->connect_seconds);
    line_milliseconds(&line, "first_byte_ms", accounting->first_byte_seconds);
    log_record_number(&line, "request_bytes", accounting->request_bytes);
    log_record_number(&line, "response_bytes", accounting->response_bytes);
    log_record_text(&line, "reason", session_reason_name(accounting->reason));
    if (accounting->shadow_count > 0)
        line_shadows(&line, accounting, line_shadow);
    log_record_end(&line);
    access_log_write(&line);
}

static void tell_shadow(const char *session, const struct shadow *sh, uint64_t offered)
{
    struct fates fates = fates_of(sh, offered);

    log_debug(session, "shadow_ended",
              "shadow=%s result=%s reason=%s sent_bytes=%" PRIu64 " lost_bytes=%" PRIu64
              " skipped_bytes=%" PRIu64 " response_bytes=%" PRIu64,
              sh->config->name, shadow_result_name(sh->result),
              was_mirrored(sh) ? shadow_reason_name(sh->reason) : NULL, fates.sent, fates.lost,
              fates.skipped, sh->response_bytes);
}

/* For -v, also where there is no access log. */
static void tell_end(const struct accounting *accounting)
{
    char name[SESSION_NAME];

    if (!log_is_on(LEVEL_DEBUG))
        return;
    session_name(accounting->mirror, accounting->number, name);
    for (size_t i = 0; i < accounting->shadow_count; i++)
        tell_shadow(name, &accounting->shadows[i], accounting->request_bytes);
    log_debug(name, "session_ended",
              "reason=%s seconds=%.3f request_bytes=%" PRIu64 " response_bytes=%" PRIu64,
              session_reason_name(accounting->reason), accounting->seconds,
              accounting->request_bytes, accounting->response_bytes);
}

void accounting_close(const struct accounting *accounting)
{
    struct slot *slot = accounting->mirror->slot;

    for (size_t i = 0; i < accounting->shadow_count; i++) {
        const struct shadow *sh = &accounting->shadows[i];
        struct shadow_cells *cells = &slot->shadows[sh->row];

        cell_add(&cells->results[sh->result], 1);
        cell_add(&cells->decided[sh->result], (uint64_t)-1);
        cell_add(&cells->counts[SHADOW_COUNT_UNACKED], sh->unacked_bytes);
    }
    cell_add(&slot->closed[accounting->reason], 1);
    cell_add(&slot->counts[COUNT_SESSIONS_ACTIVE], (uint64_t)-1);
    tell_end(accounting);
    if (access_log_is_on() && access_log_format() == FORMAT_JSON)
        write_json(accounting);
    else if (access_log_is_on())
        write_text(accounting);
}
