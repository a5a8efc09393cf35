/*
 * stats.h — every counter, reason and result, declared once.
 *
 * A row here is all a new counter needs besides the line where it happens: the shared page makes
 * room for it (shared/page.h), and the metrics page, the exit totals and tools/check_names read the
 * same lists.  The names are a contract: ../docs/operating.md and dashboards hold on to them.
 */
#ifndef SHARED_STATS_H
#define SHARED_STATS_H

/* Why a session ended: doppel_sessions_closed_total{reason} and the access log. */
#define SESSION_REASONS(REASON)                                                                    \
    REASON(CLIENT_FIN, "client_fin", "the client finished first, in good order")                   \
    REASON(CLIENT_RST, "client_rst", "the client reset the connection")                            \
    REASON(CLIENT_RST_DELIVERED, "client_rst_delivered",                                           \
           "the client reset the connection after it had had the answer to everything it sent")    \
    REASON(CLIENT_TIMEOUT, "client_timeout",                                                       \
           "the client's host vanished (keepalive or user timeout)")                               \
    REASON(PRIMARY_FIN, "primary_fin", "the primary finished first, in good order")                \
    REASON(PRIMARY_RST, "primary_rst", "the primary reset the connection")                         \
    REASON(PRIMARY_RST_DELIVERED, "primary_rst_delivered",                                         \
           "the primary reset the connection after it had had and answered everything")            \
    REASON(PRIMARY_REFUSED, "primary_refused", "nobody listens at the primary's address")          \
    REASON(PRIMARY_TIMEOUT, "primary_timeout",                                                     \
           "the primary did not answer in time, or its host vanished")                             \
    REASON(PRIMARY_UNREACHABLE, "primary_unreachable", "there is no way to the primary's address") \
    REASON(PRIMARY_DNS, "primary_dns", "the primary's name did not resolve")                       \
    REASON(TLS_CLIENT, "tls_client",                                                               \
           "TLS with the client failed: handshake, certificate or record")                         \
    REASON(TLS_PRIMARY, "tls_primary",                                                             \
           "TLS with the primary failed: handshake, certificate or record")                        \
    REASON(TLS_EOF, "tls_eof", "TLS ended without close_notify, with --tls-strict-eof")            \
    REASON(PROXY_HEADER, "proxy_header",                                                           \
           "the client sent no good PROXY header in time, or may not send one")                    \
    REASON(DENIED, "denied", "the client is in no network of --allow")                             \
    REASON(LIMIT, "limit", "the client's address had --max-sessions-per-source sessions already") \
    REASON(IDLE, "idle", "both directions were quiet for --idle-timeout")                          \
    REASON(HALF_CLOSE, "half_close",                                                               \
           "one direction had ended and the other was quiet for --half-close-timeout")             \
    REASON(LOOP, "loop", "the primary's address turned out to be our own listener")                \
    REASON(NO_PORT, "no_port", "no local port was left towards the primary")                       \
    REASON(NO_MEMORY, "no_memory", "memory ran out")                                               \
    REASON(NO_DESCRIPTOR, "no_descriptor", "file descriptors ran out")                             \
    REASON(DRAIN, "drain", "the drain deadline passed")                                            \
    REASON(IO_ERROR, "io_error", "a system call failed in another way")                            \
    REASON(INTERNAL, "internal", "the worker died")

/* What became of one shadow of one session: doppel_shadow_sessions_total{result}. */
#define SHADOW_RESULTS(RESULT)                                                                     \
    RESULT(MIRRORED, "mirrored", "the shadow got every byte, and the end")                         \
    RESULT(DETACHED, "detached", "the shadow was cut off before the end; the reason says why")     \
    RESULT(NO_DATA, "no_data", "the client never sent a byte, so the shadow was not dialled")      \
    RESULT(SAMPLED_OUT, "sampled_out", "the session was not in the sample")                        \
    RESULT(FILTERED, "filtered",                                                                   \
           "the client is in no network of the shadow's from=, or is itself a mirrored one")       \
    RESULT(LIMIT, "limit", "the shadow already had max-sessions sessions")                         \
    RESULT(RATE, "rate", "the shadow had its --shadow-rate of new sessions")                       \
    RESULT(BREAKER, "breaker", "the shadow's breaker was open: it had failed too often in a row")  \
    RESULT(PAUSED, "paused", "the shadow was paused, or all mirroring was off")

