/*
 * account.c — adding up, and the access-log line.
 */
#include "account.h"

#include <inttypes.h>
#include <stdbool.h>

#include "base/line.h"
#include "base/log.h"
#include "base/page.h"
#include "config/config.h"
#include "flow/tls.h"
#include "flow/transport.h"
#include "mirror/mirror.h"
#include "mirror/shadow.h"

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

/* Of a shadow whose session is over. */
static uint64_t lost_bytes(const struct shadow *sh, uint64_t offered)
{
    return was_mirrored(sh) ? shadow_share(sh, offered) - sh->cursor.position : 0;
}

static void book_shadow(struct shadow *sh, uint64_t offered)
{
    struct shadow_cells *cells = &sh->mirror->slot->shadows[sh->row];
    uint64_t             sent = sh->cursor.position;
    uint64_t             share = shadow_share(sh, offered);
    uint64_t             gone = shadow_is_over(sh) ? share - sent : 0;
    uint64_t             lost = was_mirrored(sh) ? gone : 0;
    uint64_t             skipped = offered - share + gone - lost;
    uint64_t buffered = sh->booked_offered - sh->booked_sent - sh->booked_lost - sh->booked_skipped;

    add(&cells->counts[SHADOW_COUNT_BUFFERED], offered - sent - lost - skipped, &buffered);
    add(&cells->counts[SHADOW_COUNT_OFFERED], offered, &sh->booked_offered);
    add(&cells->counts[SHADOW_COUNT_SENT], sent, &sh->booked_sent);
    add(&cells->counts[SHADOW_COUNT_LOST], lost, &sh->booked_lost);
    add(&cells->counts[SHADOW_COUNT_SKIPPED], skipped, &sh->booked_skipped);
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
    line_item(line);
    line_text(line, "name", sh->config->name);
    line_address(line, "address", sh->transport);
    line_text(line, "result", shadow_result_name(sh->result));
    if (was_mirrored(sh))
        line_text(line, "reason", shadow_reason_name(sh->reason));
    line_milliseconds(line, "connect_ms", sh->connect_seconds);
    line_milliseconds(line, "first_byte_ms", sh->first_byte_seconds);
    line_number(line, "offered_bytes", offered);
    line_number(line, "sent_bytes", sh->cursor.position);
    line_number(line, "lost_bytes", lost_bytes(sh, offered));
    if (!shadow_was_dialled(sh))
        return;
    line_number(line, "unacked_bytes", sh->unacked_bytes);
    line_number(line, "max_lag_bytes", sh->max_lag);
    line_number(line, "response_bytes", sh->response_bytes);
}

/* Shadows that no longer fit are counted instead. */
static void line_shadows(struct line *line, const struct account *account)
{
    uint64_t omitted = 0;

    line_list(line, "shadows");
    for (size_t i = 0; i < account->shadow_count; i++) {
        line_shadow(line, &account->shadows[i], account->request_bytes);
        omitted += !line_item_fits(line);
    }
    line_list_end(line);
    if (omitted > 0)
        line_number(line, "shadows_omitted", omitted);
}

static void write_line(const struct account *account)
{
    struct line line;
    char        time[LOG_TIME_TEXT];
    char        name[SESSION_NAME];

    log_time(time);
    session_name(account->mirror, account->number, name);
    line_start(&line, access_log_format());
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
        line_shadows(&line, account);
    line_end(&line);
    access_log_write(&line);
}

static void tell_shadow(const char *session, const struct shadow *sh, uint64_t offered)
{
    log_debug(session, "shadow_ended",
              "shadow=%s result=%s reason=%s sent_bytes=%" PRIu64 " lost_bytes=%" PRIu64
              " response_bytes=%" PRIu64,
              sh->config->name, shadow_result_name(sh->result),
              was_mirrored(sh) ? shadow_reason_name(sh->reason) : NULL, sh->cursor.position,
              lost_bytes(sh, offered), sh->response_bytes);
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
    if (access_log_is_on())
        write_line(account);
}
