/*
 * notices.c — log lines about a session that goes on, or that failed before it began.
 *
 * Each kind has a rate limit of its worker, is said once, or is for -v.
 */
#include "notices.h"

#include <inttypes.h>
#include <string.h>

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

/* --- TLS on a plain listener ------------------------------------------------------------- */

#define HELLO_START   11 /* bytes of a ClientHello that tell it */
#define HELLO_WITHIN  4096 /* bytes: what is said before TLS begins is short */
#define MYSQL_REQUEST 36

/* A record of TLS with a ClientHello (RFC 8446, 4 and 5.1). */
static bool is_hello(const unsigned char *bytes, size_t length)
{
    static const unsigned char handshake = 0x16, version = 3, client_hello = 1;

    return length >= HELLO_START && bytes[0] == handshake && bytes[1] == version &&
           bytes[5] == client_hello && bytes[9] == version;
}

/* Who asks for TLS waits for the answer before the hello, except for MySQL's clients: theirs may
 * follow in the same read (dev.mysql.com, "Protocol::SSLRequest"). */
static bool begins_tls(const unsigned char *bytes, size_t length)
{
    static const unsigned char mysql[] = { MYSQL_REQUEST - 4, 0, 0, 1 };

    if (length > MYSQL_REQUEST && memcmp(bytes, mysql, sizeof mysql) == 0)
        return is_hello(bytes + MYSQL_REQUEST, length - MYSQL_REQUEST);
    return is_hello(bytes, length);
}

static bool first_hello_at(const struct session *s)
{
    size_t   listener = (size_t)(s->listener - s->mirror->config->listens);
    uint64_t bit = (uint64_t)1 << listener;

    return (atomic_fetch_or(&s->mirror->page->hellos, bit) & bit) == 0;
}

void notice_hello(const struct session *s, uint64_t from)
{
    unsigned char bytes[MYSQL_REQUEST + HELLO_START];

    if (s->shadow_count == 0 || s->listener->endpoint.tls || from >= HELLO_WITHIN)
        return;
    size_t length = stream_peek(s->request, from, bytes, sizeof bytes);
    if (!begins_tls(bytes, length) || !first_hello_at(s))
        return;
    log_warning("listener", "tls_passes_through", "listener=%s why=%s", s->listener->name,
                from == 0 && is_hello(bytes, length)
                    ? "a client speaks TLS to the primary, so shadows see noise; listen on "
                      "tls:// to mirror what is inside"
                    : "a client asked the primary for TLS (STARTTLS, or sslmode=prefer of "
                      "PostgreSQL) and went on in it, so shadows see noise; let clients do "
                      "without it, as with sslmode=disable, or mirror where TLS has ended");
}