/* How the shadow's connection ended: doppel_shadow_closed_total{reason}; fin and rst_delivered are
 * success. */
#define SHADOW_REASONS(REASON)                                                                     \
    REASON(FIN, "fin", "it got every byte and the end")                                            \
    REASON(RST_DELIVERED, "rst_delivered", "it got every byte, then it reset the connection")      \
    REASON(RST, "rst", "it reset the connection")                                                  \
    REASON(REFUSED, "refused", "nobody listens at its address")                                    \
    REASON(UNREACHABLE, "unreachable", "there is no way to its address")                           \
    REASON(CONNECT_TIMEOUT, "connect_timeout", "it did not answer in time")                        \
    REASON(DNS, "dns", "its name did not resolve")                                                 \
    REASON(TLS, "tls", "TLS failed: handshake, certificate or record")                             \
    REASON(LAG, "lag", "it fell further behind than its buffer")                                   \
    REASON(STALL, "stall", "it took no byte for the stall timeout, or did not close in time")      \
    REASON(MEMORY, "memory", "all shadows together reached --shadow-memory, or memory ran out")    \
    REASON(NO_DESCRIPTOR, "no_descriptor", "file descriptors ran out")                             \
    REASON(NO_PORT, "no_port", "no local port was left towards it")                                \
    REASON(LOOP, "loop", "its address turned out to be our own listener")                          \
    REASON(SESSION_ABORTED, "session_aborted", "the client or the primary broke off")              \
    REASON(DRAIN, "drain", "the drain deadline passed")                                            \
    REASON(ADMIN, "admin", "it was paused, or all mirroring was switched off")                     \
    REASON(IO_ERROR, "io_error", "a system call failed in another way")

/*
 * COUNT(identifier, metric, labels, kind, help): one cell per worker; the metric is the sum over
 * the workers.  Rows of one metric stand together and share the help of the first.  A row whose
 * metric is "" is not exported.
 */
