/*
 * notices.c — log lines about a session that goes on, or that failed before it began.
 *
 * Each kind has a rate limit of its worker, is said once, or is for -v.
 */
#include "notices.h"

#include <inttypes.h>

#include "base/address.h"
#include "base/log.h"
#include "base/page.h"
#include "config/config.h"
#include "flow/stream.h"
#include "flow/transport.h"
#include "mirror/mirror.h"
#include "mirror/session_parts.h"

#define WARNING_EVERY 10.0 /* seconds, per reason */

_Static_assert(CONFIG_MOST_LISTENS <= 64, "each listener has a bit of the page's hellos");

void notice_begun(const struct session *s)
{
    char name[SESSION_NAME];

    if (!log_is_on(LEVEL_DEBUG))
        return;
    session_name(s->mirror, s->number, name);
    log_debug(name, "session_begun", "listener=%s", s->listener->name);
}

void notice_primary_connected(const struct session *s)
{
    struct address primary;
    char           text[ADDRESS_TEXT];
    char           name[SESSION_NAME];

    if (!log_is_on(LEVEL_DEBUG))
        return;
    transport_peer(s->primary, &primary);
    address_print(&primary, text);
    session_name(s->mirror, s->number, name);
    log_debug(name, "primary_connected", "address=%s connect_ms=%.1f", text,
              (double)s->connect_seconds * 1000);
}

void notice_primary_failed(const struct session *s, double now)
{
    struct log_limit *limit = &s->mirror->session_limits[s->reason];
    char              name[SESSION_NAME];
    uint64_t          suppressed;

    if (!log_limit_passes(limit, now, WARNING_EVERY, &suppressed))
        return;
    session_name(s->mirror, s->number, name);
    log_warning(name, "primary_failed", "reason=%s why=%s suppressed=%" PRIu64,
                session_reason_name(s->reason),
                s->primary != NULL ? transport_why(s->primary) : "no memory", suppressed);
}

void notice_client_failed(const struct session *s, double now)
{
    char     name[SESSION_NAME];
    uint64_t suppressed;

    if (!log_limit_passes(&s->mirror->client_limit, now, WARNING_EVERY, &suppressed))
        return;
    session_name(s->mirror, s->number, name);
    log_info(name, "client_failed", "reason=%s why=%s suppressed=%" PRIu64,
             session_reason_name(s->reason), transport_why(s->client), suppressed);
}

void notice_header_refused(const struct session *s, const char *why, double now)
{
    struct log_limit *limit = &s->mirror->session_limits[SESSION_PROXY_HEADER];
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

void notice_hello(const struct session *s)
{
    static const unsigned char handshake = 0x16, version = 3, client_hello = 1; /* RFC 8446, 5.1 */
    size_t                     listener = (size_t)(s->listener - s->mirror->config->listens);
    unsigned char              start[6];
    uint64_t                   bit = (uint64_t)1 << listener;

    if (s->shadow_count == 0 || s->listener->endpoint.tls ||
        stream_peek(s->request, start, sizeof start) < sizeof start || start[0] != handshake ||
        start[1] != version || start[5] != client_hello)
        return;
    if ((atomic_fetch_or(&s->mirror->page->hellos, bit) & bit) == 0)
        log_warning("listener", "tls_passes_through", "listener=%s why=%s", s->listener->name,
                    "a client speaks TLS to the primary, so shadows see noise; listen on tls:// to "
                    "mirror what is inside");
}
