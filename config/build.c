/*
 * build.c — precedence, defaults, sections, and what must be true of the whole.
 *
 *     defaults, then file, environment, flags: each overwrites what it says
 *     shadow-X ──▶ the default shadow ──copied into──▶ each shadow, then its own query or section
 *
 * A list is replaced as a whole by the first word of a stronger source.  Every word is read, also
 * one that is overruled later: a mistake does not wait for the day when the flag goes away.
 */
#include "config/build.h"

#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/fault.h"
#include "config/addresses.h"
#include "config/config.h"
#include "config/conflicts.h"
#include "config/effects.h"
#include "config/lists.h"
#include "config/options.h"
#include "config/settings.h"
#include "config/value.h"

struct build {
    const struct settings  *settings;
    struct config          *config;
    struct shadow_config    defaults;          /* of every shadow */
    bool                    said[OPTION_ROOM]; /* by the source, or in the section, being read */
    struct config_warnings *warnings;
    struct fault           *fault;
};

static bool blame(const struct build *build, const char *place, const struct fault *why)
{
    return fault_set(build->fault, "%.300s: %s", place, why->text);
}

static void *base_of(struct build *build, const struct option *option)
{
    if (option->scope == SCOPE_SHADOW)
        return &build->defaults;
    return option->scope == SCOPE_GLOBAL ? build->config : NULL;
}

/* The table's defaults are texts like any other; the table's test reads them all. */
static void set_defaults(struct build *build)
{
    const struct option *option;
    struct fault why;

    for (size_t i = 0; (option = option_at(i)) != NULL; i++) {
        void *base = base_of(build, option);
        if (base == NULL || option_is_addresses(option) || option->preset == NULL)
            continue;
        if (!value_set(option, base, option->preset, &why))
            die(1, "the default of %s: %s", option->name, why.text);
    }
}

/* ---- what is said once for all */

static bool set_socket(struct build *build, const struct setting *setting, struct fault *why)
{
    char *address = addresses_of_path(setting->text);
    addresses_free_primaries(build->config);
    bool fine = addresses_add_primaries(build->config, address, why);

    free(address);
    return fine;
}

static bool apply_value(struct build *build, const struct setting *setting, bool is_first,
                        struct fault *why)
{
    const struct option *option = setting->option;
    void *base = base_of(build, option);

    if (base == NULL)
        return true;
    return is_first ? value_set(option, base, setting->text, why)
                    : value_add(option, base, setting->text, why);
}

static bool apply(struct build *build, const struct setting *setting)
{
    bool is_first = !build->said[option_index(setting->option)];
    struct fault why;
    bool fine = true;

    build->said[option_index(setting->option)] = true;
    if (setting->option->kind == KIND_LISTENS) {
        if (is_first)
            addresses_free_listens(build->config);
        fine = addresses_add_listens(build->config, setting->text, &why);
    } else if (setting->option->kind == KIND_PRIMARIES) {
        if (is_first)
            addresses_free_primaries(build->config);
        fine = addresses_add_primaries(build->config, setting->text, &why);
    } else if (!option_is_addresses(setting->option)) {
        fine = apply_value(build, setting, is_first, &why);
    }
    return fine || blame(build, setting->place, &why);
}

static void forget_said(struct build *build)
{
    memset(build->said, 0, sizeof build->said);
}

static bool apply_source(struct build *build, enum source source)
{
    forget_said(build);
    for (size_t i = 0; i < build->settings->count; i++) {
        const struct setting *setting = &build->settings->items[i];
        if (setting->source == source && setting->section == 0 && !apply(build, setting))
            return false;
    }
    return true;
}

/* -s is another way to say -r: the stronger source wins, and in one source the socket. */
static bool choose_primary(struct build *build)
{
    const struct setting *socket = settings_last(build->settings, "socket");
    const struct setting *primary = settings_last(build->settings, "primary");
    struct fault why;

    if (socket == NULL || (primary != NULL && primary->source > socket->source))
        return true;
    if (!set_socket(build, socket, &why))
        return blame(build, socket->place, &why);
    if (primary != NULL)
        settings_warn(build->warnings, "%.300s wins over %.300s; leave one of them out",
                      socket->place, primary->place);
    return true;
}

/* ---- shadows */

static struct shadow_config *last_shadow(struct build *build)
{
    return &build->config->shadows[build->config->shadow_count - 1];
}

static bool open_section(struct build *build, const struct setting *setting, struct fault *why)
{
    forget_said(build);
    return addresses_add_section(build->config, &build->defaults, setting->text, why) != NULL;
}

