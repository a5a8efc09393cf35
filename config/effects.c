/*
 * effects.c — each option that depends on another one, and on what.
 */
#include "config/effects.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "config/config.h"
#include "config/options.h"
#include "config/settings.h"
#include "config/value.h"

/* --- what there is ----------------------------------------------------------------------- */

static bool has_tls_listener(const struct config *config)
{
    for (size_t i = 0; i < config->listen_count; i++)
        if (config->listens[i].endpoint.tls)
            return true;
    return false;
}

static bool wants_headers(const struct config *config)
{
    for (size_t i = 0; i < config->listen_count; i++)
        if (config->listens[i].accept_proxy)
            return true;
    return false;
}

static bool has_opening_clients(const struct config *config)
{
    return has_tls_listener(config) || wants_headers(config);
}

static bool has_client_addresses(const struct config *config)
{
    for (size_t i = 0; i < config->listen_count; i++)
        if (config->listens[i].endpoint.kind != ENDPOINT_UNIX)
            return true;
    return wants_headers(config);
}

/* Whether this is true of one target at least. */
static bool any_target(const struct config *config, bool (*is_so)(const struct target_config *))
{
    for (size_t i = 0; i < config->primary_count; i++)
        if (is_so(&config->primaries[i]))
            return true;
    for (size_t i = 0; i < config->shadow_count; i++)
        if (is_so(&config->shadows[i].target))
            return true;
    return false;
}

static bool speaks_tls(const struct target_config *target) { return target->endpoint.tls; }

static bool has_cert(const struct target_config *target) { return target->cert != NULL; }

static bool has_port(const struct target_config *target)
{
    return target->endpoint.kind != ENDPOINT_UNIX;
}

static bool has_tls(const struct config *config)
{
    return has_tls_listener(config) || any_target(config, speaks_tls);
}

static bool has_keys(const struct config *config)
{
    return config->tls_certs.count > 0 || any_target(config, has_cert);
}

static bool has_port_target(const struct config *config) { return any_target(config, has_port); }

static bool has_shadow(const struct config *config) { return config->shadow_count > 0; }

static bool has_sample_by_source(const struct config *config)
{
    for (size_t i = 0; i < config->shadow_count; i++)
        if (config->shadows[i].sample_by == SAMPLE_BY_SOURCE)
            return true;
    return false;
}

static bool has_tcp_admin(const struct config *config)
{
    return config->admin_on && config->admin.kind != ENDPOINT_UNIX;
}

static bool has_access_log(const struct config *config)
{
    return strcmp(config->access_log, "off") != 0;
}

/* Suites of TLS 1.3 have names of their own, which begin with TLS_. */
static bool has_fitting_ciphers(const struct config *config)
{
    return config->tls_min == TLS_MIN_12 || config->tls_ciphers == NULL ||
           strstr(config->tls_ciphers, "TLS_") != NULL;
}

/* --- what needs it ----------------------------------------------------------------------- */

#define NO_TLS_LISTENER                                                                            \
    has_tls_listener, "there is no tls:// listener; write tls:// in front of an address of "       \
                      "--listen"
#define NO_CLIENT_ADDRESSES                                                                        \
    has_client_addresses,                                                                          \
        "clients of unix sockets have no addresses, and there is no other listener"
#define NO_TCP_ADMIN                                                                               \
    has_tcp_admin, "it is for an admin endpoint over TCP, and there is none; see --admin"
#define NO_TLS    has_tls, "there is neither a tls:// listener nor a tls:// target"
#define NO_SHADOW has_shadow, "there is no shadow; see --shadow"

