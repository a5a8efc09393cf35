/*
 * options.c — the one table, and how its rows are found.
 *
 * A new option is a field in config.h and a row here.  Defaults are those of production: safe, and
 * finite wherever a limit is meant.
 */
#include "config/options.h"

#include <string.h>

#include "config/config.h"

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define MINUTE ((uint64_t)60 * 1000) /* milliseconds, as the bounds of times */
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

/* A container may allow 10^9 descriptors; nothing is sized by such a number. */
#define MAX_SESSIONS 10000000

#define GLOBAL(member) .scope = SCOPE_GLOBAL, .field = offsetof(struct config, member)
#define SHADOW(member) .scope = SCOPE_SHADOW, .field = offsetof(struct shadow_config, member)
#define PRIMARY(member) .scope = SCOPE_PRIMARY, .field = offsetof(struct target_config, member)
#define LISTEN(member) .scope = SCOPE_LISTEN, .field = offsetof(struct listen_config, member)
#define TARGET(member) .scope = SCOPE_TARGET, .field = offsetof(struct target_config, member)
#define COMMAND        .scope = SCOPE_COMMAND

/* A row is to be seen at once; clang-format would give each member a line of its own. */
/* clang-format off */
static const struct option options[] = {
    { .name = "listen", .short_name = 'l', .group = GROUP_LISTENING, .kind = KIND_LISTENS,
      GLOBAL(listens), .metavar = "ADDR",
      .help = "accept clients here: PORT, HOST:PORT, [IPv6]:PORT, tls://HOST:PORT or unix:/path; "
              "repeatable" },
    { .key = "mode", .group = GROUP_LISTENING, .kind = KIND_MODE, LISTEN(mode), .preset = "0660",
      .max = 0777, .metavar = "MODE",
      .help = "permissions of a unix socket" },
    { .name = "allow", .group = GROUP_LISTENING, .kind = KIND_NETWORKS, GLOBAL(allow),
      .preset = "any", .none_word = "any", .metavar = "CIDR",
      .help = "accept only clients from these networks; others are reset; repeatable" },
    { .key = "accept-proxy", .group = GROUP_LISTENING, .kind = KIND_SWITCH, LISTEN(accept_proxy),
      .preset = "off", .metavar = "on|off",
      .help = "each client must send a PROXY header first; the address in it counts" },
    { .name = "proxy-trust", .group = GROUP_LISTENING, .kind = KIND_NETWORKS, GLOBAL(proxy_trust),
      .preset = "none", .none_word = "none", .metavar = "CIDR",
      .help = "networks that may send PROXY headers (required with accept-proxy=on); other "
              "connections are reset" },
    { .name = "backlog", .group = GROUP_LISTENING, .kind = KIND_COUNT, GLOBAL(backlog),
      .preset = "4096", .min = 1, .max = 65535, .metavar = "N",
      .help = "maximum connections the kernel queues until they are accepted (it has a limit of "
              "its own)" },

    { .name = "primary", .aliases = { "relay" }, .short_name = 'r', .group = GROUP_PRIMARY,
      .kind = KIND_PRIMARIES, GLOBAL(primaries), .metavar = "ADDR",
      .help = "forward here: HOST:PORT, tls://HOST:PORT, unix:/path or original-dst; several are "
              "tried in order" },
    { .key = "proxy", .group = GROUP_PRIMARY, .kind = KIND_CHOICE, PRIMARY(proxy),
      .preset = "off", .choices = "off v1 v2", .metavar = "off|v1|v2",
      .help = "send a PROXY header to the primary first" },
    { .name = "socket", .short_name = 's', .group = GROUP_PRIMARY, .kind = KIND_SOCKET,
      GLOBAL(primaries), .metavar = "PATH",
      .help = "same as --primary unix:PATH; takes precedence over --primary" },
    { .name = "allow-loop", .group = GROUP_PRIMARY, .kind = KIND_SWITCH, GLOBAL(allow_loop),
      .preset = "off",
      .help = "accept a target that is one of our own listeners, and a shadow that is the "
              "primary" },
    { .name = "source", .group = GROUP_PRIMARY, .kind = KIND_SOURCE, GLOBAL(source),
      .preset = "auto", .none_word = "auto", .metavar = "IP",
      .help = "local IP address to connect from: IPv4, IPv6, or one of each; auto: the kernel "
              "chooses" },
    { .key = "source", .group = GROUP_PRIMARY, .kind = KIND_SOURCE, PRIMARY(source),
      .preset = "auto", .none_word = "auto", .metavar = "IP",
      .help = "local IP address to connect from; takes precedence over --source" },
    { .name = "transparent", .group = GROUP_PRIMARY, .kind = KIND_SWITCH, GLOBAL(transparent),
      .preset = "off",
      .help = "connect to the primary from the client's address; needs CAP_NET_ADMIN and routes "
              "for the answers" },

    { .name = "shadow", .aliases = { "duplex", "mirror" }, .key = "address", .short_name = 'd',
      .group = GROUP_SHADOWS, .kind = KIND_SHADOWS, GLOBAL(shadows), .preset = "",
      .metavar = "LIST",
      .help = "send a copy to these servers: [NAME=]ADDRESS[?OPTION=VALUE&...], with commas "
              "between; repeatable" },
    { .name = "shadow-buffer", .key = "buffer", .group = GROUP_SHADOWS, .kind = KIND_SIZE,
      SHADOW(buffer), .preset = "16m", .min = 4 * KIB, .max = 4 * GIB, .metavar = "SIZE",
      .help = "maximum unsent bytes kept for a shadow, per session; uses memory only while the "
              "shadow lags" },
    { .name = "shadow-memory", .group = GROUP_SHADOWS, .kind = KIND_SIZE, GLOBAL(shadow_memory),
      .preset = "256m", .min = 64 * KIB, .max = 1024 * GIB, .metavar = "SIZE",
      .help = "maximum unsent bytes kept for all shadows together, across all workers" },
    { .name = "shadow-overflow", .key = "overflow", .group = GROUP_SHADOWS, .kind = KIND_CHOICE,
      SHADOW(overflow), .preset = "detach", .choices = "detach block", .metavar = "detach|block",
      .help = "when a shadow's buffer is full: detach cuts the shadow off, block makes the client "
              "wait" },
    { .name = "shadow-sample", .key = "sample", .group = GROUP_SHADOWS, .kind = KIND_PERCENT,
      SHADOW(sample), .preset = "100", .max = 100, .metavar = "PERCENT",
      .help = "percentage of sessions to mirror" },
    { .name = "shadow-sample-by", .key = "by", .group = GROUP_SHADOWS, .kind = KIND_CHOICE,
      SHADOW(sample_by), .preset = "session", .choices = "session source",
      .metavar = "session|source",
      .help = "choose sessions at random (session), or always the same client addresses (source)" },
    { .name = "sample-seed", .group = GROUP_SHADOWS, .kind = KIND_COUNT, GLOBAL(sample_seed),
      .preset = "name", .none_word = "name", .min = 1, .max = 1000000000000000000,
      .metavar = "N|name",
      .help = "sampling by source with the same seed chooses the same clients everywhere; name: "
              "the shadow's name" },
    { .name = "shadow-ramp", .key = "ramp", .group = GROUP_SHADOWS, .kind = KIND_TIME, SHADOW(ramp),
      .preset = "off", .none_word = "off", .max = 14 * DAY, .metavar = "TIME",
      .help = "increase a shadow's sample from 0 to its full value over this time after the "
              "start" },
    { .name = "shadow-for", .key = "for", .group = GROUP_SHADOWS, .kind = KIND_TIME,
      SHADOW(duration), .preset = "off", .none_word = "off", .max = 14 * DAY, .metavar = "TIME",
      .help = "stop mirroring to this shadow after this time" },
    { .name = "shadow-rate", .key = "rate", .group = GROUP_SHADOWS, .kind = KIND_COUNT, SHADOW(rate),
      .preset = "off", .none_word = "off", .max = 1000000, .metavar = "N|off",
      .help = "maximum new mirrored sessions per second, across all workers; allows bursts of one "
              "second's worth" },
    { .name = "shadow-max-bytes", .key = "max-bytes", .group = GROUP_SHADOWS, .kind = KIND_SIZE,
      SHADOW(max_bytes), .preset = "off", .none_word = "off", .max = 1024 * GIB, .metavar = "SIZE",
      .help = "mirror only this many bytes of each session, then end the shadow's connection" },
    { .name = "shadow-greeting", .key = "greeting", .group = GROUP_SHADOWS, .kind = KIND_TIME,
      SHADOW(greeting), .preset = "off", .none_word = "off", .max = HOUR, .metavar = "TIME",
      .help = "wait up to this time until the shadow speaks first, as SMTP servers do, before "
              "sending to it" },
    { .name = "shadow-max-sessions", .key = "max-sessions", .group = GROUP_SHADOWS,
      .kind = KIND_COUNT, SHADOW(max_sessions), .preset = "10000", .min = 1,
      .max = MAX_SESSIONS, .metavar = "N",
      .help = "maximum sessions mirrored at the same time" },
    { .name = "shadow-from", .key = "from", .group = GROUP_SHADOWS, .kind = KIND_NETWORKS,
      SHADOW(from), .preset = "any", .none_word = "any", .metavar = "CIDR",
      .help = "mirror only clients from these networks; repeatable" },
    { .name = "shadow-connect-on", .key = "connect-on", .group = GROUP_SHADOWS, .kind = KIND_CHOICE,
      SHADOW(connect_on), .preset = "data", .choices = "start data", .metavar = "start|data",
      .help = "connect to the shadow when the client sends its first byte (data) or connects "
              "(start)" },
    { .name = "shadow-connect-timeout", .key = "connect-timeout", .group = GROUP_SHADOWS,
      .kind = KIND_TIME, SHADOW(connect_timeout), .preset = "2s", .min = 1, .max = HOUR,
      .metavar = "TIME",
      .help = "maximum time to connect to a shadow" },
    { .name = "shadow-stall-timeout", .key = "stall-timeout", .group = GROUP_SHADOWS,
      .kind = KIND_TIME, SHADOW(stall_timeout), .preset = "30s", .none_word = "off", .max = DAY,
      .metavar = "TIME",
      .help = "detach a shadow that takes no bytes for this time; 0 or off: never" },
    { .name = "shadow-linger", .key = "linger", .group = GROUP_SHADOWS, .kind = KIND_TIME,
      SHADOW(linger), .preset = "5s", .max = HOUR, .metavar = "TIME",
      .help = "time a shadow has to take the remaining bytes after the client has gone" },
    { .name = "shadow-breaker", .key = "breaker", .group = GROUP_SHADOWS, .kind = KIND_BREAKER,
      SHADOW(breaker), .preset = "5/10s", .none_word = "off", .min = 1, .max = 1000,
      .metavar = "N/TIME",
      .help = "after N failed connects in a row do not mirror for TIME, then retry; not with "
              "overflow=block" },
    { .name = "shadow-source", .key = "source", .group = GROUP_SHADOWS, .kind = KIND_SOURCE,
      SHADOW(target.source), .preset = "auto", .none_word = "auto", .metavar = "IP",
      .help = "local IP address to connect from to shadows; auto: same as --source" },
    { .name = "shadow-proxy", .key = "proxy", .group = GROUP_SHADOWS, .kind = KIND_CHOICE,
      SHADOW(target.proxy), .preset = "off", .choices = "off v1 v2", .metavar = "off|v1|v2",
      .help = "send a PROXY header to shadows first; v2 also tells them that they get a copy" },

    { .name = "tls-cert", .group = GROUP_TLS, .kind = KIND_TEXTS, GLOBAL(tls_certs), .preset = "",
      .none_word = "", .metavar = "FILE",
      .help = "certificate chain for tls:// listeners, PEM, with or without its key; repeatable: "
              "chosen by SNI" },
    { .name = "tls-key", .group = GROUP_TLS, .kind = KIND_TEXTS, GLOBAL(tls_keys), .preset = "",
      .none_word = "", .metavar = "FILE",
      .help = "private key, if not in the certificate's file; repeatable, in the order of "
              "--tls-cert" },
    { .name = "tls-key-passphrase-file", .group = GROUP_TLS, .kind = KIND_TEXT,
      GLOBAL(tls_key_passphrase_file), .preset = "", .metavar = "FILE",
      .help = "file whose first line is the passphrase of encrypted private keys" },
    { .name = "tls-min", .group = GROUP_TLS, .kind = KIND_CHOICE, GLOBAL(tls_min), .preset = "1.2",
      .choices = "1.2 1.3", .metavar = "1.2|1.3",
      .help = "minimum TLS version for clients" },
    { .name = "tls-ciphers", .group = GROUP_TLS, .kind = KIND_TEXT, GLOBAL(tls_ciphers),
      .preset = "ECDHE+AESGCM:ECDHE+CHACHA20", .metavar = "LIST",
      .help = "cipher suites for clients, in OpenSSL's syntax; names that begin with TLS_ are for "
              "TLS 1.3" },
    { .name = "tls-alpn", .group = GROUP_TLS, .kind = KIND_TEXTS, GLOBAL(tls_alpn), .preset = "",
      .none_word = "", .metavar = "LIST",
      .help = "ALPN protocols for clients, preferred first: only what primary and shadows "
              "speak; empty: ignore ALPN" },
    { .name = "tls-client-ca", .group = GROUP_TLS, .kind = KIND_TEXT, GLOBAL(tls_client_ca),
      .preset = "", .metavar = "FILE",
      .help = "CA certificates that verify client certificates, PEM; empty: clients are not asked "
              "for one" },
    { .name = "tls-client-auth", .group = GROUP_TLS, .kind = KIND_CHOICE, GLOBAL(tls_client_auth),
      .preset = "required", .choices = "required optional", .metavar = "required|optional",
      .help = "with --tls-client-ca: clients must send a certificate (required) or may "
              "(optional)" },
    { .name = "tls-strict-eof", .group = GROUP_TLS, .kind = KIND_SWITCH, GLOBAL(tls_strict_eof),
      .preset = "off",
      .help = "treat a TLS connection that ends without close_notify as broken" },
    { .name = "tls-ktls", .group = GROUP_TLS, .kind = KIND_SWITCH, GLOBAL(tls_ktls),
      .preset = "off",
      .help = "let the kernel encrypt and decrypt TLS where it can, for clients and targets" },
    { .key = "verify", .group = GROUP_TLS, .kind = KIND_SWITCH, TARGET(verify), .preset = "on",
      .metavar = "on|off",
      .help = "verify the certificate of a tls:// target, for its host or sni" },
    { .key = "ca", .group = GROUP_TLS, .kind = KIND_TEXT, TARGET(ca), .preset = "",
      .metavar = "FILE",
      .help = "CA certificates that verify the target's certificate, PEM; empty: the system's" },
    { .key = "sni", .group = GROUP_TLS, .kind = KIND_HOST, TARGET(sni), .preset = "",
      .metavar = "NAME",
      .help = "server name to send and to verify; empty: send the client's, or the host" },
    { .key = "alpn", .group = GROUP_TLS, .kind = KIND_TEXTS, TARGET(alpn), .preset = "",
      .none_word = "", .metavar = "LIST",
      .help = "ALPN protocols to offer the target; empty: the one chosen with the client" },
    { .key = "cert", .group = GROUP_TLS, .kind = KIND_TEXT, TARGET(cert), .preset = "",
      .metavar = "FILE",
      .help = "our own certificate for this target, PEM" },
    { .key = "key", .group = GROUP_TLS, .kind = KIND_TEXT, TARGET(key), .preset = "",
      .metavar = "FILE",
      .help = "its private key, if not in the same file" },

    { .name = "resolver", .group = GROUP_NAMES, .kind = KIND_SERVERS, GLOBAL(resolvers),
      .preset = "auto", .none_word = "auto", .metavar = "IP[:PORT]",
      .help = "name servers to ask, with commas between; auto: those in /etc/resolv.conf, also "
              "after it changes" },
    { .name = "dns-family", .group = GROUP_NAMES, .kind = KIND_CHOICE, GLOBAL(dns_family),
      .preset = "any", .choices = "any ipv4 ipv6", .metavar = "any|ipv4|ipv6",
      .help = "address family to use; any: IPv4 first, then IPv6" },
    { .name = "ipv4", .short_name = '4', .group = GROUP_NAMES, .kind = KIND_SHORTHAND, COMMAND,
      .alias_for = "dns-family", .preset = "ipv4",
      .help = "same as --dns-family ipv4" },
    { .name = "ipv6", .short_name = '6', .group = GROUP_NAMES, .kind = KIND_SHORTHAND, COMMAND,
      .alias_for = "dns-family", .preset = "ipv6",
      .help = "same as --dns-family ipv6" },
    { .name = "dns-timeout", .group = GROUP_NAMES, .kind = KIND_TIME, GLOBAL(dns_timeout),
      .preset = "2s", .min = 10, .max = MINUTE, .metavar = "TIME",
      .help = "maximum time for a lookup, including all servers and retries" },
    { .name = "dns-ttl-min", .group = GROUP_NAMES, .kind = KIND_TIME, GLOBAL(dns_ttl_min),
      .preset = "1s", .min = 10, .max = HOUR, .metavar = "TIME",
      .help = "minimum time to keep an answer, whatever its TTL; takes precedence over "
              "--dns-ttl-max" },
    { .name = "dns-ttl-max", .group = GROUP_NAMES, .kind = KIND_TIME, GLOBAL(dns_ttl_max),
      .preset = "1h", .min = 10, .max = 7 * DAY, .metavar = "TIME",
      .help = "maximum time to keep an answer, whatever its TTL" },
    { .name = "dns-stale", .group = GROUP_NAMES, .kind = KIND_TIME, GLOBAL(dns_stale),
      .preset = "10m", .none_word = "off", .max = 7 * DAY, .metavar = "TIME",
      .help = "when lookups fail, keep using the last answer for this time; 0 or off: do not use "
              "it" },

    { .name = "max-sessions", .group = GROUP_LIMITS, .kind = KIND_COUNT, GLOBAL(max_sessions),
      .preset = "auto", .none_word = "auto", .max = MAX_SESSIONS, .metavar = "N|auto",
      .help = "maximum sessions at the same time, across all workers; then accepting pauses; auto: "
              "from ulimit -n" },
    { .name = "max-sessions-per-source", .group = GROUP_LIMITS, .kind = KIND_COUNT,
      GLOBAL(max_sessions_per_source), .preset = "off", .none_word = "off", .max = MAX_SESSIONS,
      .metavar = "N|off",
      .help = "maximum sessions per client address (IPv6: per /64) at the same time; more are "
              "reset" },
    { .name = "buffer", .group = GROUP_LIMITS, .kind = KIND_SIZE, GLOBAL(buffer), .preset = "256k",
      .min = 4 * KIB, .max = GIB, .metavar = "SIZE",
      .help = "maximum bytes buffered between client and primary, per direction, before the sender "
              "has to wait" },
    { .name = "io", .group = GROUP_LIMITS, .kind = KIND_CHOICE, GLOBAL(io), .preset = "auto",
      .choices = "auto copy splice", .metavar = "auto|copy|splice",
      .help = "move bytes through memory (copy) or inside the kernel, without TLS (splice); auto: "
              "by the traffic" },
    { .name = "connect-timeout", .group = GROUP_LIMITS, .kind = KIND_TIME, GLOBAL(connect_timeout),
      .preset = "5s", .min = 1, .max = HOUR, .metavar = "TIME",
      .help = "maximum time to connect to the primary, per address" },
    { .name = "handshake-timeout", .group = GROUP_LIMITS, .kind = KIND_TIME,
      GLOBAL(handshake_timeout), .preset = "10s", .min = 1, .max = HOUR, .metavar = "TIME",
      .help = "maximum time for a client to send its PROXY header, and again for its TLS "
              "handshake" },
    { .name = "max-handshakes", .group = GROUP_LIMITS, .kind = KIND_COUNT, GLOBAL(max_handshakes),
      .preset = "1024", .min = 1, .max = MAX_SESSIONS, .metavar = "N",
      .help = "maximum client TLS handshakes at the same time, across all workers; further "
              "clients wait" },
    { .name = "idle-timeout", .group = GROUP_LIMITS, .kind = KIND_TIME, GLOBAL(idle_timeout),
      .preset = "1h", .none_word = "off", .max = 14 * DAY, .metavar = "TIME",
      .help = "end a session after this time without data in either direction; 0 or off: never" },
    { .name = "half-close-timeout", .group = GROUP_LIMITS, .kind = KIND_TIME,
      GLOBAL(half_close_timeout), .preset = "5m", .none_word = "off", .max = 14 * DAY,
      .metavar = "TIME",
      .help = "end a session after this time without data once one direction has ended; 0 or off: "
              "never" },
    { .name = "tcp-user-timeout", .group = GROUP_LIMITS, .kind = KIND_TIME,
      GLOBAL(tcp_user_timeout), .preset = "0", .none_word = "off", .max = HOUR, .metavar = "TIME",
      .help = "TCP_USER_TIMEOUT for client and primary; also ends live connections whose peer "
              "reads slowly" },

    { .name = "verbose", .short_name = 'v', .group = GROUP_LOGGING, .kind = KIND_SHORTHAND, COMMAND,
      .alias_for = "log-level", .preset = "debug",
      .help = "same as --log-level debug: events and byte counts, never payload; -vv too" },
    { .name = "quiet", .short_name = 'q', .group = GROUP_LOGGING, .kind = KIND_SHORTHAND, COMMAND,
      .alias_for = "log-level", .preset = "warning",
      .help = "same as --log-level warning" },
    { .name = "log-level", .group = GROUP_LOGGING, .kind = KIND_CHOICE, GLOBAL(log_level),
      .preset = "info", .choices = "error warning info debug", .metavar = "LEVEL",
      .help = "lowest level to log: error, warning, info or debug" },
    { .name = "log-format", .group = GROUP_LOGGING, .kind = KIND_CHOICE, GLOBAL(log_format),
      .preset = "text", .choices = "text json", .metavar = "text|json",
      .help = "format of log lines" },
    { .name = "log-file", .group = GROUP_LOGGING, .kind = KIND_TEXT, GLOBAL(log_file), .preset = "-",
      .min = 1, .metavar = "FILE|-",
      .help = "write the log to this file; - is stderr" },
    { .name = "access-log", .group = GROUP_LOGGING, .kind = KIND_TEXT, GLOBAL(access_log),
      .preset = "-", .min = 1, .metavar = "FILE|-|off",
      .help = "write one line per session to this file; - is stdout" },
    { .name = "access-format", .group = GROUP_LOGGING, .kind = KIND_CHOICE, GLOBAL(access_format),
      .preset = "json", .choices = "text json", .metavar = "json|text",
      .help = "format of the lines in the access log" },

    { .name = "config", .short_name = 'c', .group = GROUP_PROCESSES, .kind = KIND_FILE, COMMAND,
      .preset = "", .metavar = "FILE",
      .help = "read this configuration file; environment and flags take precedence" },
    { .name = "check", .short_name = 't', .group = GROUP_PROCESSES, .kind = KIND_ACTION, COMMAND,
      .action = CONFIG_CHECK,
      .help = "check everything a start needs, print the configuration in effect, and exit" },
    { .name = "workers", .short_name = 'w', .group = GROUP_PROCESSES, .kind = KIND_WORKERS,
      GLOBAL(workers), .preset = "auto", .min = 1, .max = 256, .metavar = "N|auto",
      .help = "number of worker processes; auto: the CPUs that affinity and cgroup quota allow" },
    { .name = "admin", .group = GROUP_ADMIN, .kind = KIND_ADMIN, GLOBAL(admin),
      .preset = "off", .none_word = "off", .metavar = "ADDR",
      .help = "serve /metrics, /status, /healthz and /readyz here: 127.0.0.1:9901 or unix:/path" },
    { .name = "admin-host", .group = GROUP_ADMIN, .kind = KIND_HOST, GLOBAL(admin_host),
      .preset = "", .metavar = "NAME",
      .help = "additional Host header value the admin endpoint accepts, besides IP addresses and "
              "localhost" },
    { .name = "admin-token-file", .group = GROUP_ADMIN, .kind = KIND_TEXT,
      GLOBAL(admin_token_file), .preset = "", .metavar = "FILE",
      .help = "file containing the bearer token required for POST over TCP (not needed on a unix "
              "socket)" },
    { .name = "health", .group = GROUP_ADMIN, .kind = KIND_QUESTION, COMMAND,
      .action = CONFIG_HEALTH, .metavar = "ADDR",
      .help = "ask the doppel with this --admin address whether it is ready (/readyz), and exit: 0 "
              "yes, 1 no" },
    { .name = "drain-timeout", .group = GROUP_PROCESSES, .kind = KIND_TIME, GLOBAL(drain_timeout),
      .preset = "8s", .none_word = "off", .max = DAY, .metavar = "TIME",
      .help = "maximum time for open sessions to finish after TERM or INT; 0 or off: no limit" },
    { .name = "drain-delay", .group = GROUP_PROCESSES, .kind = KIND_TIME, GLOBAL(drain_delay),
      .preset = "0", .none_word = "off", .max = HOUR, .metavar = "TIME",
      .help = "after TERM, INT or QUIT keep accepting for this time while /readyz already fails" },
    { .name = "reload-timeout", .group = GROUP_PROCESSES, .kind = KIND_TIME,
      GLOBAL(reload_timeout), .preset = "off", .none_word = "off", .max = DAY, .metavar = "TIME",
      .help = "maximum time for old sessions to finish after a reload; 0 or off: no limit" },
    { .name = "pid-file", .group = GROUP_PROCESSES, .kind = KIND_TEXT, GLOBAL(pid_file),
      .preset = "", .metavar = "FILE",
      .help = "write the supervisor's process ID to this file" },
    { .name = "core", .group = GROUP_PROCESSES, .kind = KIND_SWITCH, GLOBAL(core), .preset = "off",
      .help = "allow core files and debuggers; they show what clients sent" },
    { .name = "user", .group = GROUP_PROCESSES, .kind = KIND_TEXT, GLOBAL(user), .preset = "",
      .metavar = "NAME",
      .help = "when started as root: become this user, by name or number, once everything is "
              "open" },
    { .name = "group", .group = GROUP_PROCESSES, .kind = KIND_TEXT, GLOBAL(group), .preset = "",
      .metavar = "NAME",
      .help = "with --user: become this group instead of the user's own" },
    { .name = "help", .short_name = 'h', .group = GROUP_PROCESSES, .kind = KIND_ACTION, COMMAND,
      .action = CONFIG_HELP_ALL, .letter_action = CONFIG_HELP,
      .help = "print the flags of a first use (-h) or all flags (--help)" },
    { .name = "version", .short_name = 'V', .group = GROUP_PROCESSES, .kind = KIND_ACTION, COMMAND,
      .action = CONFIG_VERSION,
      .help = "print the versions of doppel and its libraries" },

    { .name = "resolv-conf", .kind = KIND_TEXT, GLOBAL(resolv_conf), .preset = "",
      .metavar = "FILE", .hidden = true,
      .help = "instead of /etc/resolv.conf" },
    { .name = "hosts", .kind = KIND_TEXT, GLOBAL(hosts), .preset = "", .metavar = "FILE",
      .hidden = true,
      .help = "instead of /etc/hosts" },
    { .name = "sndbuf", .kind = KIND_SIZE, GLOBAL(sndbuf), .preset = "auto", .none_word = "auto",
      .max = GIB, .metavar = "SIZE", .hidden = true,
      .help = "SO_SNDBUF of every socket" },
    { .name = "rcvbuf", .kind = KIND_SIZE, GLOBAL(rcvbuf), .preset = "auto", .none_word = "auto",
      .max = GIB, .metavar = "SIZE", .hidden = true,
      .help = "SO_RCVBUF of every socket" },
    { .name = "help-markdown", .kind = KIND_ACTION, COMMAND, .action = CONFIG_TABLE, .hidden = true,
      .help = "print the flags as a table" },
};
/* clang-format on */