static bool apply_in_section(struct build *build, const struct setting *setting, struct fault *why)
{
    const struct option *option = setting->option;
    struct shadow_config *shadow = last_shadow(build);
    void *base = option->scope == SCOPE_TARGET ? (void *)&shadow->target : shadow;
    bool is_first = !build->said[option_index(option)];

    build->said[option_index(option)] = true;
    if (option->kind == KIND_SHADOWS)
        return addresses_set_target(&shadow->target, setting->text, why);
    return is_first ? value_set(option, base, setting->text, why)
                    : value_add(option, base, setting->text, why);
}

static bool apply_shadow(struct build *build, const struct setting *setting)
{
    struct fault why;
    bool fine;

    if (setting->heads)
        fine = open_section(build, setting, &why);
    else if (setting->section != 0)
        fine = apply_in_section(build, setting, &why);
    else
        fine = addresses_add_shadows(build->config, &build->defaults, setting->text, &why);
    return fine || blame(build, setting->place, &why);
}

/* A section that ended without the line that matters. */
static bool sections_are_complete(const struct build *build)
{
    const struct setting *head = NULL;
    bool has_address = true;

    for (size_t i = 0; i <= build->settings->count; i++) {
        const struct setting *setting =
            i < build->settings->count ? &build->settings->items[i] : NULL;
        if (!has_address && (setting == NULL || setting->heads))
            return fault_set(build->fault,
                             "%.300s: [shadow %s] has no address; write address = HOST:PORT",
                             head->place, head->text);
        if (setting == NULL)
            break;
        if (setting->heads) {
            head = setting;
            has_address = false;
        } else if (setting->section != 0 && setting->option->kind == KIND_SHADOWS) {
            has_address = true;
        }
    }
    return true;
}

static bool apply_shadows(struct build *build, enum source source)
{
    bool is_first = true;

    for (size_t i = 0; i < build->settings->count; i++) {
        const struct setting *setting = &build->settings->items[i];
        bool is_shadow = setting->option->kind == KIND_SHADOWS || setting->section != 0;
        if (setting->source != source || !is_shadow)
            continue;
        if (is_first)
            addresses_free_shadows(build->config);
        is_first = false;
        if (!apply_shadow(build, setting))
            return false;
    }
    return true;
}

/* ---- the whole */

/* A client on a unix socket was going nowhere else, and has no address to keep. */
static bool clients_have_addresses(const struct build *build, const char *flag)
{
    const struct config *config = build->config;

    for (size_t i = 0; i < config->listen_count; i++)
        if (config->listens[i].endpoint.kind == ENDPOINT_UNIX)
            return fault_set(build->fault,
                             "%s: clients of the unix socket \"%s\" have no addresses; listen on "
                             "a port instead",
                             flag, config->listens[i].name);
    return true;
}

static bool original_is_possible(const struct build *build)
{
    const struct config *config = build->config;
    bool is_wanted = false;

    for (size_t i = 0; i < config->primary_count; i++)
        is_wanted |= config->primaries[i].endpoint.kind == ENDPOINT_ORIGINAL;
    if (!is_wanted)
        return true;
    if (config->primary_count > 1)
        return fault_set(build->fault, "--primary: original-dst is every primary; leave the "
                                       "others out");
    return clients_have_addresses(build, "--primary original-dst");
}

static bool transparent_is_possible(const struct build *build)
{
    const struct config *config = build->config;

    for (size_t i = 0; config->transparent && i < config->primary_count; i++) {
        const struct target_config *primary = &config->primaries[i];
        if (primary->endpoint.kind == ENDPOINT_UNIX)
            return fault_set(build->fault,
                             "--transparent: the primary \"%s\" is a unix socket, where clients "
                             "have no addresses; give it a port",
                             primary->name);
        if (primary->source.v4.length != 0 || primary->source.v6.length != 0)
            return fault_set(build->fault,
                             "--transparent: the primary \"%s\" has a source of its own; leave "
                             "one of them out",
                             primary->name);
    }
    return !config->transparent || clients_have_addresses(build, "--transparent");
}

/* ---- TLS */

static bool listeners_have_certificates(const struct build *build)
{
    const struct config *config = build->config;

    for (size_t i = 0; i < config->listen_count; i++)
        if (config->listens[i].endpoint.tls && config->tls_certs.count == 0)
            return fault_set(build->fault,
                             "--listen %.200s needs a certificate; say --tls-cert FILE",
                             config->listens[i].name);
    if (config->tls_keys.count != 0 && config->tls_keys.count != config->tls_certs.count)
        return fault_set(build->fault,
                         "there are %zu --tls-key for %zu --tls-cert; give one for each, or none "
                         "when the keys are in the same files",
                         config->tls_keys.count, config->tls_certs.count);
    return true;
}