#define COUNTERS(COUNT)                                                                            \
    COUNT(SESSIONS, "doppel_sessions_total", "", COUNTER, "client connections accepted")           \
    COUNT(SESSIONS_ACTIVE, "doppel_sessions_active", "", GAUGE,                                    \
          "sessions not yet over, lingering shadows included")                                     \
    COUNT(CLIENTS_OPEN, "", "", GAUGE,                                                             \
          "sessions whose client is still there: what --max-sessions bounds")                      \
    COUNT(REQUEST_BYTES, "doppel_bytes_total", "direction=\"request\"", COUNTER,                   \
          "bytes relayed: read from clients, written to clients")                                  \
    COUNT(RESPONSE_BYTES, "doppel_bytes_total", "direction=\"response\"", COUNTER, "")             \
    COUNT(BUFFERED_BYTES, "doppel_buffered_bytes", "", GAUGE,                                      \
          "bytes held for a slower side, in memory or in pipes")                                   \
    COUNT(SHADOW_MEMORY, "", "", GAUGE,                                                            \
          "memory held for shadows alone: what --shadow-memory bounds")                            \
    COUNT(DNS_OK, "doppel_dns_lookups_total", "result=\"ok\"", COUNTER, "names looked up")         \
    COUNT(DNS_NOT_FOUND, "doppel_dns_lookups_total", "result=\"not_found\"", COUNTER, "")          \
    COUNT(DNS_TIMEOUT, "doppel_dns_lookups_total", "result=\"timeout\"", COUNTER, "")              \
    COUNT(DNS_FAILED, "doppel_dns_lookups_total", "result=\"failed\"", COUNTER, "")                \
    COUNT(DNS_STALE, "doppel_dns_stale", "", GAUGE,                                                \
          "names served from an old answer, because a newer one cannot be had")                    \
    COUNT(TLS_CLIENT_OK, "doppel_tls_handshakes_total", "side=\"client\",result=\"ok\"", COUNTER,  \
          "TLS handshakes by whom they were made with")                                            \
    COUNT(TLS_CLIENT_RESUMED, "doppel_tls_handshakes_total", "side=\"client\",result=\"resumed\"", \
          COUNTER, "")                                                                             \
    COUNT(TLS_CLIENT_FAILED, "doppel_tls_handshakes_total", "side=\"client\",result=\"failed\"",   \
          COUNTER, "")                                                                             \
    COUNT(TLS_CLIENT_TIMEOUT, "doppel_tls_handshakes_total", "side=\"client\",result=\"timeout\"", \
          COUNTER, "")                                                                             \
    COUNT(TLS_PRIMARY_OK, "doppel_tls_handshakes_total", "side=\"primary\",result=\"ok\"",         \
          COUNTER, "")                                                                             \
    COUNT(TLS_PRIMARY_RESUMED, "doppel_tls_handshakes_total",                                      \
          "side=\"primary\",result=\"resumed\"", COUNTER, "")                                      \
    COUNT(TLS_PRIMARY_FAILED, "doppel_tls_handshakes_total", "side=\"primary\",result=\"failed\"", \
          COUNTER, "")                                                                             \
    COUNT(TLS_PRIMARY_TIMEOUT, "doppel_tls_handshakes_total",                                      \
          "side=\"primary\",result=\"timeout\"", COUNTER, "")                                      \
    COUNT(TLS_SHADOW_OK, "doppel_tls_handshakes_total", "side=\"shadow\",result=\"ok\"", COUNTER,  \
          "")                                                                                      \
    COUNT(TLS_SHADOW_RESUMED, "doppel_tls_handshakes_total", "side=\"shadow\",result=\"resumed\"", \
          COUNTER, "")                                                                             \
    COUNT(TLS_SHADOW_FAILED, "doppel_tls_handshakes_total", "side=\"shadow\",result=\"failed\"",   \
          COUNTER, "")                                                                             \
    COUNT(TLS_SHADOW_TIMEOUT, "doppel_tls_handshakes_total", "side=\"shadow\",result=\"timeout\"", \
          COUNTER, "")                                                                             \
    COUNT(TLS_EOF, "doppel_tls_eof_total", "", COUNTER,                                            \
          "TLS connections that ended without close_notify")                                       \
    COUNT(KTLS_ON, "doppel_ktls_total", "result=\"on\"", COUNTER,                                  \
          "TLS handshakes with --tls-ktls, by whether the kernel encrypts from then on")           \
    COUNT(KTLS_OFF, "doppel_ktls_total", "result=\"off\"", COUNTER, "")                            \
    COUNT(ACCEPT_NO_DESCRIPTOR, "doppel_accept_errors_total", "error=\"no_descriptor\"", COUNTER,  \
          "accept(2) failed")                                                                      \
    COUNT(ACCEPT_NO_MEMORY, "doppel_accept_errors_total", "error=\"no_memory\"", COUNTER, "")      \
    COUNT(ACCEPT_OTHER, "doppel_accept_errors_total", "error=\"other\"", COUNTER, "")              \
    COUNT(ACCEPT_PAUSED, "doppel_accept_paused", "", GAUGE, "workers that have paused accepting")  \
    COUNT(SPLICE_NO_DESCRIPTOR, "doppel_splice_fallback_total", "why=\"no_descriptor\"", COUNTER,  \
          "times a stream went on in memory because pipes failed")                                 \
    COUNT(SPLICE_NO_MEMORY, "doppel_splice_fallback_total", "why=\"no_memory\"", COUNTER, "")      \
    COUNT(SPLICE_PIPE_SIZE, "doppel_splice_fallback_total", "why=\"pipe_size\"", COUNTER, "")      \
    COUNT(SPLICE_LIMIT, "doppel_splice_fallback_total", "why=\"limit\"", COUNTER, "")              \
    COUNT(SPLICE_REFUSED, "doppel_splice_fallback_total", "why=\"refused\"", COUNTER, "")          \
    COUNT(SPLICE_SHORT, "doppel_splice_fallback_total", "why=\"short\"", COUNTER, "")              \
    COUNT(LOG_DROPPED, "doppel_log_dropped_total", "", COUNTER,                                    \
          "log lines dropped because nobody took them")                                            \
    COUNT(LOOP_STALLS, "doppel_loop_stalls_total", "", COUNTER,                                    \
          "times a process stood still for over a second")                                         \
    COUNT(RELOADS_OK, "doppel_reloads_total", "result=\"ok\"", COUNTER,                            \
          "configurations read again")                                                             \
    COUNT(RELOADS_FAILED, "doppel_reloads_total", "result=\"failed\"", COUNTER, "")                \
    COUNT(WORKER_RESTARTS, "doppel_worker_restarts_total", "", COUNTER,                            \
          "workers replaced after they died")

