/*
 * session_log.c — log lines about a session that goes on, or that failed before it began.
 *
 * Each kind has a rate limit of its worker, is said once, or is for -v.
 */
#include "session_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/address.h"
#include "base/log.h"
#include "config/config.h"
#include "mirror/mirror.h"
#include "mirror/reason.h"
#include "mirror/session_parts.h"
#include "mirror/shadow.h"
#include "shared/page.h"
#include "stream/stream.h"
#include "transport/transport.h"

#define WARNING_EVERY 10.0 /* seconds, per reason; of shadows, of each */

_Static_assert(CONFIG_MAX_LISTENS <= 64, "each listener has a bit of the page's hellos");

static void print_peer(const struct transport *transport, char text[ADDRESS_TEXT])
{
    struct address peer;

    transport_peer(transport, &peer);
    address_print(&peer, text);
}

/* NULL, which leaves the member out: there is nothing to say. */
static const char *why_of(const struct transport *transport)
{
    const char *why = transport != NULL ? transport_why(transport) : "";

    return why[0] != '\0' ? why : NULL;
}

void session_log_begun(const struct session *s)
{
    char client[ADDRESS_TEXT];
    char name[SESSION_NAME];

    if (!log_is_on(LEVEL_DEBUG))
        return;
    print_peer(s->client, client);
    session_name(s->mirror, s->number, name);
    log_debug(name, "session_begun", "listener=%s client=%s", s->listener->name, client);
}

void session_log_primary_connected(const struct session *s)
{
    char text[ADDRESS_TEXT];
    char name[SESSION_NAME];

    if (!log_is_on(LEVEL_DEBUG))
        return;
    print_peer(s->primary, text);
    session_name(s->mirror, s->number, name);
    log_debug(name, "primary_connected", "address=%s connect_ms=%.1f", text,
              (double)s->connect_seconds * 1000);
}

/* The address, or what was to be asked for one: of several the last, which was tried last. */
static void print_primary(const struct session *s, char text[ENDPOINT_TEXT])
{
    const struct config *config = s->mirror->config;
    struct address       address = { 0 };
    char                 numeric[ADDRESS_TEXT];

    if (s->primary != NULL)
        transport_peer(s->primary, &address);
    address_print(&address, numeric);
    snprintf(text, ENDPOINT_TEXT, "%s",
             address.length > 0 ? numeric : config->primaries[config->primary_count - 1].name);
}

void session_log_primary_failed(const struct session *s, double now)
{
    struct log_limit *limit = &s->mirror->session_limits[s->reason];
    char              address[ENDPOINT_TEXT];
    char              name[SESSION_NAME];
    uint64_t          suppressed;

    if (!log_limit_passes(limit, now, WARNING_EVERY, &suppressed))
        return;
    session_name(s->mirror, s->number, name);
    print_primary(s, address);
    log_warning(name, "primary_failed", "reason=%s address=%s why=%s suppressed=%" PRIu64,
                session_reason_name(s->reason), address,
                s->primary != NULL ? why_of(s->primary) : "no memory", suppressed);
}

void session_log_client_failed(const struct session *s, double now)
{
    char     name[SESSION_NAME];
    uint64_t suppressed;

    if (!log_limit_passes(&s->mirror->client_limit, now, WARNING_EVERY, &suppressed))
        return;
    session_name(s->mirror, s->number, name);
    log_info(name, "client_failed", "reason=%s why=%s suppressed=%" PRIu64,
             session_reason_name(s->reason), why_of(s->client), suppressed);
}