static const struct {
    const char *name;
    bool (*has_effect)(const struct config *);
    const char *why_not;
} dependent[] = {
    { "tls-cert", NO_TLS_LISTENER },
    { "tls-min", NO_TLS_LISTENER },
    { "tls-ciphers", NO_TLS_LISTENER },
    { "tls-ciphers", has_fitting_ciphers,
      "with --tls-min 1.3 only suites of TLS 1.3 count, whose names begin with TLS_" },
    { "tls-alpn", NO_TLS_LISTENER },
    { "tls-client-ca", NO_TLS_LISTENER },
    { "max-handshakes", NO_TLS_LISTENER },
    { "tls-key-passphrase-file", has_keys, "there is no key; see --tls-cert" },
    { "tls-strict-eof", NO_TLS },
    { "tls-ktls", NO_TLS },
    { "handshake-timeout", has_opening_clients,
      "there is no listener with TLS or with PROXY headers" },
    { "proxy-trust", wants_headers,
      "there is no listener with accept-proxy=on; write ?accept-proxy=on behind an address of "
      "--listen" },
    { "allow", NO_CLIENT_ADDRESSES },
    { "max-sessions-per-source", NO_CLIENT_ADDRESSES },
    { "source", has_port_target, "all targets are unix sockets" },
    { "shadow-memory", NO_SHADOW },
    { "sample-seed", has_sample_by_source, "there is no shadow with by=source" },
    { "access-format", has_access_log, "--access-log is off" },
    { "admin-host", NO_TCP_ADMIN },
    { "admin-token-file", NO_TCP_ADMIN },
};

static void warn(struct config_warnings *warnings, const char *name, const char *why_not)
{
    settings_warn(warnings, "--%s has no effect: %s", name, why_not);
}

static void warn_of_dependent(const struct config *config, struct config_warnings *warnings)
{
    for (size_t i = 0; i < sizeof dependent / sizeof dependent[0]; i++) {
        const struct option *option = option_find(PLACE_FLAG, dependent[i].name);

        if (!dependent[i].has_effect(config) && !value_is_default(option, config))
            warn(warnings, dependent[i].name, dependent[i].why_not);
    }
}

static void warn_without_shadows(const struct shadow_config *defaults,
                                 struct config_warnings    *warnings)
{
    const struct option *option;

    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (option->scope == SCOPE_SHADOW && !value_is_default(option, defaults))
            warn(warnings, option->name, "there is no shadow; see --shadow");
}

/* --- one target, one shadow -------------------------------------------------------------- */

static void warn_of_target(const struct target_config *target, struct config_warnings *warnings)
{
    if (!target->verify && target->ca != NULL)
        settings_warn(warnings, "ca= of \"%.200s\" has no effect: verify is off", target->name);
}

static void warn_of_primary(const struct target_config *primary, struct config_warnings *warnings)
{
    warn_of_target(primary, warnings);
    if (!has_port(primary) && (primary->source.v4.length > 0 || primary->source.v6.length > 0))
        settings_warn(warnings, "source= of \"%.200s\" has no effect: it is a unix socket",
                      primary->name);
}

static bool same_breaker(const struct shadow_config *a, const struct shadow_config *b)
{
    return a->breaker.failures == b->breaker.failures && a->breaker.seconds == b->breaker.seconds;
}

/* What all shadows are told by default may be meant for others. */
static void warn_of_shadow(const struct shadow_config *shadow, const struct shadow_config *defaults,
                           struct config_warnings *warnings)
{
    warn_of_target(&shadow->target, warnings);
    if (shadow->overflow == SHADOW_BLOCK && shadow->breaker.failures > 0 &&
        !same_breaker(shadow, defaults))
        settings_warn(warnings,
                      "shadow %s: breaker= has no effect: with overflow=block every "
                      "session is mirrored",
                      shadow->name);
    /* When the client has gone a shadow is cut after its linger, greeted or not. */
    if (shadow->greeting > 0 && shadow->greeting >= shadow->linger)
        settings_warn(warnings,
                      "shadow %s: its greeting time is not below its linger time, so a short "
                      "session may end before it gets a byte; raise linger=",
                      shadow->name);
}

void effects_warn(const struct config *config, const struct shadow_config *defaults,
                  struct config_warnings *warnings)
{
    warn_of_dependent(config, warnings);
    if (config->shadow_count == 0)
        warn_without_shadows(defaults, warnings);
    for (size_t i = 0; i < config->primary_count; i++)
        warn_of_primary(&config->primaries[i], warnings);
    for (size_t i = 0; i < config->shadow_count; i++)
        warn_of_shadow(&config->shadows[i], defaults, warnings);
}
