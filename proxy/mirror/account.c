/*
 * account.c — adding up, and the access-log line.
 */
#include "account.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/line.h"
#include "base/log.h"
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

static void add(_Atomic uint64_t *cell, uint64_t now, uint64_t *booked)
{
    if (now != *booked)
        cell_add(cell, now - *booked);
    *booked = now;
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
    uint64_t buffered = sh->booked_offered - sh->booked_sent - sh->booked_lost - sh->booked_skipped;

    add(&cells->counts[SHADOW_COUNT_BUFFERED], offered - now.sent - now.lost - now.skipped,
        &buffered);
    add(&cells->counts[SHADOW_COUNT_OFFERED], offered, &sh->booked_offered);
    add(&cells->counts[SHADOW_COUNT_SENT], now.sent, &sh->booked_sent);
    add(&cells->counts[SHADOW_COUNT_LOST], now.lost, &sh->booked_lost);
    add(&cells->counts[SHADOW_COUNT_SKIPPED], now.skipped, &sh->booked_skipped);
    add(&cells->counts[SHADOW_COUNT_RESPONSE], sh->response_bytes, &sh->booked_response);
}

void account_book(const struct account *account, struct booked *booked)
{
    struct slot *slot = account->mirror->slot;

    add(&slot->counts[COUNT_REQUEST_BYTES], account->request_bytes, &booked->request_bytes);
    add(&slot->counts[COUNT_RESPONSE_BYTES], account->response_bytes, &booked->response_bytes);
    add(&slot->counts[COUNT_BUFFERED_BYTES], account->buffered_bytes, &booked->buffered_bytes);
    for (size_t i = 0; i < account->shadow_count; i++)
        book_shadow(&account->shadows[i], account->request_bytes);
}

/* --- the line ---------------------------------------------------------------------------- */

static void line_address(struct line *line, const char *key, const struct transport *transport)
{
    struct address address;
    char           text[ADDRESS_TEXT];

    if (transport == NULL)
        return;
    transport_peer(transport, &address);
    if (address.length == 0)
        return;
    address_print(&address, text);
    line_text(line, key, text);
}

static void line_milliseconds(struct line *line, const char *key, double seconds)
{
    if (seconds >= 0)
        line_decimal(line, key, seconds * 1000, 1);
}

static void line_tls(struct line *line, const struct tls *tls)
{
    if (tls == NULL)
        return;
    const struct tls_facts *facts = tls_facts(tls);
    line_text(line, "tls", facts->version);
    if (facts->server_name != NULL)
        line_text(line, "sni", facts->server_name);
}

static void line_shadow(struct line *line, const struct shadow *sh, uint64_t offered)
{
    struct fates fates = fates_of(sh, offered);

    line_item(line);
    line_text(line, "name", sh->config->name);
    line_address(line, "address", sh->transport);
    line_text(line, "result", shadow_result_name(sh->result));
    if (was_mirrored(sh))
        line_text(line, "reason", shadow_reason_name(sh->reason));
    line_milliseconds(line, "connect_ms", sh->connect_seconds);
    line_milliseconds(line, "first_byte_ms", sh->first_byte_seconds);
    line_number(line, "offered_bytes", offered);
    line_number(line, "sent_bytes", fates.sent);
    line_number(line, "lost_bytes", fates.lost);
    line_number(line, "skipped_bytes", fates.skipped);
    if (!shadow_was_dialled(sh))
        return;
    line_number(line, "unacked_bytes", sh->unacked_bytes);
    line_number(line, "max_lag_bytes", sh->max_lag);
    line_number(line, "response_bytes", sh->response_bytes);
}

/* canary=mirrored next=lag(-4096): what became of it, and what it did not get. */
static void line_shadow_shortly(struct line *line, const struct shadow *sh, uint64_t offered)
{
    uint64_t lost = fates_of(sh, offered).lost;
    char     text[128]; /* a name has 32 letters */
    int      length = snprintf(text, sizeof text, "%s=%s", sh->config->name,
                          sh->result == RESULT_DETACHED ? shadow_reason_name(sh->reason)
                                                        : shadow_result_name(sh->result));

    if (lost > 0)
        snprintf(text + length, sizeof text - (size_t)length, "(-%" PRIu64 ")", lost);
    line_item(line);
    line_word(line, "shadow", text);
}

