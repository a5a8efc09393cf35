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
#define MOST_SESSIONS 10000000

#define GLOBAL(member) .scope = SCOPE_GLOBAL, .field = offsetof(struct config, member)
#define SHADOW(member) .scope = SCOPE_SHADOW, .field = offsetof(struct shadow_config, member)
#define PRIMARY(member) .scope = SCOPE_PRIMARY, .field = offsetof(struct target_config, member)
#define LISTEN(member) .scope = SCOPE_LISTEN, .field = offsetof(struct listen_config, member)
#define TARGET(member) .scope = SCOPE_TARGET, .field = offsetof(struct target_config, member)
#define COMMAND        .scope = SCOPE_COMMAND

/* A row is to be seen at once; clang-format would give each member a line of its own. */
/* clang-format off */
static const struct option options[] = {
    { .name = "listen", .letter = 'l', .group = GROUP_LISTENING, .kind = KIND_LISTENS,
      GLOBAL(listens), .metavar = "ADDR",
      .help = "where clients connect: PORT, HOST:PORT, [IPv6]:PORT or unix:/path; repeatable; "
              "PORT alone is every address; tls://HOST:PORT terminates TLS; unix:/path?mode=0660 "
              "sets a socket's permissions; ?accept-proxy=on wants a PROXY header from each "
              "client" },
    { .key = "mode", .group = GROUP_LISTENING, .kind = KIND_MODE, LISTEN(mode), .initial = "0660",
      .most = 0777, .metavar = "MODE",
      .help = "permissions of a unix socket" },
    { .name = "allow", .group = GROUP_LISTENING, .kind = KIND_NETWORKS, GLOBAL(allow),
      .initial = "any", .nothing = "any", .metavar = "CIDR",
      .help = "accept only these clients; repeatable" },
    { .key = "accept-proxy", .group = GROUP_LISTENING, .kind = KIND_SWITCH, LISTEN(accept_proxy),
      .initial = "off", .metavar = "on|off",
      .help = "every client begins with a PROXY header, whose address counts" },
    { .name = "proxy-trust", .group = GROUP_LISTENING, .kind = KIND_NETWORKS, GLOBAL(proxy_trust),
      .initial = "none", .nothing = "none", .metavar = "CIDR",
      .help = "whose PROXY headers count on listeners with ?accept-proxy=on, which need it; others "
              "are reset there; repeatable" },
    { .name = "backlog", .group = GROUP_LISTENING, .kind = KIND_COUNT, GLOBAL(backlog),
      .initial = "4096", .least = 1, .most = 65535, .metavar = "N",
      .help = "connections the kernel may hold until they are accepted (it caps this itself)" },

    { .name = "primary", .aliases = { "relay" }, .letter = 'r', .group = GROUP_FORWARDING,
      .kind = KIND_PRIMARIES, GLOBAL(primaries), .metavar = "ADDR",
      .help = "who answers the client: HOST:PORT, [IPv6]:PORT, tls://HOST:PORT or unix:/path; "
              "several, with commas or repeated, are tried in order; original-dst: where the "
              "client was going before a firewall rule led it here; ?proxy=v1 or v2 puts a PROXY "
              "header in front; tls:// takes options such as ?ca=FILE, listed at the end of --help" },
    { .key = "proxy", .group = GROUP_FORWARDING, .kind = KIND_CHOICE, PRIMARY(proxy),
      .initial = "off", .choices = "off v1 v2", .metavar = "off|v1|v2",
      .help = "the primary gets a PROXY header first" },
    { .name = "socket", .letter = 's', .group = GROUP_FORWARDING, .kind = KIND_SOCKET,
      GLOBAL(primaries), .metavar = "PATH",
      .help = "the same as --primary unix:PATH, and it wins over --primary" },
    { .name = "allow-loop", .group = GROUP_FORWARDING, .kind = KIND_SWITCH, GLOBAL(allow_loop),
      .initial = "off",
      .help = "accept a target that is one of our own listeners" },
    { .name = "source", .group = GROUP_FORWARDING, .kind = KIND_SOURCE, GLOBAL(source),
      .initial = "auto", .nothing = "auto", .metavar = "IP",
      .help = "our own address to connect from, IPv4, IPv6, or one of each with a comma; source= in "
              "a target's address wins; auto: the kernel chooses" },
    { .key = "source", .group = GROUP_FORWARDING, .kind = KIND_SOURCE, PRIMARY(source),
      .initial = "auto", .nothing = "auto", .metavar = "IP",
      .help = "our own address to connect from" },
    { .name = "transparent", .group = GROUP_FORWARDING, .kind = KIND_SWITCH, GLOBAL(transparent),
      .initial = "off",
      .help = "connect to the primary from the client's address, and take what a TPROXY rule "
              "brings; needs CAP_NET_ADMIN, and routes that lead the answers back here" },

    { .name = "shadow", .aliases = { "duplex", "mirror" }, .key = "address", .letter = 'd',
      .group = GROUP_SHADOWS, .kind = KIND_SHADOWS, GLOBAL(shadows), .initial = "",
      .metavar = "LIST",
      .help = "who gets a copy: [NAME=]ADDRESS[?OPTION=VALUE&...], several with commas; "
              "repeatable; none makes a plain proxy" },
    { .name = "shadow-buffer", .key = "buffer", .group = GROUP_SHADOWS, .kind = KIND_SIZE,
      SHADOW(buffer), .initial = "16m", .least = 4 * KIB, .most = 4 * GIB, .metavar = "SIZE",
      .help = "how far a shadow may lag, per session; memory is taken only as it lags" },
    { .name = "shadow-memory", .group = GROUP_SHADOWS, .kind = KIND_SIZE, GLOBAL(shadow_memory),
      .initial = "256m", .least = 64 * KIB, .most = 1024 * GIB, .metavar = "SIZE",
      .help = "all shadow lag together, over all workers" },
    { .name = "shadow-overflow", .key = "overflow", .group = GROUP_SHADOWS, .kind = KIND_CHOICE,
      SHADOW(overflow), .initial = "detach", .choices = "detach block", .metavar = "detach|block",
      .help = "at that limit: detach cuts the shadow off, block makes the client wait" },
    { .name = "shadow-sample", .key = "sample", .group = GROUP_SHADOWS, .kind = KIND_PERCENT,
      SHADOW(sample), .initial = "100", .most = 100, .metavar = "PERCENT",
      .help = "share of the sessions that is mirrored" },
    { .name = "shadow-sample-by", .key = "by", .group = GROUP_SHADOWS, .kind = KIND_CHOICE,
      SHADOW(sample_by), .initial = "session", .choices = "session source",
      .metavar = "session|source",
      .help = "source mirrors always the same clients" },
    { .name = "sample-seed", .group = GROUP_SHADOWS, .kind = KIND_COUNT, GLOBAL(sample_seed),
      .initial = "name", .nothing = "name", .least = 1, .most = 1000000000000000000,
      .metavar = "N|name",
      .help = "samples by source with the same seed choose the same clients everywhere; name: each "
              "shadow's name is its seed" },
    { .name = "shadow-ramp", .key = "ramp", .group = GROUP_SHADOWS, .kind = KIND_TIME, SHADOW(ramp),
      .initial = "off", .nothing = "off", .most = 14 * DAY, .metavar = "TIME",
      .help = "a shadow's share grows from 0 to its sample for so long after the start" },
    { .name = "shadow-for", .key = "for", .group = GROUP_SHADOWS, .kind = KIND_TIME,
      SHADOW(duration), .initial = "off", .nothing = "off", .most = 14 * DAY, .metavar = "TIME",
      .help = "a shadow pauses by itself so long after the start" },
    { .name = "shadow-rate", .key = "rate", .group = GROUP_SHADOWS, .kind = KIND_COUNT, SHADOW(rate),
      .initial = "off", .nothing = "off", .most = 1000000, .metavar = "N|off",
      .help = "sessions mirrored anew in a second, over all workers; those of a quiet second may "
              "come at once" },
    { .name = "shadow-max-bytes", .key = "max-bytes", .group = GROUP_SHADOWS, .kind = KIND_SIZE,
      SHADOW(max_bytes), .initial = "off", .nothing = "off", .most = 1024 * GIB, .metavar = "SIZE",
      .help = "mirror only the first bytes of a session, then end it for the shadow" },
    { .name = "shadow-greeting", .key = "greeting", .group = GROUP_SHADOWS, .kind = KIND_TIME,
      SHADOW(greeting), .initial = "off", .nothing = "off", .most = HOUR, .metavar = "TIME",
      .help = "wait so long for a shadow to speak first, as SMTP servers do, before it gets a byte" },
    { .name = "shadow-max-sessions", .key = "max-sessions", .group = GROUP_SHADOWS,
      .kind = KIND_COUNT, SHADOW(max_sessions), .initial = "10000", .least = 1,
      .most = MOST_SESSIONS, .metavar = "N",
      .help = "sessions mirrored at the same time" },
    { .name = "shadow-from", .key = "from", .group = GROUP_SHADOWS, .kind = KIND_NETWORKS,
      SHADOW(from), .initial = "any", .nothing = "any", .metavar = "CIDR",
      .help = "mirror only these clients; repeatable" },
    { .name = "shadow-connect-on", .key = "connect-on", .group = GROUP_SHADOWS, .kind = KIND_CHOICE,
      SHADOW(connect_on), .initial = "data", .choices = "start data", .metavar = "start|data",
      .help = "data dials a shadow at the first byte of the client" },
    { .name = "shadow-connect-timeout", .key = "connect-timeout", .group = GROUP_SHADOWS,
      .kind = KIND_TIME, SHADOW(connect_timeout), .initial = "2s", .least = 1, .most = HOUR,
      .metavar = "TIME",
      .help = "how long a shadow may take to answer" },
    { .name = "shadow-stall-timeout", .key = "stall-timeout", .group = GROUP_SHADOWS,
      .kind = KIND_TIME, SHADOW(stall_timeout), .initial = "30s", .nothing = "off", .most = DAY,
      .metavar = "TIME",
      .help = "without progress for this long it is detached; 0 or off: never" },
    { .name = "shadow-linger", .key = "linger", .group = GROUP_SHADOWS, .kind = KIND_TIME,
      SHADOW(linger), .initial = "5s", .most = HOUR, .metavar = "TIME",
      .help = "how long a shadow may still take its bytes after the client has gone" },
    { .name = "shadow-breaker", .key = "breaker", .group = GROUP_SHADOWS, .kind = KIND_BREAKER,
      SHADOW(breaker), .initial = "5/10s", .nothing = "off", .least = 1, .most = 1000,
      .metavar = "N/TIME",
      .help = "after N failures in a row to reach a shadow no session is mirrored to it for TIME, "
              "doubling with each probe that fails; not with overflow=block" },
    { .name = "shadow-source", .key = "source", .group = GROUP_SHADOWS, .kind = KIND_SOURCE,
      SHADOW(target.source), .initial = "auto", .nothing = "auto", .metavar = "IP",
      .help = "our own address to connect from to a shadow; auto: that of --source" },
    { .name = "shadow-proxy", .key = "proxy", .group = GROUP_SHADOWS, .kind = KIND_CHOICE,
      SHADOW(target.proxy), .initial = "off", .choices = "off v1 v2", .metavar = "off|v1|v2",
      .help = "a shadow gets a PROXY header first; v2 also says that it is a copy, and of which "
              "session" },

    { .name = "tls-cert", .group = GROUP_TLS, .kind = KIND_TEXTS, GLOBAL(tls_certs), .initial = "",
      .nothing = "", .metavar = "FILE",
      .help = "certificate chain of tls:// listeners, in PEM, with its key or without; repeatable: "
              "the name that the client asks for (SNI) chooses, and for others the first one "
              "serves; a name may have one for each kind of key (RSA, ECDSA)" },
    { .name = "tls-key", .group = GROUP_TLS, .kind = KIND_TEXTS, GLOBAL(tls_keys), .initial = "",
      .nothing = "", .metavar = "FILE",
      .help = "its private key, when it is not in the same file; repeatable: one for each "
              "--tls-cert, in the same order" },
    { .name = "tls-key-passphrase-file", .group = GROUP_TLS, .kind = KIND_TEXT,
      GLOBAL(tls_key_passphrase_file), .initial = "", .metavar = "FILE",
      .help = "its first line opens encrypted private keys" },
    { .name = "tls-min", .group = GROUP_TLS, .kind = KIND_CHOICE, GLOBAL(tls_min), .initial = "1.2",
      .choices = "1.2 1.3", .metavar = "1.2|1.3",
      .help = "the oldest version of TLS that clients may speak" },
    { .name = "tls-ciphers", .group = GROUP_TLS, .kind = KIND_TEXT, GLOBAL(tls_ciphers),
      .initial = "ECDHE+AESGCM:ECDHE+CHACHA20", .metavar = "LIST",
      .help = "cipher suites for clients, in OpenSSL's words; TLS_... names are those of TLS 1.3" },
    { .name = "tls-alpn", .group = GROUP_TLS, .kind = KIND_TEXTS, GLOBAL(tls_alpn), .initial = "",
      .nothing = "", .metavar = "LIST",
      .help = "protocols that clients may choose from (ALPN), the best one first, as in "
              "h2,http/1.1: only what the primary and every shadow speak; empty: ALPN is ignored" },
    { .name = "tls-client-ca", .group = GROUP_TLS, .kind = KIND_TEXT, GLOBAL(tls_client_ca),
      .initial = "", .metavar = "FILE",
      .help = "authorities of client certificates, in PEM; empty: clients are asked for none" },
    { .name = "tls-client-auth", .group = GROUP_TLS, .kind = KIND_CHOICE, GLOBAL(tls_client_auth),
      .initial = "required", .choices = "required optional", .metavar = "required|optional",
      .help = "with --tls-client-ca: optional lets clients without a certificate in, too" },
    { .name = "tls-strict-eof", .group = GROUP_TLS, .kind = KIND_SWITCH, GLOBAL(tls_strict_eof),
      .initial = "off",
      .help = "treat a TLS connection that ends without close_notify as broken off" },
    { .name = "tls-ktls", .group = GROUP_TLS, .kind = KIND_SWITCH, GLOBAL(tls_ktls),
      .initial = "off",
      .help = "let the kernel encrypt and decrypt records, with clients and targets, where it can" },
    { .key = "verify", .group = GROUP_TLS, .kind = KIND_SWITCH, TARGET(verify), .initial = "on",
      .metavar = "on|off",
      .help = "a tls:// target must show a certificate that is good, and for its host or sni" },
    { .key = "ca", .group = GROUP_TLS, .kind = KIND_TEXT, TARGET(ca), .initial = "",
      .metavar = "FILE",
      .help = "who may have signed it, in PEM; empty: the system's authorities" },
    { .key = "sni", .group = GROUP_TLS, .kind = KIND_HOST, TARGET(sni), .initial = "",
      .metavar = "NAME",
      .help = "the name to ask for, which the certificate must be for; empty: ask for the client's "
              "name, or for the host" },
    { .key = "alpn", .group = GROUP_TLS, .kind = KIND_TEXTS, TARGET(alpn), .initial = "",
      .nothing = "", .metavar = "LIST",
      .help = "protocols to offer (ALPN); empty: what was chosen with the client" },
    { .key = "cert", .group = GROUP_TLS, .kind = KIND_TEXT, TARGET(cert), .initial = "",
      .metavar = "FILE",
      .help = "our own certificate for this target, in PEM" },
    { .key = "key", .group = GROUP_TLS, .kind = KIND_TEXT, TARGET(key), .initial = "",
      .metavar = "FILE",
      .help = "its private key, when it is not in the same file" },

    { .name = "resolver", .group = GROUP_NAMES, .kind = KIND_SERVERS, GLOBAL(resolvers),
      .initial = "auto", .nothing = "auto", .metavar = "IP[:PORT]",
      .help = "the name servers to ask, several with commas; auto: those of /etc/resolv.conf, "
              "whose changes are noticed" },
    { .name = "dns-family", .group = GROUP_NAMES, .kind = KIND_CHOICE, GLOBAL(dns_family),
      .initial = "any", .choices = "any ipv4 ipv6", .metavar = "any|ipv4|ipv6",
      .help = "which addresses of a name are used; any: IPv4 first, then IPv6" },
    { .name = "ipv4", .letter = '4', .group = GROUP_NAMES, .kind = KIND_SHORTHAND, COMMAND,
      .says = "dns-family", .initial = "ipv4",
      .help = "the same as --dns-family ipv4" },
    { .name = "ipv6", .letter = '6', .group = GROUP_NAMES, .kind = KIND_SHORTHAND, COMMAND,
      .says = "dns-family", .initial = "ipv6",
      .help = "the same as --dns-family ipv6" },
    { .name = "dns-timeout", .group = GROUP_NAMES, .kind = KIND_TIME, GLOBAL(dns_timeout),
      .initial = "2s", .least = 10, .most = MINUTE, .metavar = "TIME",
      .help = "how long a lookup may take, with all its tries and servers" },
    { .name = "dns-ttl-min", .group = GROUP_NAMES, .kind = KIND_TIME, GLOBAL(dns_ttl_min),
      .initial = "1s", .least = 10, .most = HOUR, .metavar = "TIME",
      .help = "an answer is kept at least this long, whatever its TTL; wins over --dns-ttl-max" },
    { .name = "dns-ttl-max", .group = GROUP_NAMES, .kind = KIND_TIME, GLOBAL(dns_ttl_max),
      .initial = "1h", .least = 10, .most = 7 * DAY, .metavar = "TIME",
      .help = "an answer is kept at most this long, whatever its TTL" },
    { .name = "dns-stale", .group = GROUP_NAMES, .kind = KIND_TIME, GLOBAL(dns_stale),
      .initial = "10m", .nothing = "off", .most = 7 * DAY, .metavar = "TIME",
      .help = "how long the last answer still serves when a newer one cannot be had; 0 or off: not "
              "at all" },

    { .name = "max-sessions", .group = GROUP_LIMITS, .kind = KIND_COUNT, GLOBAL(max_sessions),
      .initial = "auto", .nothing = "auto", .most = MOST_SESSIONS, .metavar = "N|auto",
      .help = "sessions at the same time, over all workers; at the limit accepting pauses; auto "
              "follows from ulimit -n" },
    { .name = "max-sessions-per-source", .group = GROUP_LIMITS, .kind = KIND_COUNT,
      GLOBAL(max_sessions_per_source), .initial = "off", .nothing = "off", .most = MOST_SESSIONS,
      .metavar = "N|off",
      .help = "sessions of one client address at the same time (IPv6: of its /64); more are reset" },
    { .name = "buffer", .group = GROUP_LIMITS, .kind = KIND_SIZE, GLOBAL(buffer), .initial = "256k",
      .least = 4 * KIB, .most = GIB, .metavar = "SIZE",
      .help = "kept between client and primary, each direction, before the sender has to wait" },
    { .name = "io", .group = GROUP_LIMITS, .kind = KIND_CHOICE, GLOBAL(io), .initial = "auto",
      .choices = "auto copy splice", .metavar = "auto|copy|splice",
      .help = "how bytes are moved: copy through memory; splice inside the kernel, between sockets "
              "without TLS; auto splices where much comes at once" },
    { .name = "connect-timeout", .group = GROUP_LIMITS, .kind = KIND_TIME, GLOBAL(connect_timeout),
      .initial = "5s", .least = 1, .most = HOUR, .metavar = "TIME",
      .help = "how long the primary may take to answer, per address" },
    { .name = "handshake-timeout", .group = GROUP_LIMITS, .kind = KIND_TIME,
      GLOBAL(handshake_timeout), .initial = "10s", .least = 1, .most = HOUR, .metavar = "TIME",
      .help = "how long a client may take to send its PROXY header, and again for its "
              "TLS handshake" },
    { .name = "max-handshakes", .group = GROUP_LIMITS, .kind = KIND_COUNT, GLOBAL(max_handshakes),
      .initial = "1024", .least = 1, .most = MOST_SESSIONS, .metavar = "N",
      .help = "TLS handshakes of clients at the same time, over all workers; further ones wait, and "
              "no address (IPv6: no /64) keeps the others waiting" },
    { .name = "idle-timeout", .group = GROUP_LIMITS, .kind = KIND_TIME, GLOBAL(idle_timeout),
      .initial = "1h", .nothing = "off", .most = 14 * DAY, .metavar = "TIME",
      .help = "ends a session when both directions are quiet; 0 or off: never" },
    { .name = "half-close-timeout", .group = GROUP_LIMITS, .kind = KIND_TIME,
      GLOBAL(half_close_timeout), .initial = "5m", .nothing = "off", .most = 14 * DAY,
      .metavar = "TIME",
      .help = "ends a session when one direction has ended and the other is quiet; 0 or off: "
              "never" },
    { .name = "tcp-user-timeout", .group = GROUP_LIMITS, .kind = KIND_TIME,
      GLOBAL(tcp_user_timeout), .initial = "0", .nothing = "off", .most = HOUR, .metavar = "TIME",
      .help = "TCP_USER_TIMEOUT towards client and primary: it also kills live peers that read "
              "slowly; keepalive is always on" },

    { .name = "verbose", .letter = 'v', .group = GROUP_LOGS, .kind = KIND_SHORTHAND, COMMAND,
      .says = "log-level", .initial = "debug",
      .help = "the same as --log-level debug: events and byte counts, never payload; -vv too" },
    { .name = "quiet", .letter = 'q', .group = GROUP_LOGS, .kind = KIND_SHORTHAND, COMMAND,
      .says = "log-level", .initial = "warning",
      .help = "the same as --log-level warning" },
    { .name = "log-level", .group = GROUP_LOGS, .kind = KIND_CHOICE, GLOBAL(log_level),
      .initial = "info", .choices = "error warning info debug", .metavar = "LEVEL",
      .help = "error, warning, info or debug" },
    { .name = "log-format", .group = GROUP_LOGS, .kind = KIND_CHOICE, GLOBAL(log_format),
      .initial = "text", .choices = "text json", .metavar = "text|json",
      .help = "how log lines look" },
    { .name = "log-file", .group = GROUP_LOGS, .kind = KIND_TEXT, GLOBAL(log_file), .initial = "-",
      .least = 1, .metavar = "FILE|-",
      .help = "where log lines go; - is stderr" },
    { .name = "access-log", .group = GROUP_LOGS, .kind = KIND_TEXT, GLOBAL(access_log),
      .initial = "-", .least = 1, .metavar = "FILE|-|off",
      .help = "one line for each session; - is stdout" },
    { .name = "access-format", .group = GROUP_LOGS, .kind = KIND_CHOICE, GLOBAL(access_format),
      .initial = "json", .choices = "text json", .metavar = "json|text",
      .help = "how the lines of the access log look" },

    { .name = "config", .letter = 'c', .group = GROUP_OPERATING, .kind = KIND_FILE, COMMAND,
      .initial = "", .metavar = "FILE",
      .help = "read this file; environment and flags win over it" },
    { .name = "check", .letter = 't', .group = GROUP_OPERATING, .kind = KIND_ACTION, COMMAND,
      .action = CONFIG_CHECK,
      .help = "check everything, print the configuration in effect, and exit" },
    { .name = "workers", .letter = 'w', .group = GROUP_OPERATING, .kind = KIND_WORKERS,
      GLOBAL(workers), .initial = "auto", .least = 1, .most = 256, .metavar = "N|auto",
      .help = "worker processes; auto: the CPUs that affinity and cgroup quota leave us" },
    { .name = "admin", .group = GROUP_OPERATING, .kind = KIND_ADMIN, GLOBAL(admin),
      .initial = "off", .nothing = "off", .metavar = "ADDR",
      .help = "answer /metrics, /status, /healthz and /readyz there: 127.0.0.1:9901 or "
              "unix:/path" },
    { .name = "admin-host", .group = GROUP_OPERATING, .kind = KIND_HOST, GLOBAL(admin_host),
      .initial = "", .metavar = "NAME",
      .help = "a name that the admin endpoint may be asked by, beside IP addresses and localhost" },
    { .name = "admin-token-file", .group = GROUP_OPERATING, .kind = KIND_TEXT,
      GLOBAL(admin_token_file), .initial = "", .metavar = "FILE",
      .help = "its line is the token that a POST over TCP needs; a unix socket needs none" },
    { .name = "health", .group = GROUP_OPERATING, .kind = KIND_QUESTION, COMMAND,
      .action = CONFIG_HEALTH, .metavar = "ADDR",
      .help = "ask the doppel that has this --admin address whether it is ready (/readyz), and exit: "
              "0 yes, 1 no" },
    { .name = "drain-timeout", .group = GROUP_OPERATING, .kind = KIND_TIME, GLOBAL(drain_timeout),
      .initial = "8s", .nothing = "off", .most = DAY, .metavar = "TIME",
      .help = "how long open sessions may still last after TERM or INT; 0 or off: without limit" },
    { .name = "drain-delay", .group = GROUP_OPERATING, .kind = KIND_TIME, GLOBAL(drain_delay),
      .initial = "0", .nothing = "off", .most = HOUR, .metavar = "TIME",
      .help = "after TERM, INT or QUIT go on accepting this long, with /readyz red already, before "
              "draining begins" },
    { .name = "reload-timeout", .group = GROUP_OPERATING, .kind = KIND_TIME,
      GLOBAL(reload_timeout), .initial = "off", .nothing = "off", .most = DAY, .metavar = "TIME",
      .help = "how long sessions may still last after a reload; 0 or off: until they end" },
    { .name = "pid-file", .group = GROUP_OPERATING, .kind = KIND_TEXT, GLOBAL(pid_file),
      .initial = "", .metavar = "FILE",
      .help = "write the supervisor's process id there" },
    { .name = "user", .group = GROUP_OPERATING, .kind = KIND_TEXT, GLOBAL(user), .initial = "",
      .metavar = "NAME",
      .help = "when started as root: become this user, by name or number, once everything is open" },
    { .name = "group", .group = GROUP_OPERATING, .kind = KIND_TEXT, GLOBAL(group), .initial = "",
      .metavar = "NAME",
      .help = "with --user: become this group instead of the user's own" },
    { .name = "help", .letter = 'h', .group = GROUP_OPERATING, .kind = KIND_ACTION, COMMAND,
      .action = CONFIG_HELP,
      .help = "print this text" },
    { .name = "version", .letter = 'V', .group = GROUP_OPERATING, .kind = KIND_ACTION, COMMAND,
      .action = CONFIG_VERSION,
      .help = "print our version and those of the libraries" },

    { .name = "resolv-conf", .kind = KIND_TEXT, GLOBAL(resolv_conf), .initial = "",
      .metavar = "FILE", .hidden = true,
      .help = "instead of /etc/resolv.conf" },
    { .name = "hosts", .kind = KIND_TEXT, GLOBAL(hosts), .initial = "", .metavar = "FILE",
      .hidden = true,
      .help = "instead of /etc/hosts" },
    { .name = "sndbuf", .kind = KIND_SIZE, GLOBAL(sndbuf), .initial = "auto", .nothing = "auto",
      .most = GIB, .metavar = "SIZE", .hidden = true,
      .help = "SO_SNDBUF of every socket" },
    { .name = "rcvbuf", .kind = KIND_SIZE, GLOBAL(rcvbuf), .initial = "auto", .nothing = "auto",
      .most = GIB, .metavar = "SIZE", .hidden = true,
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

const struct option *option_of_letter(char letter)
{
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (options[i].letter == letter && letter != '\0')
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