void session_log_header_refused(const struct session *s, const char *why, double now)
{
    struct log_limit *limit = &s->mirror->session_limits[SESSION_PROXY_HEADER];
    char              text[ADDRESS_TEXT];
    char              name[SESSION_NAME];
    uint64_t          suppressed;

    if (!log_limit_passes(limit, now, WARNING_EVERY, &suppressed))
        return;
    print_peer(s->client, text);
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

void session_log_hello(const struct session *s, uint64_t from)
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

/* --- of a shadow ------------------------------------------------------------------------- */

void session_log_shadow_connected(const struct shadow *sh, const struct shadow_turn *turn)
{
    char address[ADDRESS_TEXT];
    char session[SESSION_NAME];

    if (!log_is_on(LEVEL_DEBUG))
        return;
    print_peer(sh->transport, address);
    session_name(sh->mirror, turn->session, session);
    log_debug(session, "shadow_connected", "shadow=%s address=%s connect_ms=%.1f", sh->config->name,
              address, (double)sh->connect_seconds * 1000);
}

/* Where the limit was ours, no socket knows why.  NULL: the reason says it all. */
static const char *advice_for(enum shadow_reason reason)
{
    switch (reason) {
    case SHADOW_LAG:
        return "it reads more slowly than the client sends; give it a larger buffer=, a smaller "
               "sample=, or a faster machine";
    case SHADOW_STALL:
        return "it took no byte for stall-timeout=, or did not finish within linger=";
    case SHADOW_MEMORY:
        return "the shadows together reached --shadow-memory, or memory ran out; raise it, or "
               "mirror less with sample=";
    case SHADOW_NO_DESCRIPTOR:
        return "descriptors ran out; raise ulimit -n, or lower --max-sessions";
    case SHADOW_CONNECT_TIMEOUT:
        return "it did not answer within connect-timeout=, or before the session was over";
    case SHADOW_FIN:
    case SHADOW_RST_DELIVERED:
    case SHADOW_RST:
    case SHADOW_REFUSED:
    case SHADOW_UNREACHABLE:
    case SHADOW_DNS:
    case SHADOW_TLS:
    case SHADOW_NO_PORT:
    case SHADOW_LOOP:
    case SHADOW_SESSION_ABORTED:
    case SHADOW_DRAIN:
    case SHADOW_ADMIN:
    case SHADOW_IO_ERROR:
    case SHADOW_REASON_COUNT:
        break;
    }
    return NULL;
}

void session_log_shadow_cut(const struct shadow *sh, const struct shadow_turn *turn)
{
    struct log_limit *limit = &sh->mirror->shadow_limits[sh->index].reasons[sh->reason];
    const char       *why = why_of(sh->transport);
    uint64_t          waiting = shadow_share(sh, stream_total(sh->request)) - sh->cursor.position;
    uint64_t          suppressed = 0;
    char              session[SESSION_NAME];
    void (*write_line)(const char *, const char *, const char *, ...) = log_warning;

    if (reason_is_from_outside(sh->reason))
        write_line = log_debug; /* another line says it */
    else if (sh->config->overflow == SHADOW_BLOCK)
        write_line = log_error;
    if (write_line != log_debug && !log_limit_passes(limit, turn->now, WARNING_EVERY, &suppressed))
        return;
    session_name(sh->mirror, turn->session, session);
    write_line(session, "shadow_detached",
               "shadow=%s reason=%s why=%s sent_bytes=%" PRIu64 " unsent_bytes=%" PRIu64
               " suppressed=%" PRIu64,
               sh->config->name, shadow_reason_name(sh->reason),
               why != NULL ? why : advice_for(sh->reason), sh->cursor.position, waiting,
               suppressed);
}

void session_log_shadow_mirrored(const struct shadow *sh, const struct shadow_turn *turn)
{
    _Atomic bool *was_mirrored = &sh->mirror->page->rows[sh->row].was_mirrored;
    char          session[SESSION_NAME];

    if (atomic_load(was_mirrored) || sh->cursor.position == 0 ||
        atomic_exchange(was_mirrored, true))
        return;
    session_name(sh->mirror, turn->session, session);
    log_info(session, "shadow_mirrored_first",
             "shadow=%s sent_bytes=%" PRIu64 " response_bytes=%" PRIu64, sh->config->name,
             sh->cursor.position, sh->response_bytes);
}