/*
 * The same, one cell per worker and shadow name; the label shadow="NAME" is added.
 */
#define SHADOW_COUNTERS(COUNT)                                                                     \
    COUNT(ACTIVE, "doppel_shadow_active", "", GAUGE, "open or opening connections to the shadow")  \
    COUNT(BUFFERED, "doppel_shadow_buffered_bytes", "", GAUGE,                                     \
          "bytes offered that live connections have not taken yet")                                \
    COUNT(OFFERED, "doppel_shadow_bytes_total", "fate=\"offered\"", COUNTER,                       \
          "client bytes by what became of them for this shadow")                                   \
    COUNT(SENT, "doppel_shadow_bytes_total", "fate=\"sent\"", COUNTER, "")                         \
    COUNT(LOST, "doppel_shadow_bytes_total", "fate=\"lost\"", COUNTER, "")                         \
    COUNT(SKIPPED, "doppel_shadow_bytes_total", "fate=\"skipped\"", COUNTER, "")                   \
    COUNT(UNACKED, "doppel_shadow_bytes_total", "fate=\"unacked\"", COUNTER, "")                   \
    COUNT(RESPONSE, "doppel_shadow_response_bytes_total", "", COUNTER,                             \
          "bytes the shadow answered, discarded")

/*
 * TIMING(identifier, metric, shadow's metric, help): a histogram of seconds for each leg, summed over
 * the workers; the label leg="NAME" is added.  Each shadow name has its own, with the label
 * shadow="NAME" instead, and leg="shadow" is their sum.
 */
#define TIMINGS(TIMING)                                                                            \
    TIMING(CONNECT, "doppel_connect_seconds", "doppel_shadow_connect_seconds",                     \
           "time until a connection was open; client: PROXY header and TLS handshake")             \
    TIMING(                                                                                        \
        FIRST_BYTE, "doppel_first_byte_seconds", "doppel_shadow_first_byte_seconds",               \
        "time from the client's first byte to the first of the answer; client: from accepting it " \
        "to its first byte")

/* LEG(identifier, name): whose connection. */
#define LEGS(LEG)                                                                                  \
    LEG(CLIENT, "client")                                                                          \
    LEG(PRIMARY, "primary")                                                                        \
    LEG(SHADOW, "shadow")

#define STATS_NAME_OF(identifier, ...) TIMING_##identifier,
enum timing { TIMINGS(STATS_NAME_OF) TIMING_COUNT };
#undef STATS_NAME_OF
#define STATS_NAME_OF(identifier, ...) LEG_##identifier,
enum leg { LEGS(STATS_NAME_OF) LEG_COUNT };
#undef STATS_NAME_OF
#define STATS_NAME_OF(identifier, ...) SESSION_##identifier,
enum session_reason { SESSION_REASONS(STATS_NAME_OF) SESSION_REASON_COUNT };
#undef STATS_NAME_OF
#define STATS_NAME_OF(identifier, ...) RESULT_##identifier,
enum shadow_result { SHADOW_RESULTS(STATS_NAME_OF) SHADOW_RESULT_COUNT };
#undef STATS_NAME_OF
#define STATS_NAME_OF(identifier, ...) SHADOW_##identifier,
enum shadow_reason { SHADOW_REASONS(STATS_NAME_OF) SHADOW_REASON_COUNT };
#undef STATS_NAME_OF
#define STATS_NAME_OF(identifier, ...) COUNT_##identifier,
enum counter { COUNTERS(STATS_NAME_OF) COUNTER_COUNT };
#undef STATS_NAME_OF
#define STATS_NAME_OF(identifier, ...) SHADOW_COUNT_##identifier,
enum shadow_counter { SHADOW_COUNTERS(STATS_NAME_OF) SHADOW_COUNTER_COUNT };
#undef STATS_NAME_OF

const char *session_reason_name(enum session_reason);
const char *shadow_result_name(enum shadow_result);
const char *shadow_reason_name(enum shadow_reason);

/* The version this program was built as. */
const char *stats_version(void);

#endif