/* Who says that clients must show a certificate is not to be left without one being asked for. */
static bool clients_can_be_verified(const struct build *build)
{
    const struct setting *auth = settings_last(build->settings, "tls-client-auth");

    if (auth == NULL || settings_last(build->settings, "tls-client-ca") != NULL)
        return true;
    return fault_set(build->fault,
                     "%.300s: there is nothing to verify certificates with; say --tls-client-ca "
                     "FILE, too",
                     auth->place);
}

static bool target_fits(const struct build *build, const char *flag,
                        const struct target_config *target)
{
    const struct option *option;

    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (option->scope == SCOPE_TARGET && option->group == GROUP_TLS && !target->endpoint.tls &&
            !value_is_default(option, target))
            return fault_set(build->fault,
                             "%s: %s of \"%.200s\" is for tls:// targets only; leave it out, or "
                             "write tls:// in front",
                             flag, option->key, target->name);
    if (target->key != NULL && target->cert == NULL)
        return fault_set(build->fault,
                         "%s: key of \"%.200s\" is without its cert; say cert=FILE, too", flag,
                         target->name);
    return true;
}

static bool targets_fit(const struct build *build)
{
    const struct config *config = build->config;

    for (size_t i = 0; i < config->primary_count; i++)
        if (!target_fits(build, "--primary", &config->primaries[i]))
            return false;
    for (size_t i = 0; i < config->shadow_count; i++)
        if (!target_fits(build, "--shadow", &config->shadows[i].target))
            return false;
    return true;
}

/* Believing everybody is never a default: it would let each client choose its address. */
static bool headers_are_trusted(const struct build *build)
{
    const struct config *config = build->config;

    for (size_t i = 0; i < config->listen_count && config->proxy_trust.count == 0; i++) {
        const struct listen_config *listen = &config->listens[i];
        if (listen->accept_proxy && listen->endpoint.kind != ENDPOINT_UNIX)
            return fault_set(build->fault,
                             "--listen: accept-proxy of \"%s\" needs --proxy-trust; "
                             "say whose headers count, as in --proxy-trust 10.0.0.0/8",
                             listen->name);
    }
    return true;
}

static bool is_complete(const struct build *build)
{
    if (build->config->listen_count == 0)
        return fault_set(build->fault,
                         "--listen is missing; say where clients connect, as in -l 8080");
    if (build->config->primary_count == 0)
        return fault_set(build->fault,
                         "--primary is missing; say who answers, as in -r localhost:8081");
    return conflicts_check(build->config, build->fault) && headers_are_trusted(build) &&
           listeners_have_certificates(build) && clients_can_be_verified(build) &&
           targets_fit(build) && original_is_possible(build) && transparent_is_possible(build);
}

static bool build_all(struct build *build)
{
    set_defaults(build);
    if (!sections_are_complete(build))
        return false;
    for (enum source source = SOURCE_FILE; source <= SOURCE_FLAG; source++)
        if (!apply_source(build, source))
            return false;
    if (!choose_primary(build))
        return false;
    for (enum source source = SOURCE_FILE; source <= SOURCE_FLAG; source++)
        if (!apply_shadows(build, source))
            return false;
    if (!is_complete(build))
        return false;
    effects_warn(build->config, &build->defaults, build->warnings);
    return true;
}

struct config *config_build(const struct settings *settings, struct config_warnings *warnings,
                            struct fault *fault)
{
    struct build build = {
        .settings = settings,
        .config = xcalloc(1, sizeof *build.config),
        .warnings = warnings,
        .fault = fault,
    };

    bool fine = build_all(&build);
    free(build.defaults.from.networks);
    if (fine)
        return build.config;
    config_free(build.config);
    return NULL;
}

void config_free(struct config *config)
{
    const struct option *option;

    if (config == NULL)
        return;
    addresses_free_listens(config);
    addresses_free_primaries(config);
    addresses_free_shadows(config);
    for (size_t i = 0; (option = option_at(i)) != NULL; i++)
        if (option->scope == SCOPE_GLOBAL && !option_is_addresses(option))
            value_free(option, config);
    lists_free_texts(&config->files);
    free(config);
}

struct log_options config_log_options(const struct config *config)
{
    return (struct log_options){
        .level = config->log_level,
        .format = config->log_format,
        .file = config->log_file,
        .access_file = config->access_log,
        .access_format = config->access_format,
    };
}