typedef void shadow_writer(struct line *, const struct shadow *, uint64_t offered);

/* Shadows that no longer fit are counted instead. */
static void line_shadows(struct line *line, const struct account *account, shadow_writer *write)
{
    uint64_t omitted = 0;

    line_list(line, "shadows");
    for (size_t i = 0; i < account->shadow_count; i++) {
        write(line, &account->shadows[i], account->request_bytes);
        omitted += !line_item_fits(line);
    }
    line_list_end(line);
    if (omitted > 0)
        line_number(line, "shadows_omitted", omitted);
}

static void line_count(struct line *line, const char *key, uint64_t count)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRIu64, count);
    line_column(line, key, text, BYTES_WIDTH);
}

/* For people: what matters at a glance, below each other. */
static void write_text(const struct account *account)
{
    struct line    line;
    struct address client;
    char           time[LOG_TIME_TEXT];
    char           name[SESSION_NAME];
    char           address[ADDRESS_TEXT];
    char           seconds[32];

    log_time(time);
    session_name(account->mirror, account->number, name);
    transport_peer(account->client, &client);
    address_print(&client, address);
    snprintf(seconds, sizeof seconds, "%.3fs", account->seconds);
    line_start(&line, FORMAT_TEXT);
    line_column(&line, "time", time, 0);
    line_column(&line, "session", session_id(name), -SESSION_WIDTH);
    line_column(&line, "client", address, -CLIENT_WIDTH);
    line_column(&line, "reason", session_reason_name(account->reason), -REASON_WIDTH);
    line_column(&line, "seconds", seconds, SECONDS_WIDTH);
    line_count(&line, "request_bytes", account->request_bytes);
    line_count(&line, "response_bytes", account->response_bytes);
    line_shadows(&line, account, line_shadow_shortly);
    line_end(&line);
    access_log_write(&line);
}

static void write_json(const struct account *account)
{
    struct line line;
    char        time[LOG_TIME_TEXT];
    char        name[SESSION_NAME];

    log_time(time);
    session_name(account->mirror, account->number, name);
    line_start(&line, FORMAT_JSON);
    line_text(&line, "time", time);
    line_text(&line, "session", session_id(name));
    line_text(&line, "listener", account->listener->name);
    line_address(&line, "client", account->client);
    line_tls(&line, transport_tls(account->client));
    line_address(&line, "primary", account->primary);
    line_decimal(&line, "seconds", account->seconds, 3);
    line_milliseconds(&line, "connect_ms", account->connect_seconds);
    line_milliseconds(&line, "first_byte_ms", account->first_byte_seconds);
    line_number(&line, "request_bytes", account->request_bytes);
    line_number(&line, "response_bytes", account->response_bytes);
    line_text(&line, "reason", session_reason_name(account->reason));
    if (account->shadow_count > 0)
        line_shadows(&line, account, line_shadow);
    line_end(&line);
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
static void tell_end(const struct account *account)
{
    char name[SESSION_NAME];

    if (!log_is_on(LEVEL_DEBUG))
        return;
    session_name(account->mirror, account->number, name);
    for (size_t i = 0; i < account->shadow_count; i++)
        tell_shadow(name, &account->shadows[i], account->request_bytes);
    log_debug(name, "session_ended",
              "reason=%s seconds=%.3f request_bytes=%" PRIu64 " response_bytes=%" PRIu64,
              session_reason_name(account->reason), account->seconds, account->request_bytes,
              account->response_bytes);
}

void account_close(const struct account *account)
{
    struct slot *slot = account->mirror->slot;

    for (size_t i = 0; i < account->shadow_count; i++) {
        const struct shadow *sh = &account->shadows[i];
        struct shadow_cells *cells = &slot->shadows[sh->row];

        cell_add(&cells->results[sh->result], 1);
        cell_add(&cells->decided[sh->result], (uint64_t)-1);
        cell_add(&cells->counts[SHADOW_COUNT_UNACKED], sh->unacked_bytes);
    }
    cell_add(&slot->closed[account->reason], 1);
    cell_add(&slot->counts[COUNT_SESSIONS_ACTIVE], (uint64_t)-1);
    tell_end(account);
    if (access_log_is_on() && access_log_format() == FORMAT_JSON)
        write_json(account);
    else if (access_log_is_on())
        write_text(account);
}