#define OPTION_COUNT (sizeof options / sizeof options[0])
_Static_assert(OPTION_COUNT <= OPTION_ROOM, "widen OPTION_ROOM");

/* Flags, variables and file keys of later versions. */
static const char *const withheld_names[] = {
    "compare",
    "record",
    "replay",
    "shadow-compare",
};

/* Keys of later versions in sections and queries. */
static const char *const withheld_keys[] = {
    "compare",
};

const struct option *option_at(size_t index)
{
    return index < OPTION_COUNT ? &options[index] : NULL;
}

size_t option_index(const struct option *option)
{
    return (size_t)(option - options);
}

static bool has_field(const struct option *option)
{
    return option->scope == SCOPE_GLOBAL || option->scope == SCOPE_SHADOW ||
           option->scope == SCOPE_TARGET;
}

const char *option_name(const struct option *option, enum option_place place)
{
    switch (place) {
    case PLACE_FLAG:
        return option->name;
    case PLACE_VARIABLE:
        return has_field(option) || option->kind == KIND_FILE ? option->name : NULL;
    case PLACE_FILE:
        return has_field(option) ? option->name : NULL;
    case PLACE_SECTION:
        return has_field(option) ? option->key : NULL;
    case PLACE_LISTEN_QUERY:
        return option->scope == SCOPE_LISTEN ? option->key : NULL;
    case PLACE_PRIMARY_QUERY:
        return option->scope == SCOPE_PRIMARY || option->scope == SCOPE_TARGET ? option->key : NULL;
    case PLACE_SHADOW_QUERY:
        return option->scope == SCOPE_SHADOW || option->scope == SCOPE_TARGET ? option->key : NULL;
    }
    return NULL;
}

static bool is_alias(const struct option *option, const char *name)
{
    for (size_t i = 0; i < 2 && option->aliases[i] != NULL; i++)
        if (strcmp(option->aliases[i], name) == 0)
            return true;
    return false;
}

const struct option *option_find(enum option_place place, const char *name)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const char *known = option_name(&options[i], place);
        if (known == NULL)
            continue;
        if (strcmp(known, name) == 0 || (place == PLACE_FLAG && is_alias(&options[i], name)))
            return &options[i];
    }
    return NULL;
}

const struct option *option_of_short_name(char letter)
{
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (options[i].short_name == letter && letter != '\0')
            return &options[i];
    return NULL;
}

static bool is_in(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return false;
}

bool option_is_withheld(enum option_place place, const char *name)
{
    if (place == PLACE_FLAG || place == PLACE_VARIABLE || place == PLACE_FILE)
        return is_in(withheld_names, sizeof withheld_names / sizeof withheld_names[0], name);
    return is_in(withheld_keys, sizeof withheld_keys / sizeof withheld_keys[0], name);
}

bool option_is_list(const struct option *option)
{
    return option->kind == KIND_LISTENS || option->kind == KIND_PRIMARIES ||
           option->kind == KIND_SHADOWS || option->kind == KIND_NETWORKS ||
           option->kind == KIND_SERVERS || option->kind == KIND_SOURCE ||
           option->kind == KIND_TEXTS;
}

bool option_is_addresses(const struct option *option)
{
    return option->kind == KIND_LISTENS || option->kind == KIND_PRIMARIES ||
           option->kind == KIND_SOCKET || option->kind == KIND_SHADOWS;
}

bool option_is_bare(const struct option *option)
{
    return option->kind == KIND_SWITCH || option->kind == KIND_SHORTHAND ||
           option->kind == KIND_ACTION;
}
